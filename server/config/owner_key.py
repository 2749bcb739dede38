"""The rules for an owner key that somebody chooses in ROXY_ADMIN_API_KEY."""

from __future__ import annotations

MIN_LENGTH = 16
MIN_DISTINCT_CHARACTERS = 6
PLACEHOLDERS = (
    "changeme",
    "placeholder",
    "yourkey",
    "youradminkey",
    "yourownerkey",
    "ownerkeyhere",
)
"""Texts that examples put in the place of a key, in lower case and without punctuation."""


def find_fault(key: str) -> str | None:
    """Return what is wrong with a chosen owner key, to follow the variable's name, or None.

    The text never repeats the key.
    """
    if len(key) < MIN_LENGTH:
        return (
            f"must have at least {MIN_LENGTH} characters, but has {len(key)};"
            " unset it to have a strong one generated and printed once"
        )
    letters = "".join(filter(str.isalnum, key.lower()))
    is_placeholder = any(word in letters for word in PLACEHOLDERS)
    if len(set(key)) < MIN_DISTINCT_CHARACTERS or is_placeholder:
        return "is easily guessed; unset it to have a strong one generated and printed once"
    if not key.isascii() or not key.isprintable() or " " in key:
        # Clients send it in a header, where other bytes are cut, recoded or refused.
        return "must be ASCII without spaces or line breaks, because clients send it in a header"
    return None
