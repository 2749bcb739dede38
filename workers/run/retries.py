"""When a job is tried again: which deployments it has tried, and how much extra load is allowed.

Another deployment is always allowed, once each: it gets the load that the first one is spared. The
same deployment is tried a second time only where the first attempt was certainly not processed,
after a pause, and within a budget per model. So an upstream that fails gets at most
`EXTRA_LOAD` more requests than its clients send, not twice as many.
"""

from __future__ import annotations

import random

from workers.errors import (
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamUnavailable,
)

EXTRA_LOAD = 0.2
"""The share of a model's requests that may be tried again on the same deployment."""
FIRST_TOKENS = 2.0
MAX_TOKENS = 10.0
BACK_OFF_S = 0.5
"""The longest pause before the same deployment is tried again; the shortest is half of it."""


class RetryBudget:
    """Tokens for second attempts: each request of the model adds `EXTRA_LOAD` of one."""

    def __init__(self) -> None:
        self.tokens = FIRST_TOKENS

    def note_request(self) -> None:
        """Add to the budget for one request."""
        if self.tokens < MAX_TOKENS:
            self.tokens += EXTRA_LOAD

    def take(self) -> bool:
        """Take one token; False: there is none."""
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class Tries:
    """The deployments that one job has tried in vain, and when one may be tried again.

    `again` is set once a second attempt is granted; it is used up by the attempt. `only`: no other
    deployment may be tried.
    """

    __slots__ = ("_only", "_repeatable", "_tried", "again", "not_before", "repeated")

    def __init__(self, only: str = "") -> None:
        self._only = only
        self._tried: set[str] = set()
        self._repeatable: set[str] = set()
        self.again = False
        self.repeated = False
        self.not_before = 0.0

    @property
    def repeatable(self) -> bool:
        """True if a deployment could be tried a second time, and none was."""
        return not self.repeated and bool(self._repeatable)

    def note_failure(self, deployment_id: str, *, repeatable: bool) -> None:
        """Record that an attempt has failed; `repeatable`: it was certainly not processed."""
        if deployment_id not in self._tried and repeatable:
            self._repeatable.add(deployment_id)
        self._tried.add(deployment_id)

    def grant(self, now: float) -> None:
        """Allow a second attempt, after a pause."""
        self.again = True
        self.not_before = now + random.uniform(BACK_OFF_S / 2, BACK_OFF_S)

    def note_attempt(self, deployment_id: str) -> None:
        """Record that an attempt begins."""
        if deployment_id in self._tried:
            self.repeated, self.again = True, False

    def wait_s(self, deployment_id: str, now: float) -> float | None:
        """Return when this deployment may be tried from now; None: not (again)."""
        if self._only and deployment_id != self._only:
            return None
        if deployment_id not in self._tried:
            return 0.0
        if self.again and deployment_id in self._repeatable:
            return max(self.not_before - now, 0.0)
        return None


def is_repeatable(error: UpstreamError, *, reached: bool) -> bool:
    """Return whether the same deployment may get the request again.

    A POST must not be repeated when it may have been processed (RFC 9110, section 9.2.2): only one
    that found no connection, or that the upstream has put off.
    """
    if error.own_fault:
        return False
    if isinstance(error, UpstreamRateLimited | UpstreamOverloaded):
        return True
    if error.retry_after_s is not None:
        return True
    return isinstance(error, UpstreamUnavailable) and not reached
