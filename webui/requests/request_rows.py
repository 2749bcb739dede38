"""Format requests of the log for their pages: rows of the list, and facts about one request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from server.store.rows import UsageRow
from webui.shell.charts import RequestPhase
from webui.shell.figures import NONE, count, duration, exact_moment, moment
from webui.shell.filters import People, link
from workers.money import exactly, rounded
from workers.run.job import Attempt


class Ending(NamedTuple):
    """How a request ended: a word, its tone and its meaning."""

    word: str
    tone: str
    meaning: str


ENDINGS = {
    "finished": Ending("Finished", "good", "Completed."),
    "cancelled": Ending("Stopped", "", "The client stopped it or disconnected."),
    "failed": Ending("Failed", "bad", "No provider answered it."),
    "cut": Ending("Cut off", "bad", "The connection to the model was lost."),
    "timed_out": Ending(
        "Timed out", "bad", "The provider or the client sent nothing for too long."
    ),
    "drained": Ending("Shut down", "warn", "The server stopped before the answer was complete."),
    "refused": Ending("Refused", "warn", "The queue was full."),
}


def ending_of(row: UsageRow) -> Ending:
    """Return how a request ended; an unknown status is shown as it is."""
    return ENDINGS.get(row.status, Ending(row.status, "", ""))


class RequestRow(NamedTuple):
    """A request in the list."""

    id: str
    href: str
    at: str
    exact_at: str
    who: str
    who_label: str
    model: str
    ending: Ending
    status: str
    is_estimated: bool
    tokens_in: str
    tokens_out: str
    cost: str
    exact_cost: str
    ttft: str
    duration: str
    speed: str


def request_row(row: UsageRow, people: People) -> RequestRow:
    """Return the row of a request."""
    ending = ending_of(row)
    unpriced = row.cost_microusd is None
    return RequestRow(
        id=row.request_id,
        href=f"/requests/{quote(row.request_id, safe='')}",
        at=moment(row.at),
        exact_at=exact_moment(row.at),
        who=people.name(row.key_id),
        who_label=people.label(row.key_id),
        model=row.model,
        ending=ending,
        status=f"{ending.word} {row.http_status}"
        if ending.tone in ("bad", "warn")
        else ending.word,
        is_estimated=row.estimated,
        tokens_in=_tokens(row.prompt_tokens, NONE, estimated=row.estimated),
        tokens_out=_tokens(row.completion_tokens, NONE, estimated=row.estimated),
        cost="unknown" if row.cost_microusd is None else rounded(row.cost_microusd),
        exact_cost="Unknown price" if unpriced else exactly(row.cost_microusd or 0),
        ttft=NONE if row.ttft_ms is None else duration(row.ttft_ms),
        duration=duration(row.duration_ms),
        speed=NONE if row.tokens_per_s is None else f"{row.tokens_per_s:,}",
    )


class TimeRow(NamedTuple):
    """A phase or an attempt on the clock: `bar` is its drawing as SVG, `word` how it ended."""

    name: str
    bar: str
    start: str
    took: str
    word: str = ""
    tone: str = ""


def phase_rows(phases: Iterable[RequestPhase], whole_ms: int) -> list[TimeRow]:
    """Return the rows of the phases of a request that lasted `whole_ms`."""
    return [_time_row(phase, whole_ms) for phase in phases]


def attempt_rows(attempts: Iterable[Attempt], whole_ms: int) -> list[TimeRow]:
    """Return the rows of attempts; one that failed has its code, as in the gateway's log."""
    rows = []
    for attempt in attempts:
        word, tone, mark = {
            "answered": ("Answered", "good", "writing"),
            "cancelled": ("Stopped", "", "waiting"),
        }.get(attempt.ending, (attempt.ending, "bad", "failed"))
        end_ms = attempt.start_ms + attempt.duration_ms
        phase = RequestPhase(attempt.deployment, mark, attempt.start_ms, end_ms)
        rows.append(_time_row(phase, whole_ms)._replace(word=word, tone=tone))
    return rows


def _time_row(phase: RequestPhase, whole_ms: int) -> TimeRow:
    start, took = duration(phase.start_ms), duration(phase.took_ms)
    return TimeRow(phase.name, phase.bar(whole_ms), start, took)


class Fact(NamedTuple):
    """A line about a request; `exact_at` is the instant that it names, `badge` a state."""

    label: str
    text: str
    href: str = ""
    exact_at: str = ""
    badge: str = ""


def facts_of(row: UsageRow, people: People) -> list[Fact]:
    """Return everything that is on record about a request."""
    began_at = row.at - row.duration_ms / 1000
    who, key_id = people.name(row.key_id), row.key_id
    cached = _tokens(row.cached_tokens, "not reported")
    if row.cache_write_tokens:
        cached += f", {count(row.cache_write_tokens)} written to the cache"
    prompt = _tokens(row.prompt_tokens, "not reported", estimated=row.estimated)
    completion = _tokens(row.completion_tokens, "not reported", estimated=row.estimated)
    cost = row.cost_microusd
    speed = row.tokens_per_s
    return [
        Fact("Began", f"{moment(began_at)} UTC", exact_at=exact_moment(began_at)),
        Fact("Ended", f"{moment(row.at)} UTC", exact_at=exact_moment(row.at)),
        Fact(
            "Who",
            who,
            href=link("/requests", key=key_id) if key_id in people else "",
            badge=people.state(key_id),
        ),
        Fact("Model", row.model, href=link("/requests", model=row.model)),
        Fact("Deployment", row.deployment or "none"),
        Fact("Status", f"HTTP {row.http_status}. {ending_of(row).meaning}"),
        Fact("Tokens in", prompt),
        Fact("Of which cached", cached),
        Fact("Tokens out", completion),
        Fact("Of which reasoning", _tokens(row.reasoning_tokens, "not reported")),
        Fact("Cost", "Unknown price" if cost is None else exactly(cost)),
        Fact(
            "Time to first token",
            "no output" if row.ttft_ms is None else duration(row.ttft_ms),
        ),
        Fact("Speed", "unknown" if speed is None else f"{speed} tokens/s"),
        Fact("Answer", "streamed" if row.stream else "not streamed"),
    ]


def _tokens(number: int | None, absent: str, *, estimated: bool = False) -> str:
    if number is None:
        return absent
    return f"≈ {count(number)}" if estimated else count(number)
