"""Which deployments are tried for a job, in which order, and which are left alone for a while.

Lower `order` first; among equals a random draw by `weight`. A deployment that cools down or has no
free slot is skipped; see `workers.run.deployment_state`. Each change of a deployment's state is
logged once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence

from workers.catalog.catalog import Deployment, Model
from workers.errors import (
    GatewayError,
    NoDeployment,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamUnavailable,
)
from workers.run.deployment_state import (
    DeploymentReport,
    DeploymentState,
    DeploymentWord,
    Slot,
    fault_of,
)
from workers.run.retries import Tries

log = logging.getLogger("roxy.workers")

COOLING = (
    "The upstreams of this model are failing and are not used for a moment. Try again later or"
    " choose another model."
)
NO_TRIES = Tries()
WORDS = {"ready": "used again", "probing": "tried with one request"}


class Routing:
    """Choose deployments, and keep the state of each. `close` stops its timers.

    `on_change` is called when a deployment begins to cool, may be probed, or is ready again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._states: dict[str, DeploymentState] = {}
        self._live: dict[str, tuple[Model, tuple[Deployment, ...]]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._bar_timers: set[asyncio.TimerHandle] = set()
        self.on_change: Callable[[DeploymentState], None] = lambda _state: None

    def now(self) -> float:
        """Return the time by which deployments cool, in seconds."""
        return self._clock()

    def state(self, deployment: Deployment) -> DeploymentState:
        """Return the state of a deployment."""
        state = self._states.get(deployment.id)
        if state is None:
            state = self._states[deployment.id] = DeploymentState(deployment)
        return state

    def report(self, deployment: Deployment) -> DeploymentReport:
        """Return whether a deployment is used now, and why not."""
        state = self.state(deployment)
        cause = state.cause if state.word != "ready" else None
        limits = {"ready": deployment.max_concurrency, "probing": state.limit, "cooling": 0}
        return DeploymentReport(
            id=deployment.id,
            state=state.word,
            reason=cause.reason if cause is not None else None,
            cooling_s=state.wait_s(self._clock()),
            failures=state.failures,
            busy=state.busy,
            limit=limits[state.word],
            last_failure=state.last_failure,
        )

    def adopt(self, deployment: Deployment) -> None:
        """Use a deployment of a new configuration in place of the one with its id."""
        state = self._states.get(deployment.id)
        if state is not None:
            state.adopt(deployment)

    def capacity(self, model: Model) -> int:
        """Return how many attempts may run at the same time on what does not cool now."""
        states = map(self.state, self._live_of(model))
        return sum(
            state.deployment.max_concurrency if state.word == "ready" else state.limit
            for state in states
            if state.word != "cooling"
        )

    def take(self, model: Model, tries: Tries | None = None, lane: str = "") -> Slot | None:
        """Occupy a slot of the first deployment that has room and may be tried; None: none has."""
        for deployment in self.candidates(model):
            state = self._states.get(deployment.id) or self.state(deployment)
            if not state.has_room or (state.bars and state.is_barred(lane, self._clock())):
                continue
            if tries is not None:
                if tries.wait_s(deployment.id, self._clock()) != 0.0:
                    continue
                tries.note_attempt(deployment.id)
            return Slot(state, lane)
        return None

    def candidates(self, model: Model) -> Iterator[Deployment]:
        """Return the live deployments of a model in the order to try them."""
        live = self._live_of(model)
        return iter(_ranked(live) if len(live) > 1 else live)

    def barred_lanes(self, model: Model) -> frozenset[str]:
        """Return the lanes that one of the deployments is closed to, and to no other lane."""
        return frozenset(lane for one in self._live_of(model) for lane in self.state(one).bars)

    def wait_s(self, model: Model, tries: Tries | None = None, lane: str = "") -> float | None:
        """Return how long every deployment that may still be tried cools; None: there is none.

        Infinite if each of them has failed again when it was probed: waiting for a deployment that
        stays away would only make its errors late.
        """
        now = self._clock()
        waits = []
        for deployment in self._live_of(model):
            wait_s = (tries or NO_TRIES).wait_s(deployment.id, now)
            if wait_s is not None:
                state = self.state(deployment)
                is_failing = state.is_failing(now, lane)
                cooling_s = math.inf if is_failing else state.wait_s(now, lane)
                waits.append(max(wait_s, cooling_s))
        return min(waits, default=None)

    def refusal(self, model: Model, lane: str = "") -> GatewayError | None:
        """Return the error for a request while all deployments cool; None: one does not."""
        now = self._clock()
        states = [self.state(one) for one in self._live_of(model)]
        first = min(states, key=lambda state: state.wait_s(now, lane), default=None)
        if first is None or not all(_is_closed(state, lane, now) for state in states):
            return None
        bar = first.bars.get(lane) if first.word != "cooling" else None
        cause = bar.cause if bar is not None else first.cause
        wait_s = max(first.wait_s(now, lane), 0.001)
        if cause is not None and cause.own_fault:
            return UpstreamUnavailable(cause.message, own_fault=cause.own_fault)
        if cause is not None and cause.rate_limited:
            return UpstreamRateLimited(retry_after_s=wait_s)
        if cause is not None and cause.code == UpstreamOverloaded.code:
            return UpstreamOverloaded(retry_after_s=wait_s)
        return UpstreamUnavailable(COOLING, retry_after_s=wait_s)

    def note_content(self, slot: Slot) -> None:
        """Record that an attempt is being answered: its first content has come; idempotent."""
        state, before = slot.state, slot.state.word
        if before == "probing" and not slot.content_noted:
            slot.content_noted = True
            if state.note_content(slot.epoch):
                self._changed(state, before)

    def note_success(self, slot: Slot) -> None:
        """Record that an attempt was answered to its end."""
        if slot.state.word == "probing":
            self.note_content(slot)
        slot.state.note_success(slot.epoch, slot.lane)

    def note_error(self, slot: Slot, error: GatewayError) -> None:
        """Record how an attempt has failed."""
        state, before, now = slot.state, slot.state.word, self._clock()
        state.keep_failure(error, time.time())
        if fault_of(error) == "none":
            self.note_content(slot)
        bar = state.bars.get(slot.lane)
        until = bar.until if bar is not None else 0.0
        if state.note_error(error, slot.epoch, now, slot.lane):
            self._changed(state, before)
            return
        bar = state.bars.get(slot.lane)
        if bar is not None and bar.until > until:
            self._barred(state, slot.lane, bar.until - now)

    def wake(self, deployment_id: str) -> bool:
        """End the cooldown of a deployment that the owner wants to try now; False: it has none.

        The owner may have just set its secret right. The caller takes the first probe and then has
        the waiting jobs looked at.
        """
        state = self._states.get(deployment_id)
        if state is None or state.word != "cooling":
            return False
        timer = self._timers.pop(deployment_id, None)
        if timer is not None:
            timer.cancel()
        state.probe()
        log.info("%s is tried by the owner", deployment_id)
        return True

    def close(self) -> None:
        """Stop the timers."""
        for timer in (*self._timers.values(), *self._bar_timers):
            timer.cancel()
        self._timers.clear()
        self._bar_timers.clear()

    def _live_of(self, model: Model) -> tuple[Deployment, ...]:
        """Return the live deployments. Raises NoDeployment when the model has none."""
        known = self._live.get(model.id)
        if known is None or known[0] is not model:  # another configuration of the same model
            known = self._live[model.id] = (model, model.live_deployments())
        if not known[1]:
            raise NoDeployment(no_deployment_message(model))
        return known[1]

    def _changed(self, state: DeploymentState, before: DeploymentWord) -> None:
        """Handle another word, or more probes at the same time."""
        name = state.deployment.id
        if state.word == "cooling":
            wait_s = state.wait_s(self._clock())
            reason = state.cause.reason if state.cause is not None else ""
            log.warning("%s is not used for %.1f s: %s", name, wait_s, reason)
            self._warm_after(state, wait_s)
        elif state.word != before:
            log.info("%s is %s", name, WORDS[state.word])
        self.on_change(state)

    def _barred(self, state: DeploymentState, lane: str, wait_s: float) -> None:
        """Handle that a lane is kept away: its waiting requests look for another deployment."""
        name = state.deployment.id
        log.warning(
            "%s is not used for %s for %.1f s: only it has failed there", name, lane, wait_s
        )

        def open_again() -> None:
            self._bar_timers.discard(timer)
            self.on_change(state)

        # A little later: this clock and that of the loop are read at other times.
        timer = asyncio.get_running_loop().call_later(wait_s + 0.01, open_again)
        self._bar_timers.add(timer)
        self.on_change(state)

    def _warm_after(self, state: DeploymentState, wait_s: float) -> None:
        timer = asyncio.get_running_loop().call_later(wait_s, self._warm, state)
        self._timers[state.deployment.id] = timer

    def _warm(self, state: DeploymentState) -> None:
        """Begin to probe, unless the time to cool was extended."""
        wait_s = state.wait_s(self._clock())
        if wait_s > 0:
            self._warm_after(state, wait_s)
            return
        del self._timers[state.deployment.id]
        state.probe()
        self._changed(state, "cooling")


def _is_closed(state: DeploymentState, lane: str, now: float) -> bool:
    bar = state.bars.get(lane)
    return state.word == "cooling" or (bar is not None and now < bar.until)


def _ranked(live: Sequence[Deployment]) -> list[Deployment]:
    """Sort by `order`, equals by a random draw by `weight`.

    The largest of random() ** (1 / weight) is each one's with a chance in proportion to its weight
    (Efraimidis and Spirakis, 2006).
    """
    return sorted(live, key=lambda one: (one.order, -(random.random() ** (1 / one.weight))))


def no_deployment_message(model: Model) -> str:
    """Return the message for a model without a live deployment: which variables would help."""
    missing = sorted(model.missing_secrets())
    hint = f" Set one of: {', '.join(missing)}." if missing else ""
    return f"No upstream is configured for {model.id}.{hint} `roxy serve --demo` needs none."


def worse(first: UpstreamError | None, second: UpstreamError) -> UpstreamError:
    """Choose the error for the client when all deployments failed.

    A rate limit with a known wait comes first, the shortest of them, then the latest error.
    """
    if isinstance(first, UpstreamRateLimited) and first.retry_after_s is not None:
        if not isinstance(second, UpstreamRateLimited) or second.retry_after_s is None:
            return first
        return min(first, second, key=lambda error: error.retry_after_s or 0.0)
    return second
