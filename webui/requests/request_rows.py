"""Format requests of the log for their pages: rows of the list, and facts about one request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import quote

from server.store.rows import UsageRow
from webui.shell.charts import RequestPhase
from webui.shell.figures import NONE, Figures, exact_moment
from webui.shell.filters import People, link
from webui.shell.health_words import failure_words
from webui.shell.texts import Language, fill
from workers.money import exactly, rounded
from workers.run.job import Attempt


class Ending(NamedTuple):
    """How a request ended: a word, its tone and its meaning."""

    word: str
    tone: str
    meaning: str


STATUSES = ("finished", "cancelled", "failed", "cut", "timed_out", "drained", "refused")
"""How requests of the log may have ended."""


def endings(texts: Any) -> dict[str, Ending]:
    """Return how a request may have ended, in words, by its status."""
    return {
        "finished": Ending(texts.requests.finished, "good", texts.requests.finished_means),
        "cancelled": Ending(texts.requests.cancelled, "", texts.requests.cancelled_means),
        "failed": Ending(texts.requests.failed, "bad", texts.requests.failed_means),
        "cut": Ending(texts.requests.cut, "bad", texts.requests.cut_means),
        "timed_out": Ending(texts.requests.timed_out, "bad", texts.requests.timed_out_means),
        "drained": Ending(texts.requests.drained, "warn", texts.requests.drained_means),
        "refused": Ending(texts.requests.refused, "warn", texts.requests.refused_means),
    }


def ending_of(row: UsageRow, texts: Any) -> Ending:
    """Return how a request ended; an unknown status is shown as it is."""
    return endings(texts).get(row.status, Ending(row.status, "", ""))


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


def request_row(row: UsageRow, people: People, language: Language) -> RequestRow:
    """Return the row of a request."""
    texts, figures = language.texts, language.figures
    ending, cost = ending_of(row, texts), row.cost_microusd
    return RequestRow(
        id=row.request_id,
        href=f"/requests/{quote(row.request_id, safe='')}",
        at=figures.name_moment(row.at),
        exact_at=exact_moment(row.at),
        who=people.name(row.key_id),
        who_label=people.label(row.key_id),
        model=row.model,
        ending=ending,
        status=f"{ending.word} {row.http_status}"
        if ending.tone in ("bad", "warn")
        else ending.word,
        is_estimated=row.estimated,
        tokens_in=_tokens(row.prompt_tokens, NONE, figures, estimated=row.estimated),
        tokens_out=_tokens(row.completion_tokens, NONE, figures, estimated=row.estimated),
        cost=texts.requests.unknown if cost is None else figures.written(rounded(cost)),
        exact_cost=texts.requests.unknown_price if cost is None else figures.written(exactly(cost)),
        ttft=NONE if row.ttft_ms is None else figures.duration(row.ttft_ms),
        duration=figures.duration(row.duration_ms),
        speed=NONE if row.tokens_per_s is None else figures.written(f"{row.tokens_per_s:,}"),
    )


class TimeRow(NamedTuple):
    """A phase or an attempt on the clock: `bar` is its drawing as SVG, `word` how it ended.

    `cause` is why an attempt has failed, `details` the provider's own words about it.
    """

    name: str
    bar: str
    start: str
    took: str
    word: str = ""
    tone: str = ""
    cause: str = ""
    details: str = ""


def phase_rows(phases: Iterable[RequestPhase], whole_ms: int, language: Language) -> list[TimeRow]:
    """Return the rows of the phases of a request that lasted `whole_ms`."""
    return [_time_row(phase, whole_ms, language.figures) for phase in phases]


def attempt_rows(attempts: Iterable[Attempt], whole_ms: int, language: Language) -> list[TimeRow]:
    """Return the rows of attempts; one that failed has its code, as in the gateway's log."""
    texts, rows = language.texts, []
    for attempt in attempts:
        word, tone, mark = {
            "answered": (texts.requests.answered, "good", "writing"),
            "cancelled": (texts.requests.cancelled, "", "waiting"),
        }.get(attempt.ending, (attempt.ending, "bad", "failed"))
        end_ms = attempt.start_ms + attempt.duration_ms
        phase = RequestPhase(attempt.deployment, mark, attempt.start_ms, end_ms)
        row = _time_row(phase, whole_ms, language.figures)
        cause = ""
        if attempt.reason or attempt.status:
            reason = attempt.reason or attempt.ending
            cause = failure_words(reason, attempt.status, language)
        rows.append(row._replace(word=word, tone=tone, cause=cause, details=attempt.message))
    return rows


def _time_row(phase: RequestPhase, whole_ms: int, figures: Figures) -> TimeRow:
    start, took = figures.duration(phase.start_ms), figures.duration(phase.took_ms)
    return TimeRow(phase.name, phase.bar(whole_ms), start, took)


class Fact(NamedTuple):
    """A line about a request; `exact_at` is the instant that it names, `badge` a state."""

    label: str
    text: str
    href: str = ""
    exact_at: str = ""
    badge: str = ""


def facts_of(row: UsageRow, people: People, language: Language) -> list[Fact]:
    """Return everything that is on record about a request."""
    texts, key_id = language.texts, row.key_id
    status = f"HTTP {row.http_status}. {ending_of(row, texts).meaning}"
    return [
        _moment_fact(texts.requests.began, row.at - row.duration_ms / 1000, language),
        _moment_fact(texts.requests.ended, row.at, language),
        Fact(
            texts.requests.who,
            people.name(key_id),
            href=link("/requests", key=key_id) if key_id in people else "",
            badge=people.state(key_id),
        ),
        Fact(texts.usage.model, row.model, href=link("/requests", model=row.model)),
        Fact(texts.requests.deployment, row.deployment or texts.requests.no_deployment),
        Fact(texts.requests.status, status),
        *_token_facts(row, language),
        *_speed_facts(row, language),
    ]


def _moment_fact(label: str, at: float, language: Language) -> Fact:
    moment = fill(language.texts.requests.utc, moment=language.figures.name_moment(at))
    return Fact(label, moment, exact_at=exact_moment(at))


def _token_facts(row: UsageRow, language: Language) -> list[Fact]:
    """Return the tokens of a request and what they cost."""
    texts, figures, cost = language.texts, language.figures, row.cost_microusd
    absent = texts.requests.not_reported
    cached = _tokens(row.cached_tokens, absent, figures)
    if row.cache_write_tokens:
        written = figures.count(row.cache_write_tokens)
        cached = fill(texts.requests.cache_written, cached=cached, count=written)
    prompt = _tokens(row.prompt_tokens, absent, figures, estimated=row.estimated)
    completion = _tokens(row.completion_tokens, absent, figures, estimated=row.estimated)
    reasoning = _tokens(row.reasoning_tokens, absent, figures)
    price = texts.requests.unknown_price if cost is None else figures.written(exactly(cost))
    return [
        Fact(texts.usage.tokens_in, prompt),
        Fact(texts.requests.of_which_cached, cached),
        Fact(texts.usage.tokens_out, completion),
        Fact(texts.requests.of_which_reasoning, reasoning),
        Fact(texts.usage.cost, price),
    ]


def _speed_facts(row: UsageRow, language: Language) -> list[Fact]:
    """Return how fast a request was, and whether its answer was streamed."""
    texts, figures = language.texts, language.figures
    ttft = texts.requests.no_output if row.ttft_ms is None else figures.duration(row.ttft_ms)
    speed = texts.requests.unknown
    if row.tokens_per_s is not None:
        speed = fill(texts.page.speed, count=figures.written(f"{row.tokens_per_s:,}"))
    answer = texts.requests.streamed if row.stream else texts.requests.not_streamed
    return [
        Fact(texts.usage.ttft, ttft),
        Fact(texts.requests.speed, speed),
        Fact(texts.requests.answer, answer),
    ]


def _tokens(number: int | None, absent: str, figures: Figures, *, estimated: bool = False) -> str:
    if number is None:
        return absent
    return f"≈ {figures.count(number)}" if estimated else figures.count(number)
