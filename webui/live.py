"""The owner's engine room: who is being answered, who waits, and where; each can be stopped.

The page is whole without scripts. Its script reads it again every other second and puts in what
has changed.
"""

from __future__ import annotations

import math
import time
from typing import Any, ClassVar, NamedTuple

from server.handlers.jobs import find_job
from server.handlers.live import describe_live
from webui.figures import count, exact_moment, moment, plural
from webui.login import FORM_BYTES
from webui.pages import OwnerPageHandler
from workers.errors import NotFound, Stopped

MIB = 1024 * 1024


class Row(NamedTuple):
    """A request as the page shows it. `state` is in words, `mark` the colour of its dot."""

    id: str
    who: str
    model: str
    state: str
    mark: str
    place: str
    elapsed: str
    tokens: str
    deployment: str
    kept: bool


class DeploymentRow(NamedTuple):
    """A deployment as the page shows it; `name` is its id without the model's."""

    id: str
    name: str
    state: str
    mark: str
    busy: int
    most: int


class ModelRow(NamedTuple):
    """A model as the page shows it."""

    id: str
    state: str
    mark: str
    waiting: str
    wait: str
    deployments: list[DeploymentRow]


class LivePageHandler(OwnerPageHandler):
    """What runs and waits now."""

    section = "Live"

    def get(self) -> None:
        """Show it as it is at this moment."""
        models, now = describe_live(self.services), time.time()
        self.show(
            "live.html",
            rows=rows_of(models),
            models=[model_row(model) for model in sorted(models, key=is_dark)],
            left_out=sum(model["jobs_left_out"] for model in models),
            tiles=self._tiles(models),
            idle=not any(model["jobs"] for model in models),
            now=moment(now)[-8:],
            now_exact=exact_moment(now),
            plural=plural,
        )

    def _tiles(self, models: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
        """Give the totals: what, how much, and what to know about it."""
        answers = self.services.answers
        waits = [model for model in models if model["expected_wait_s"]]
        longest = max(waits, key=lambda model: float(model["expected_wait_s"]), default=None)
        wait = about(longest["expected_wait_s"]) if longest else "none"
        workers = sum(model["workers"] for model in models)
        full = f"at {longest['id']}" if longest else "every model has a free worker"
        if not workers:
            full = "no model is configured"
        return [
            ("Running", total(models, "running"), f"of {plural(workers, 'worker')}"),
            ("Waiting", total(models, "queued"), "in the queues of all models"),
            ("Expected wait", wait, full),
            ("Answers kept", count(len(answers)), mebibytes(answers.size_bytes)),
        ]


class StopHandler(OwnerPageHandler):
    """The button "Stop" where no script runs."""

    section = "Live"
    body_limit: ClassVar[int | None] = FORM_BYTES

    def post(self, job_id: str) -> None:
        """Stop a request; one that has ended meanwhile is as good as stopped."""
        self.take_form()
        assert self.principal is not None
        try:
            job, _ = find_job(self.services, self.principal, job_id)
        except NotFound:
            job = None
        if job is not None:
            job.close("cancelled", Stopped())
        self.redirect_to("/live")


def total(models: list[dict[str, Any]], name: str) -> str:
    """Add up a number of all models."""
    return count(sum(model[name] for model in models))


def rows_of(models: list[dict[str, Any]]) -> list[Row]:
    """Give the running requests of all models, then the waiting ones, each queue in its order."""
    rows = [row_of(model, job) for model in models for job in model["jobs"]]
    return sorted(rows, key=lambda row: row.place != "")


def row_of(model: dict[str, Any], job: dict[str, Any]) -> Row:
    """Write a request out."""
    state, mark = state_of(job)
    place = f"{job['position']} of {model['queued']}" if job["position"] else ""
    return Row(
        id=job["id"],
        who={"owner": "Owner", "guests": "Guest"}.get(job["who"], job["who_name"]),
        model=model["id"],
        state=state,
        mark=mark,
        place=place,
        elapsed=seconds(job["started_s"]),
        tokens=f"≈ {count(job['tokens'])}" if job["tokens"] else "",
        deployment=job["deployment"] or "",
        kept=job["kept"],
    )


def state_of(job: dict[str, Any]) -> tuple[str, str]:
    """Say what a request is doing, and how its dot looks."""
    if job["state"] == "streaming":
        return "writing", "good"
    if job["state"] == "queued":
        return "waiting", "warn"
    if job["attempts"] > 1:
        return f"contacting, attempt {job['attempts']}", "warn"
    return "contacting", ""


def model_row(model: dict[str, Any]) -> ModelRow:
    """Write a model and its deployments out."""
    state, mark = load_of(model["running"], model["workers"])
    return ModelRow(
        id=model["id"],
        state=state,
        mark=mark,
        waiting=count(model["queued"]),
        wait=about(model["expected_wait_s"]) if model["expected_wait_s"] else "none",
        deployments=[deployment_row(model["id"], one) for one in model["deployments"]],
    )


def deployment_row(model_id: str, one: dict[str, Any]) -> DeploymentRow:
    """Write a deployment out."""
    busy, most = one["busy"], one["max_concurrency"]
    state, mark = load_of(busy, most if one["live"] else 0)
    name = one["id"].removeprefix(f"{model_id}@")
    shown = min(busy, most) if one["live"] else 0
    return DeploymentRow(one["id"], name, state, mark, shown, most)


def load_of(busy: int, most: int) -> tuple[str, str]:
    """Say how much of what there is room for is used, and how the dot of that looks."""
    if not most:
        return "not configured", ""
    if not busy:
        return f"idle, room for {count(most)}", "good"
    return f"busy {count(busy)} of {count(most)}", "warn" if busy >= most else "good"


def is_dark(model: dict[str, Any]) -> bool:
    """Say whether nothing serves a model: such models are shown last."""
    return not model["workers"]


def mebibytes(size_bytes: int) -> str:
    """Write a size: 0 MiB, <0.1 MiB, 3.2 MiB."""
    if 0 < size_bytes < MIB / 20:
        return "<0.1 MiB"
    return f"{size_bytes / MIB:.1f} MiB" if size_bytes else "0 MiB"


def seconds(age_s: float) -> str:
    """Write how long something has lasted: 12 s, 2 min 5 s, 1 h 4 min."""
    whole = int(age_s)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def about(wait_s: float) -> str:
    """Write an estimate of a wait: ≈ 4 s."""
    return f"≈ {seconds(math.ceil(wait_s))}"
