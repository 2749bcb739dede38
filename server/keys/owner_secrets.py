"""The owner key, and the secret with which `roxy` commands on this machine act as the owner.

Only their hashes are stored and held in memory. `KeyRing.owner` is the only one of a process.
"""

from __future__ import annotations

import hmac

from server.keys.command_proof import proof_of
from server.keys.secret import digest_of, make_secret
from server.store.store import OWNER_META, Store

COMMAND_META = "command_sha256"


class OwnerSecrets:
    """The digests of both; b"" where there is none."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._owner = b""
        self._command = b""

    async def load(self) -> None:
        """Read both from the store, once, at start."""
        self._owner = await self._store.load_meta(OWNER_META) or b""
        self._command = await self._store.load_meta(COMMAND_META) or b""

    async def compare(self) -> None:
        """Read the owner key again, after changes may have been missed."""
        self._owner = await self._store.load_meta(OWNER_META) or self._owner

    def take_over(self, digest: bytes) -> None:
        """Take over the owner key that another process has set."""
        self._owner = digest

    def is_owner(self, secret: str) -> bool:
        """Return whether this is the owner key."""
        return self.is_owner_digest(digest_of(secret))

    def is_command(self, secret: str) -> bool:
        """Return whether this is the secret of the commands on this machine, in constant time."""
        return hmac.compare_digest(digest_of(secret), self._command)

    def prove(self, challenge: str) -> str:
        """Return the answer to the challenge of a command, "" where there are no commands."""
        return proof_of(self._command, challenge) if self._command else ""

    def is_owner_digest(self, digest: bytes) -> bool:
        """Return whether this is the digest of the current owner key, in constant time."""
        return hmac.compare_digest(digest, self._owner)

    @property
    def has_owner(self) -> bool:
        """Return whether an owner key is stored, as it is from the end of the first start on."""
        return self._owner != b""

    async def set_owner(self, secret: str | None) -> str | None:
        """Store the owner key at start; None keeps the stored one, or makes one when there is none.

        Return the secret that was made, to be printed once, else None. Whether a chosen one is
        strong enough is checked where it is read (`server/config/owner_key.py`).
        """
        if secret is not None:
            digest = digest_of(secret)
            if digest != self._owner:
                await self._store.put_meta(OWNER_META, digest)
                self._owner = digest
            return None
        if self._owner:
            return None
        made = make_secret()
        digest = digest_of(made)
        self._owner = await self._store.put_meta_if_absent(OWNER_META, digest)
        return made if self._owner == digest else None

    async def make_command_secret(self) -> str:
        """Return a new secret with which `roxy` commands act as the owner; the last one ends.

        Call it before other processes load the keys. It is for those who can write to the data
        directory, and so could replace the owner key. Nothing but its hash is stored.
        """
        secret = make_secret()
        self._command = digest_of(secret)
        await self._store.put_meta(COMMAND_META, self._command)
        return secret
