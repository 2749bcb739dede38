"""Format the requests, models, deployments and nodes of the live page, in the page's language."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from server.shapes.live_object import (
    Live,
    LiveDeployment,
    LiveJob,
    LiveModel,
    LiveNode,
)
from webui.shell.health_words import reason_of
from webui.shell.texts import Language, fill
from workers.units import MIB


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


def tiles_of(live: Live, language: Language) -> list[tuple[str, str, str]]:
    """Return the totals: a label, a figure and a note each."""
    texts, count, models = language.texts, language.figures.count, live.models
    waits = [model for model in models if model.expected_wait_s]
    longest = max(waits, key=lambda model: model.expected_wait_s, default=None)
    workers = sum(model.workers for model in models)
    full = fill(texts.live.at_model, model=longest.id) if longest else texts.live.all_free
    if not workers:
        full = texts.live.none_configured
    return [
        (
            texts.live.running,
            count(sum(model.running for model in models)),
            language.plural(texts.live.workers, workers),
        ),
        (
            texts.live.waiting,
            count(sum(model.queued for model in models)),
            texts.live.in_queues,
        ),
        (
            texts.live.expected_wait,
            about(longest.expected_wait_s if longest else 0.0, language),
            full,
        ),
        (texts.live.answers_kept, count(live.kept), mebibytes(live.kept_bytes, language)),
    ]


def node_row(node: LiveNode, language: Language) -> NodeRow:
    """Return a node for display."""
    texts, count = language.texts, language.figures.count
    state, mark = {
        "here": (texts.live.here, "good"),
        "up": (texts.live.up, "good"),
        "silent": (texts.live.silent, "warn"),
        "gone": (texts.live.gone, "bad"),
    }[node.state]
    answers = node.state in ("here", "up")
    return NodeRow(
        id=node.id,
        url=node.url or "",
        state=fill(state, time=language.figures.elapsed(int(node.seen_s))),
        mark=mark,
        processes=count(node.processes),
        running=count(node.running) if answers else "",
        waiting=count(node.waiting) if answers else "",
        version=node.version,
    )


def rows_of(models: list[LiveModel], language: Language) -> list[LiveRow]:
    """Return the running requests of all models, then the waiting ones, in queue order."""
    rows = [row_of(model, job, language) for model in models for job in model.jobs]
    return sorted(rows, key=lambda row: row.place != "")


def row_of(model: LiveModel, job: LiveJob, language: Language) -> LiveRow:
    """Return a request for display."""
    texts, count = language.texts, language.figures.count
    state, mark = state_of(job, texts)
    place = ""
    if job.position:
        place = fill(texts.live.place_of, position=count(job.position), waiting=count(model.queued))
    return LiveRow(
        id=job.id,
        who={"owner": texts.live.owner, "guests": texts.live.guest}.get(job.who, job.who_name),
        model=model.id,
        state=state,
        mark=mark,
        place=place,
        elapsed=language.figures.elapsed(int(job.started_s)),
        tokens=f"≈ {count(job.tokens)}" if job.tokens else "",
        deployment=job.deployment or "",
        node=job.node or "",
        kept=job.kept,
    )


def state_of(job: LiveJob, texts: Any) -> tuple[str, str]:
    """Return what a request is doing, and the colour of its dot."""
    if job.state == "streaming":
        return texts.live.writing, "good"
    if job.state == "queued":
        return texts.live.queued, "warn"
    if job.state == "done":
        return texts.live.usage_pending, ""
    if job.attempts > 1:
        return fill(texts.live.contacting_again, attempt=job.attempts), "warn"
    return texts.live.contacting, ""


def model_row(model: LiveModel, language: Language) -> ModelRow:
    """Return a model and its deployments for display."""
    state, mark = load_of(model.running, model.workers, language)
    if model.workers and all(one.state in ("cooling", "off") for one in model.deployments):
        state, mark = language.texts.live.all_cooling, "bad"
    return ModelRow(
        id=model.id,
        state=state,
        mark=mark,
        waiting=language.figures.count(model.queued),
        wait=about(model.expected_wait_s, language),
        deployments=[deployment_row(model.id, one, language) for one in model.deployments],
    )


def deployment_row(model_id: str, one: LiveDeployment, language: Language) -> DeploymentRow:
    """Return a deployment for display."""
    texts, busy, most = language.texts, one.busy, one.max_concurrency
    if one.state == "cooling":
        wait = language.figures.elapsed(math.ceil(one.cooling_s or 0.0))
        reason = reason_of(one.reason, language)
        state, mark = fill(texts.live.cooling, time=wait, reason=reason), "bad"
    elif one.state == "probing":
        state, mark = fill(texts.live.probing, reason=reason_of(one.reason, language)), "warn"
    else:
        state, mark = load_of(busy, most if one.live else 0, language)
    name = one.id.removeprefix(f"{model_id}@")
    shown = min(busy, most) if one.live else 0
    return DeploymentRow(one.id, name, state, mark, shown, most)


def load_of(busy: int, most: int, language: Language) -> tuple[str, str]:
    """Return how much of a capacity is used, and the colour of the dot for it."""
    texts, count = language.texts, language.figures.count
    if not most:
        return texts.live.not_configured, ""
    if not busy:
        return fill(texts.live.idle, count=count(most)), "good"
    used = fill(texts.live.busy, busy=count(busy), most=count(most))
    return used, "warn" if busy >= most else "good"


def is_dark(model: LiveModel) -> bool:
    """Return True if no deployment serves a model; such models are shown last."""
    return not model.workers


def mebibytes(size_bytes: int, language: Language) -> str:
    """Return a size in words: 0 MiB, <0.1 MiB, 3.2 MiB."""
    figure = f"{size_bytes / MIB:.1f}" if size_bytes else "0"
    if 0 < size_bytes < MIB / 20:
        figure = "<0.1"
    return fill(language.texts.live.size, value=language.figures.written(figure))


def about(wait_s: float, language: Language) -> str:
    """Return an estimated wait in words: ≈ 4 s."""
    if not wait_s:
        return str(language.texts.live.no_wait)
    return f"≈ {language.figures.elapsed(math.ceil(wait_s))}"
