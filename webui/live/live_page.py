"""Serve the live page: running and waiting requests, which the owner can stop.

The page works without scripts. Its script fetches it again every two seconds and replaces what has
changed.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple
from urllib.parse import quote

from server.answers.job_access import find_job
from server.identity.authentication import XSRF_HEADER
from server.shapes.live_object import (
    Live,
    LiveDeployment,
    LiveJob,
    LiveModel,
    LiveNode,
    live_everywhere,
)
from webui.shell.figures import count, exact_moment, moment, plural
from webui.shell.health_words import reason_of
from webui.shell.pages import SMALL_FORM_BYTES, PageHandler
from webui.shell.peer_requests import asked_by
from webui.shell.texts import languages
from workers.errors import NotFound, Stopped
from workers.units import HOUR_S, MIB

NODE_STATES = {
    "here": ("shows this page", "good"),
    "up": ("up", "good"),
    "silent": ("does not respond", "warn"),
    "gone": ("gone", "bad"),
}
"""The states of a node in words, and the colours of their dots."""


class LiveRow(NamedTuple):
    """A request for display. `state` is in words, `mark` the colour of its dot."""

    id: str
    who: str
    model: str
    state: str
    mark: str
    place: str
    elapsed: str
    tokens: str
    deployment: str
    node: str
    kept: bool


class DeploymentRow(NamedTuple):
    """A deployment for display; `name` is its id without the model's."""

    id: str
    name: str
    state: str
    mark: str
    busy: int
    most: int


class ModelRow(NamedTuple):
    """A model for display."""

    id: str
    state: str
    mark: str
    waiting: str
    wait: str
    deployments: list[DeploymentRow]


class NodeRow(NamedTuple):
    """A node for display."""

    id: str
    url: str
    state: str
    mark: str
    processes: str
    running: str
    waiting: str
    version: str


class LivePageHandler(PageHandler):
    """The page at `/live`."""

    access = "owner"
    section = "Live"

    async def get(self) -> None:
        """Show the state of this moment."""
        live, now = await live_everywhere(self.services, asked_by(self)), time.time()
        models = live.models
        self.show(
            "live.html",
            rows=rows_of(models),
            models=[model_row(model) for model in sorted(models, key=is_dark)],
            left_out=sum(model.jobs_left_out for model in models),
            away=live.away,
            tiles=tiles_of(live),
            nodes=[node_row(node) for node in live.nodes] if len(live.nodes) > 1 else [],
            idle=not any(model.jobs for model in models),
            now=moment(now)[-8:],
            now_exact=exact_moment(now),
            plural=plural,
        )


class StopHandler(PageHandler):
    """The button "Stop", for browsers without scripts."""

    access = "owner"
    section = "Live"
    body_limit = SMALL_FORM_BYTES

    async def post(self, job_id: str) -> None:
        """Stop a request; if it has just ended, do nothing."""
        self.take_form()
        assert self.principal is not None
        services = self.services
        try:
            job, _ = find_job(services.engine, services.answers, self.principal, job_id)
        except NotFound:
            await self._stop_elsewhere(job_id)
        else:
            if job is not None:
                job.close("cancelled", Stopped())
        self.redirect_to("/live")

    async def _stop_elsewhere(self, job_id: str) -> None:
        """Have the process that has the request stop it. Raises NodeUnavailable."""
        peer = await self.services.peers.find(job_id, nodes=True)
        if peer is None:
            return
        asked = asked_by(self)
        headers = dict(asked.headers) | {
            XSRF_HEADER: self.xsrf({}),
            "Sec-Fetch-Site": "same-origin",
        }
        target = f"/api/v1/jobs/{quote(job_id, safe='')}"
        await self.services.passing.ask(peer, "DELETE", target, headers, asked.passed_on())


def tiles_of(live: Live) -> list[tuple[str, str, str]]:
    """Return the totals: a label, a figure and a note each."""
    models = live.models
    waits = [model for model in models if model.expected_wait_s]
    longest = max(waits, key=lambda model: model.expected_wait_s, default=None)
    wait = about(longest.expected_wait_s) if longest else "none"
    workers = sum(model.workers for model in models)
    running = sum(model.running for model in models)
    queued = sum(model.queued for model in models)
    full = f"at {longest.id}" if longest else "every model has a free worker"
    if not workers:
        full = "no model is configured"
    return [
        ("Running", count(running), f"of {plural(workers, 'worker')}"),
        ("Waiting", count(queued), "in the queues of all models"),
        ("Expected wait", wait, full),
        ("Answers kept", count(live.kept), mebibytes(live.kept_bytes)),
    ]


def node_row(node: LiveNode) -> NodeRow:
    """Return a node for display."""
    state, mark = NODE_STATES[node.state]
    if node.state == "gone":
        state = f"gone, last seen {seconds(node.seen_s)} ago"
    answers = node.state in ("here", "up")
    return NodeRow(
        id=node.id,
        url=node.url or "",
        state=state,
        mark=mark,
        processes=count(node.processes),
        running=count(node.running) if answers else "",
        waiting=count(node.waiting) if answers else "",
        version=node.version,
    )


def rows_of(models: list[LiveModel]) -> list[LiveRow]:
    """Return the running requests of all models, then the waiting ones, in queue order."""
    rows = [row_of(model, job) for model in models for job in model.jobs]
    return sorted(rows, key=lambda row: row.place != "")


def row_of(model: LiveModel, job: LiveJob) -> LiveRow:
    """Return a request for display."""
    state, mark = state_of(job)
    place = f"{job.position} of {model.queued}" if job.position else ""
    return LiveRow(
        id=job.id,
        who={"owner": "Owner", "guests": "Guest"}.get(job.who, job.who_name),
        model=model.id,
        state=state,
        mark=mark,
        place=place,
        elapsed=seconds(job.started_s),
        tokens=f"≈ {count(job.tokens)}" if job.tokens else "",
        deployment=job.deployment or "",
        node=job.node or "",
        kept=job.kept,
    )


def state_of(job: LiveJob) -> tuple[str, str]:
    """Return what a request is doing, and the colour of its dot."""
    if job.state == "streaming":
        return "writing", "good"
    if job.state == "queued":
        return "waiting", "warn"
    if job.state == "done":
        return "waiting for its usage", ""
    if job.attempts > 1:
        return f"contacting, attempt {job.attempts}", "warn"
    return "contacting", ""


def model_row(model: LiveModel) -> ModelRow:
    """Return a model and its deployments for display."""
    state, mark = load_of(model.running, model.workers)
    if model.workers and all(one.state in ("cooling", "off") for one in model.deployments):
        state, mark = "not used: every deployment cools", "bad"
    return ModelRow(
        id=model.id,
        state=state,
        mark=mark,
        waiting=count(model.queued),
        wait=about(model.expected_wait_s) if model.expected_wait_s else "none",
        deployments=[deployment_row(model.id, one) for one in model.deployments],
    )


def deployment_row(model_id: str, one: LiveDeployment) -> DeploymentRow:
    """Return a deployment for display."""
    busy, most = one.busy, one.max_concurrency
    if one.state == "cooling":
        wait = seconds(math.ceil(one.cooling_s or 0.0))
        state, mark = f"cooling for {wait}: {reason_of(one.reason, languages()['en'])}", "bad"
    elif one.state == "probing":
        state, mark = f"trying again after: {reason_of(one.reason, languages()['en'])}", "warn"
    else:
        state, mark = load_of(busy, most if one.live else 0)
    name = one.id.removeprefix(f"{model_id}@")
    shown = min(busy, most) if one.live else 0
    return DeploymentRow(one.id, name, state, mark, shown, most)


def load_of(busy: int, most: int) -> tuple[str, str]:
    """Return how much of a capacity is used, and the colour of the dot for it."""
    if not most:
        return "not configured", ""
    if not busy:
        return f"idle, room for {count(most)}", "good"
    return f"busy {count(busy)} of {count(most)}", "warn" if busy >= most else "good"


def is_dark(model: LiveModel) -> bool:
    """Return True if no deployment serves a model; such models are shown last."""
    return not model.workers


def mebibytes(size_bytes: int) -> str:
    """Return a size in words: 0 MiB, <0.1 MiB, 3.2 MiB."""
    if 0 < size_bytes < MIB / 20:
        return "<0.1 MiB"
    return f"{size_bytes / MIB:.1f} MiB" if size_bytes else "0 MiB"


def seconds(age_s: float) -> str:
    """Return a duration in words: 12 s, 2 min 5 s, 1 h 4 min."""
    whole = int(age_s)
    if whole < 100:
        return f"{whole} s"
    if whole < HOUR_S:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // HOUR_S} h {whole % HOUR_S // 60} min"


def about(wait_s: float) -> str:
    """Return an estimated wait in words: ≈ 4 s."""
    return f"≈ {seconds(math.ceil(wait_s))}"
