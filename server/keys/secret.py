"""Generate, check, shorten and hash the secrets of keys.

A secret is `roxy_`, 32 characters of base62 from the operating system, and the CRC-32 of those 37
characters in 6 characters of base62. The checksum distinguishes a mistyped key from an unknown one
without a look-up, and secret scanners can match `roxy_[0-9A-Za-z]{38}`. Only the SHA-256 is kept.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib

PREFIX = "roxy_"
RANDOM_LENGTH = 32
CHECK_LENGTH = 6
SECRET_LENGTH = len(PREFIX) + RANDOM_LENGTH + CHECK_LENGTH

INVITED = re.compile(r"(?<=/invite/)[^/?#\s]+")
"""The token of an invitation in a path: whoever has it can sign in."""
IN_TEXT = re.compile(r"roxy(?:_|%5[Ff])[0-9A-Za-z]{38}")
"""A secret inside another text, such as a URL, where the underscore may be percent-encoded."""

BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def make_secret() -> str:
    """Generate a secret with 190 bits of randomness from the operating system."""
    body = PREFIX + _random(RANDOM_LENGTH)
    return body + _checksum(body)


def make_token() -> str:
    """Generate the token of a link, with 256 bits of randomness."""
    return secrets.token_urlsafe(32)


def make_key_id() -> str:
    """Generate a key id: public, safe to log, never reused."""
    return "key_" + _random(16)


def well_formed(secret: str) -> bool:
    """Return whether prefix, length and checksum are those of a secret made here."""
    if len(secret) != SECRET_LENGTH or not secret.startswith(PREFIX) or not secret.isascii():
        return False
    body = secret[:-CHECK_LENGTH]
    return secret[-CHECK_LENGTH:] == _checksum(body)


def digest_of(secret: str) -> bytes:
    """Return the SHA-256 under which a secret is stored and looked up."""
    # "surrogatepass": any string has a digest, even lone surrogates of bytes that are not UTF-8.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def redact(secret: str) -> str:
    """Shorten a secret for display, as in `roxy_ab12…wxyz`."""
    return f"{secret[: len(PREFIX) + 4]}…{secret[-4:]}"


def without_secrets(text: str) -> str:
    """Replace everything that looks like a secret in a text."""
    if "/invite/" in text:
        text = INVITED.sub("***", text)
    return IN_TEXT.sub("roxy_***", text) if PREFIX[:-1] in text else text


def _random(length: int) -> str:
    return "".join(secrets.choice(BASE62) for _ in range(length))


def _checksum(body: str) -> str:
    rest, digits = zlib.crc32(body.encode()), ""  # 32 bits fit into 6 digits: 62**6 > 2**35
    for _ in range(CHECK_LENGTH):
        rest, digit = divmod(rest, 62)
        digits = BASE62[digit] + digits
    return digits
