"""Request ids: made here, or the client's own when it is safe to log and not in use."""

from __future__ import annotations

import os
import re

from server.keys.secret import without_secrets

SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{7,63}")


def new_request_id() -> str:
    """Make an id that cannot be guessed."""
    return "req_" + os.urandom(12).hex()


def client_request_id(offered: str | None) -> str | None:
    """Accept a client's `x-request-id` if it is plain: 8 to 64 of `A-Za-z0-9._:-`, no key."""
    safe = (
        offered is not None and SAFE_ID.fullmatch(offered) and without_secrets(offered) == offered
    )
    return offered if safe else None
