"""The Lua scripts, each with the functions of `account.lua` in front of it."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from msgspec import Struct

PLACE = "server.accounting.redis_counters"
SHARED_PART = "account"


class Script(Struct, frozen=True):
    """A script's name, its text, and the digest by which EVALSHA names it."""

    name: str
    text: str
    digest: str


def read_script(name: str) -> Script:
    """Read one script of this package."""
    parts = [(files(PLACE) / f"{part}.lua").read_text("utf-8") for part in (SHARED_PART, name)]
    text = "\n".join(parts)
    # SHA-1 is what EVALSHA takes (redis.io/commands/evalsha); nothing secret depends on it.
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


TAKE = read_script("take")
SETTLE = read_script("settle")
GIVE_BACK = read_script("give_back")
RENEW = read_script("renew")
SEED = read_script("seed")
STANDING = read_script("standing")
BEAT = read_script("beat")
SCRIPTS = (TAKE, SETTLE, GIVE_BACK, RENEW, SEED, STANDING, BEAT)
