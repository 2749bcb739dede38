"""Prove to a command on this machine that it speaks to the gateway of its data directory.

The command must not send a secret to whatever listens at the address in `roxy.lock`: from another
network namespace, such as that of a container whose volume is used from outside, this can be
another program. So it first sends a challenge, which only who knows the secret of the commands can
answer.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

CHALLENGE_HEADER = "X-Roxy-Challenge"
PROOF_HEADER = "X-Roxy-Proof"
CHALLENGE_CHARS = 64


def make_challenge() -> str:
    """Return a challenge that was never used before."""
    return secrets.token_hex(CHALLENGE_CHARS // 2)


def proof_of(digest: bytes, challenge: str) -> str:
    """Return the answer of a gateway, which knows the digest of the secret, to a challenge."""
    return hmac.new(digest, b"roxy gateway " + challenge.encode(), hashlib.sha256).hexdigest()


def is_proof(answer: str, digest: bytes, challenge: str) -> bool:
    """Return whether this is the answer to a challenge."""
    return hmac.compare_digest(answer.encode(), proof_of(digest, challenge).encode())
