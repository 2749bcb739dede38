"""Ids of requests: made here, or the client's own if it is safe to log."""

from __future__ import annotations

import os
import re
import secrets

from server.keys.secret import without_secrets

SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{7,63}")


TAG_CHARS = "0123456789abcdefghijklmnopqrstuvwxyz"
TAG_LENGTH = 4
OWN_ID = re.compile(rf"req_([0-9a-z]{{{TAG_LENGTH}}})[0-9a-f]{{24}}")


def new_process_tag() -> str:
    """Return a tag for the ids of one process: 1.7 million different ones."""
    return "".join(secrets.choice(TAG_CHARS) for _ in range(TAG_LENGTH))


def new_request_id(tag: str = "0" * TAG_LENGTH) -> str:
    """Return a new id that cannot be guessed; it names the process by its tag."""
    return f"req_{tag}{os.urandom(12).hex()}"


def process_tag_of(request_id: str) -> str | None:
    """Return the tag of the process that has made an id, or None for an id of another form."""
    found = OWN_ID.fullmatch(request_id)
    return found.group(1) if found is not None else None


def client_request_id(offered: str | None) -> str | None:
    """Return a client's `X-Request-Id` if it is 8 to 64 of `A-Za-z0-9._:-` and holds no secret.

    Ids of the form of those made here are not taken: they would name a process that has no such
    request.
    """
    safe = (
        offered is not None
        and SAFE_ID.fullmatch(offered)
        and OWN_ID.fullmatch(offered) is None
        and without_secrets(offered) == offered
    )
    return offered if safe else None
