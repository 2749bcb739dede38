"""Format the four figures at the top of the usage page, each compared with the days before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import structs

from server.accounting.usage_sums import add_up
from server.store.rows import UsageDay
from webui.shell.figures import NONE
from webui.shell.texts import Language, fill
from workers.money import exactly, rounded

NO_DAY = UsageDay("", "", "")


class Sums(UsageDay, frozen=True):
    """The sums of a span of days; `ttft_p95_ms` None: not known."""

    ttft_p95_ms: int | None = None

    @classmethod
    def of(cls, days: Sequence[UsageDay]) -> Sums:
        """Add up daily rows."""
        total, *_ = add_up(days, ()) or [NO_DAY]
        return cls(*structs.astuple(total))

    @property
    def tokens(self) -> int:
        """Return the tokens in and out together."""
        return self.prompt_tokens + self.completion_tokens


class Tile(NamedTuple):
    """A figure; `exact` is the full number, `more` a note about it."""

    label: str
    figure: str
    exact: str
    change: str
    more: str


class Earlier(NamedTuple):
    """The days that the figures are compared with: their number, and their name if it is a month.

    The texts that compare are whole sentences.
    """

    days: int
    name: str

    def compare(self, change: str, language: Language) -> str:
        """Return a change in words; "" as the change: there were no data."""
        texts = language.texts
        if self.name:
            form = texts.usage.on_span_before if change else texts.usage.no_span_before
            return fill(form, change=change, days=self.name)
        forms = texts.usage.on_days_before if change else texts.usage.no_days_before
        return language.plural(forms, self.days, change=change)


def tiles(now: Sums, before: Sums | None, earlier: Earlier, language: Language) -> list[Tile]:
    """Return the four figures; `earlier` says what they are compared with."""
    texts, figures = language.texts, language.figures

    def against(value: int, other: int | None) -> str:
        if other is None:
            return str(texts.usage.no_earlier)
        return earlier.compare(figures.change(value, other), language)

    failed = figures.share(now.failed, now.requests)
    return [
        Tile(
            texts.usage.requests,
            figures.count(now.requests),
            language.plural(texts.usage.request_count, now.requests),
            against(now.requests, before.requests if before else None),
            fill(texts.usage.failed_share, count=figures.count(now.failed), share=failed)
            if now.requests
            else "",
        ),
        _tokens(now, against(now.tokens, before.tokens if before else None), language),
        Tile(
            texts.usage.cost,
            figures.written(rounded(now.cost_microusd)),
            figures.written(exactly(now.cost_microusd)),
            against(now.cost_microusd, before.cost_microusd if before else None),
            _cost_notes(now, language),
        ),
        _first_token(now, before, earlier, language),
    ]


def _tokens(now: Sums, compared: str, language: Language) -> Tile:
    """Return the tokens in and out, and how much of them is an estimate."""
    texts, figures = language.texts, language.figures
    prompt, completion = now.prompt_tokens, now.completion_tokens
    estimated, part = now.estimated_requests, figures.share(now.estimated_tokens, now.tokens)
    return Tile(
        texts.usage.tokens_in_out,
        fill(
            texts.usage.in_out, prompt=figures.short(prompt), completion=figures.short(completion)
        ),
        fill(
            texts.usage.in_out_exact,
            prompt=figures.count(prompt),
            completion=figures.count(completion),
        ),
        compared,
        language.plural(texts.usage.estimated_of_tokens, estimated, share=part)
        if estimated
        else "",
    )


def _cost_notes(now: Sums, language: Language) -> str:
    """Return how much of the cost is an estimate, and how many requests are not in it."""
    texts, figures = language.texts, language.figures
    notes = []
    if now.estimated_cost_microusd:
        part = figures.share(now.estimated_cost_microusd, now.cost_microusd)
        cost = figures.written(rounded(now.estimated_cost_microusd))
        notes.append(fill(texts.usage.estimated_cost, cost=cost, share=part))
    if now.unpriced_requests:
        notes.append(language.plural(texts.usage.unknown_price, now.unpriced_requests))
    return " · ".join(notes)


def _first_token(now: Sums, before: Sums | None, earlier: Earlier, language: Language) -> Tile:
    """Return the time to the first token: the 95th percentile if known, else the mean."""
    texts, figures = language.texts, language.figures
    label, value = texts.usage.ttft_p95, now.ttft_p95_ms
    other = before.ttft_p95_ms if before else None
    if value is None:
        label, value = texts.usage.ttft_mean, now.mean_ttft_ms
        other = before.mean_ttft_ms if before else None
    if value is None:
        return Tile(texts.usage.ttft, NONE, "", "", texts.usage.no_answers)
    return Tile(
        label,
        figures.duration(value),
        figures.ms.format(value=figures.count(value)),
        earlier.compare(figures.change(value, other or 0), language),
        language.plural(texts.usage.over_answers, now.ttft_count),
    )
