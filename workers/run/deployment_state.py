"""Whether a deployment may be used now: it is ready, cools down, or is probed after that.

    ready ── a stated wait, or repeated failures ──> cooling ── its time is over ──> probing
      ^                                                 ^                              │
      └──────── successes have doubled the probes ──────┼────────── a failure ─────────┘

- A rejection with a wait (429, 503 with Retry-After) cools the deployment for that wait, a 429
  without one for `FIRST_LIMITED_S`, doubled each time. A wait extends the time and never shortens
  it.
- `FAILURES_IN_A_ROW` failures, or failures in half of the `NEWEST_ATTEMPTS`, cool it for
  `FIRST_COOLDOWN_S`, doubled each time it fails again while it is probed.
- A refused secret and an empty account put it aside for `ASIDE_S`. A certificate that is not valid
  cools it at once, as repeated failures do.
- Afterwards one request is let through; each success doubles how many may run at the same time.

A request can provoke a failure: one that crashes its model, one that makes it think until a clock
runs out. So failures of one lane alone (a key, or all guests) never cool a deployment for others:
it is *barred* for that lane, for as long as it would cool, and then gets one request of it at a
time. Two lanes, the owner, or connections that cannot be made are proof enough.

The upstream's judgement of one request (an invalid or moderated prompt) is no failure: it shows
that the upstream works. So does a fault of the demo upstream, which fails only where a request
asks for it. The end of an attempt that began before the last change says nothing new,
except for a wait that it states.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Literal, NamedTuple

from msgspec import Struct

from workers.catalog.catalog import Deployment
from workers.errors import (
    GatewayError,
    OwnFault,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from workers.units import HOUR_S

DeploymentWord = Literal["ready", "cooling", "probing"]
Fault = Literal["none", "unknown", "failure", "limited", "aside"]

FAILURES_IN_A_ROW = 5
NEWEST_ATTEMPTS = 20
"""How many of the newest attempts count for the share of failures."""
MIN_ATTEMPTS = 10
"""With fewer attempts than this, no share of failures cools a deployment."""
OTHER_FAILURES = 2
"""So many failures of others than one lane prove, beside those of that lane, a fault for all."""
FIRST_COOLDOWN_S = 5.0
MAX_COOLDOWN_S = 120.0
FIRST_LIMITED_S = 1.0
MAX_LIMITED_S = 60.0
ASIDE_S = 600.0
ASIDE_FAULTS = ("credentials", "credit")
"""Faults with which no request can succeed before the owner acts: the secret, and the account."""
MAX_WAIT_S = float(HOUR_S)
"""The longest wait that an upstream can ask for."""
JITTER = 0.2
"""Up to this share is added to a cooldown, so that gateways do not come back together."""

FAULTS: tuple[tuple[type[GatewayError], Fault], ...] = (
    (UpstreamRejected, "none"),
    (UpstreamRateLimited, "limited"),
    (UpstreamError, "failure"),
    (GatewayError, "unknown"),
)
"""What an attempt's error says about its deployment; the first row that fits counts."""


def fault_of(error: GatewayError) -> Fault:
    """Return what an attempt's error says about its deployment."""
    fault = next(fault for kind, fault in FAULTS if isinstance(error, kind))
    if fault == "failure":
        if isinstance(error, UpstreamError) and error.own_fault in ASIDE_FAULTS:
            return "aside"
        if error.retry_after_s is not None:
            return "limited"
        if isinstance(error, UpstreamTimeout) and error.clock == "total":
            return "unknown"  # a long answer, which the upstream was still sending
    return fault


class Cause(NamedTuple):
    """Why a deployment cools: what an error said, without the error and what hangs on it.

    `limited`: it is a stated wait or a rate limit, not a failure.
    """

    code: str
    message: str
    own_fault: OwnFault
    rate_limited: bool
    limited: bool

    @property
    def reason(self) -> str:
        """Return the deployment's own fault, else the error code."""
        return self.own_fault or self.code


def cause_of(error: GatewayError) -> Cause:
    """Return what is kept of the error that a deployment cools for."""
    own_fault: OwnFault = error.own_fault if isinstance(error, UpstreamError) else ""
    rate_limited = isinstance(error, UpstreamRateLimited)
    limited = fault_of(error) == "limited"
    return Cause(error.own_code, error.message, own_fault, rate_limited, limited)


class LastFailure(Struct, frozen=True):
    """How the last request to a deployment has failed, for the owner.

    `at` is the Unix time. `reason` is the deployment's own fault, or the error code. `status` is
    that of the upstream's rejection, null: there was none. `message` has the upstream's own words
    or what went wrong with the connection, null: nothing is known.
    """

    at: float
    reason: str
    status: int | None
    message: str | None


class Bar:
    """A deployment that one lane may not use until a time, because it alone has failed there."""

    __slots__ = ("busy", "cause", "strikes", "until")

    def __init__(self) -> None:
        self.busy = 0
        self.strikes = 0
        self.until = 0.0
        self.cause: Cause | None = None


class DeploymentReport(Struct, frozen=True):
    """Whether a deployment is used now; `cooling_s` is 0 unless it cools, `reason` why it does.

    `busy` is how many attempts it carries, `limit` how many it may, `failures` those in a row.
    `last_failure` is None after a success.
    """

    id: str
    state: DeploymentWord
    reason: str | None
    cooling_s: float
    failures: int
    busy: int
    limit: int
    last_failure: LastFailure | None = None


class DeploymentState:
    """The state of one deployment. Times are those of the caller's clock, in seconds.

    `busy` is how many attempts it carries now, `limit` how many it may. `cause` is why it cools, or
    cooled last, and None while it is ready.
    """

    __slots__ = (
        "_failures_of",
        "_newest",
        "_probes",
        "_strikes",
        "bars",
        "busy",
        "cause",
        "cooling_until",
        "deployment",
        "epoch",
        "failures",
        "last_failure",
        "limit",
        "word",
    )

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.word: DeploymentWord = "ready"
        self.busy = 0
        self.cooling_until = 0.0
        self.cause: Cause | None = None
        self.failures = 0
        self.last_failure: LastFailure | None = None
        self.limit = deployment.max_concurrency
        self.epoch = 0
        self._probes = 0
        self._strikes = 0
        self._newest: deque[str | None] = deque(maxlen=NEWEST_ATTEMPTS)
        """The lanes of the newest attempts that have failed, None for one that was answered."""
        self._failures_of: dict[str, int] = {}
        """How many of the failures in a row are of which lane."""
        self.bars: dict[str, Bar] = {}

    def adopt(self, deployment: Deployment) -> None:
        """Serve a deployment of a new configuration, which may have other bounds."""
        if self.word == "ready":
            self.limit = deployment.max_concurrency
        self.deployment = deployment

    @property
    def has_room(self) -> bool:
        """True if an attempt may begin now."""
        if self.busy >= self.deployment.max_concurrency:
            return False
        return self.word == "ready" or (self.word == "probing" and self._probes < self.limit)

    def is_barred(self, lane: str, now: float) -> bool:
        """Return whether a lane may not begin an attempt now, whatever the room."""
        bar = self.bars.get(lane)
        return bar is not None and (bar.busy > 0 or now < bar.until)

    def wait_s(self, now: float, lane: str = "") -> float:
        """Return how long it still cools; 0: it may be used as soon as it has room."""
        if self.word == "cooling":
            return max(self.cooling_until - now, 0.0)
        bar = self.bars.get(lane)
        return max(bar.until - now, 0.0) if bar is not None else 0.0

    def is_failing(self, now: float, lane: str = "") -> bool:
        """Return whether it cools although it was probed: who waits for it waits in vain."""
        if self.word == "cooling":
            limited = self.cause is not None and self.cause.limited
            return self._strikes > 1 and not limited
        bar = self.bars.get(lane)
        return bar is not None and bar.strikes > 1 and now < bar.until

    def take(self) -> int:
        """Occupy a slot; return the epoch, which `give_back` and the notes get again."""
        self.busy += 1
        self._probes += 1
        return self.epoch

    def give_back(self, epoch: int) -> None:
        """Free a slot."""
        self.busy -= 1
        if epoch == self.epoch:
            self._probes -= 1

    def note_content(self, epoch: int) -> bool:
        """Record that an attempt is being answered; return whether more may begin now."""
        if epoch != self.epoch or self.word != "probing":
            return False
        self.limit *= 2
        if self.limit >= self.deployment.max_concurrency:
            self.limit = self.deployment.max_concurrency
            self.word, self.cause = "ready", None
            self._strikes = 0
            self._forget_failures()
        return True

    def note_success(self, epoch: int, lane: str = "") -> None:
        """Record that an attempt was answered to its end."""
        self.bars.pop(lane, None)
        self.last_failure = None
        if epoch == self.epoch:
            self.failures = 0
            self._failures_of.clear()
            self._newest.append(None)

    def note_error(self, error: GatewayError, epoch: int, now: float, lane: str = "") -> bool:
        """Record how an attempt of a lane has failed; return whether it begins to cool.

        "" is a lane whose failures count for all.
        """
        if self.deployment.demo:  # it fails only where a request asks for it, so others go on
            return False
        fault = fault_of(error)
        if fault == "none":
            self.note_success(epoch, lane)
            return False
        stale = epoch != self.epoch and error.retry_after_s is None and fault != "aside"
        if fault == "unknown" or stale:
            return False
        if fault == "failure":
            if isinstance(error, UpstreamError) and not error.reached:
                lane = ""
            self.failures += 1
            self._failures_of[lane] = self._failures_of.get(lane, 0) + 1
            self._newest.append(lane)
            if not self._trips(lane) and cause_of(error).own_fault != "certificate":
                return False
            if self._is_of_one(lane, now):
                self._bar(lane, error, now)
                return False
        wait_s = self._cooldown_s(error, fault)
        if self.word == "cooling":
            if now + wait_s > self.cooling_until and (error.retry_after_s or fault == "aside"):
                self.cooling_until, self.cause = now + wait_s, cause_of(error)
            return False
        self._strikes += 1
        self.word, self.cause, self.cooling_until = "cooling", cause_of(error), now + wait_s
        self.epoch += 1
        self._probes = 0
        self._failures_of.clear()
        self._newest.clear()
        self.bars.clear()
        return True

    def keep_failure(self, error: GatewayError, at: float) -> None:
        """Keep how an attempt has failed, for the owner, if that is about the deployment."""
        if isinstance(error, UpstreamError) and fault_of(error) not in ("none", "unknown"):
            status, message = error.upstream_status or None, error.details or None
            self.last_failure = LastFailure(at, error.own_reason, status, message)

    def probe(self) -> None:
        """Allow one attempt at a time: the time to cool is over."""
        self.word = "probing"
        self.limit = 1
        self.epoch += 1
        self._probes = 0

    def _trips(self, lane: str) -> bool:
        """Return whether the newest failure, of this lane, is one too many."""
        if self.word == "probing" or self.failures >= FAILURES_IN_A_ROW or lane in self.bars:
            return True
        newest = self._newest
        answered = newest.count(None)
        return len(newest) >= MIN_ATTEMPTS and answered * 2 <= len(newest)

    def _is_of_one(self, lane: str, now: float) -> bool:
        """Return whether too few failures are of others than this lane to prove a fault for all."""
        if not lane or any(name != lane and now < bar.until for name, bar in self.bars.items()):
            return False
        in_row = sum(count for name, count in self._failures_of.items() if name != lane)
        of_others = sum(name is not None and name != lane for name in self._newest)
        return max(in_row, of_others) < OTHER_FAILURES

    def _bar(self, lane: str, error: GatewayError, now: float) -> None:
        """Keep a lane away for some time, and forget its failures."""
        self.bars = {name: one for name, one in self.bars.items() if now < one.until + ASIDE_S}
        bar = self.bars.setdefault(lane, Bar())
        wait_s = min(FIRST_COOLDOWN_S * 2 ** min(bar.strikes, 16), MAX_COOLDOWN_S)
        bar.strikes += 1
        bar.until = now + wait_s * random.uniform(1.0, 1.0 + JITTER)
        bar.cause = cause_of(error)
        self.failures -= self._failures_of.pop(lane, 0)
        kept = [name for name in self._newest if name != lane]
        self._newest = deque(kept, maxlen=NEWEST_ATTEMPTS)

    def _forget_failures(self) -> None:
        self.failures = 0
        self._failures_of.clear()
        self._newest.clear()
        self.bars.clear()

    def _cooldown_s(self, error: GatewayError, fault: Fault) -> float:
        if fault == "aside":
            return max(ASIDE_S, error.retry_after_s or 0.0)
        if error.retry_after_s is not None:
            return min(error.retry_after_s, MAX_WAIT_S)
        limited = fault == "limited"
        first_s = FIRST_LIMITED_S if limited else FIRST_COOLDOWN_S
        max_s = MAX_LIMITED_S if limited else MAX_COOLDOWN_S
        wait_s: float = min(first_s * 2 ** min(self._strikes, 16), max_s)
        return wait_s * random.uniform(1.0, 1.0 + JITTER)


class Slot:
    """A slot of one deployment that one attempt occupies; `free` gives it back."""

    __slots__ = ("_bar", "_free", "content_noted", "epoch", "lane", "state")

    def __init__(self, state: DeploymentState, lane: str = "") -> None:
        self.state = state
        self.lane = lane
        self.epoch = state.take()
        """The epoch of the state in which the attempt began."""
        self._free = False
        self._bar = state.bars.get(lane)
        if self._bar is not None:
            self._bar.busy += 1
        self.content_noted = False

    @property
    def deployment(self) -> Deployment:
        """Return the deployment."""
        return self.state.deployment

    def free(self) -> None:
        """Free the slot; idempotent."""
        if not self._free:
            self._free = True
            if self._bar is not None:
                self._bar.busy -= 1
            self.state.give_back(self.epoch)
