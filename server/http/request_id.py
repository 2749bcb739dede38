"""Ids of requests: made here, or the client's own if it is safe to log."""

from __future__ import annotations

import os
import re

from server.keys.secret import without_secrets

SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{7,63}")


def new_request_id() -> str:
    """Return a new id that cannot be guessed."""
    return "req_" + os.urandom(12).hex()


def client_request_id(offered: str | None) -> str | None:
    """Return a client's `X-Request-Id` if it is 8 to 64 of `A-Za-z0-9._:-` and holds no secret."""
    safe = (
        offered is not None and SAFE_ID.fullmatch(offered) and without_secrets(offered) == offered
    )
    return offered if safe else None
