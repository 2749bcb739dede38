"""Decide what a request is charged, from what it reserved and how it ended.

Reported usage is charged as reported. A count that an upstream did not report is estimated: from a
quarter of the bytes; money from the same, but for a key with a budget from one token a byte, within
what was reserved, so that a client cannot pass its budget by leaving before the report. The tokens
that the money is made of are in the usage row, so that whoever pays can check the sum.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from workers.request.token_usage import BYTES_PER_TOKEN, Usage
from workers.units import MILLION

if TYPE_CHECKING:
    from server.accounting.admission import Lease
    from workers.run.job import Outcome

UNSEEN_TOKENS_PER_S = 200
"""How fast a model is taken to think, or to write what comes in one piece, by the second: faster
than most. It counts where a client leaves, unless the text that was seen is longer, and only until
a deployment was seen to be faster (`Speeds`)."""
MAX_TOKENS_PER_S = 10_000.0
"""No model is faster; an answer that comes from the upstream's cache seems to be."""
MEASURED_TOKENS = 100
"""Shorter answers say little about the speed: most of their time passes before the first token."""
FADING = 0.98
"""What each measured answer leaves of a higher speed: an exception is forgotten after some."""
MAX_BYTES_PER_TOKEN = 8
"""Text with more bytes than this a token is not yet in a report that came before its end."""


class Charge(NamedTuple):
    """What one request is charged; `usage` None: nothing, `cost_microusd` None: price unknown.

    `paid` are the tokens that the cost is made of, where they are others than in `usage`: money
    is estimated more carefully than tokens. `unseen_tokens` count for a limit besides the usage:
    what a model may have written that the gateway has not seen.
    """

    usage: Usage | None = None
    cost_microusd: int | None = 0
    estimated: bool = False
    unseen_tokens: int = 0
    paid: Usage | None = None

    @property
    def tokens(self) -> int:
        """The tokens that count for a limit."""
        usage = self.usage
        seen = (usage.prompt_tokens or 0) + (usage.completion_tokens or 0) if usage else 0
        return seen + self.unseen_tokens


class UpstreamReport(NamedTuple):
    """What an upstream has reported of its answer.

    `begun_tokens` are the completion tokens of a report that came before the end: at least so many.
    """

    usage: Usage | None
    stated_cost_microusd: int | None
    begun_tokens: int = 0


class Guessed(NamedTuple):
    """What no upstream has reported: whole prompts, and the likely and the most tokens of text."""

    prompts: int
    tokens: int
    max_tokens: int


class Estimate(NamedTuple):
    """The tokens that a request is charged for, besides what was reported, and their cost."""

    prompt_tokens: int
    completion_tokens: int
    cost_microusd: int


FREE = Charge()
NOTHING = Usage()


class Speeds:
    """How many tokens a second each deployment writes, from whole answers that it has reported."""

    def __init__(self) -> None:
        self._by_deployment: dict[str, float] = {}

    def note(self, outcome: Outcome) -> None:
        """Learn from an answer that has ended well."""
        usage, deployment = outcome.usage, outcome.deployment
        if usage is None or deployment is None or outcome.ending != "finished":
            return
        tokens = usage.completion_tokens or 0
        if tokens < MEASURED_TOKENS:
            return
        took_s = max(outcome.duration_s - outcome.queued_s, 0.001)
        speed = min(tokens / took_s, MAX_TOKENS_PER_S)
        known = self._by_deployment.get(deployment, 0.0)
        self._by_deployment[deployment] = max(speed, known * FADING)

    def tokens_per_s(self, deployment: str | None) -> float:
        """Return how fast a deployment may be writing what is not seen."""
        return max(self._by_deployment.get(deployment or "", 0.0), UNSEEN_TOKENS_PER_S)


def charge_for(lease: Lease, outcome: Outcome, tokens_per_s: float = UNSEEN_TOKENS_PER_S) -> Charge:
    """Return the charge for a request that has ended; `tokens_per_s` is its deployment's speed.

    A request that failed or was refused got no content and is free, except for prompts on which an
    upstream worked until the gateway's clock ran out, and for what upstreams report all the same.
    Of one that ended otherwise, the prompt counts once it was sent, and all text that was
    generated.
    """
    charge = _charge_for_answer(lease, outcome, tokens_per_s)
    if not outcome.failed_uses:
        return charge
    usage, cost_microusd, paid = charge.usage, charge.cost_microusd, charge.paid
    for use in outcome.failed_uses:
        usage = use.usage if usage is None else _sum(usage, use.usage)
        paid = None if paid is None else _sum(paid, use.usage)
        added = _cost_microusd(lease, use.usage, use.stated_cost_microusd)
        if added is not None:
            cost_microusd = added + (cost_microusd or 0)
        elif charge is FREE:
            cost_microusd = None
    return charge._replace(usage=usage, cost_microusd=cost_microusd, paid=paid)


def _charge_for_answer(lease: Lease, outcome: Outcome, tokens_per_s: float) -> Charge:
    usage, lost = outcome.usage, outcome.timed_out_prompts
    has_text = outcome.output_bytes > 0
    if (
        outcome.ending == "finished"
        and usage is not None
        and not lost
        and not usage.is_missing_any(has_text)
    ):  # nearly all requests; below, the same rules lead to the same charge
        return Charge(usage, _cost_microusd(lease, usage, outcome.stated_cost_microusd))
    answered = _has_answered(outcome)
    if not answered and not lost:
        return FREE
    report = (
        _report(outcome, lease.choices)
        if answered
        else UpstreamReport(None, outcome.stated_cost_microusd)
    )
    usage = report.usage
    if usage is not None and not lost and not usage.is_missing_any(has_text):
        return Charge(usage, _cost_microusd(lease, usage, report.stated_cost_microusd))
    return _estimated_charge(lease, outcome, report, tokens_per_s, answered=answered)


def _has_answered(outcome: Outcome) -> bool:
    """Return whether an upstream has worked on the request without refusing it or failing."""
    if outcome.ending in ("refused", "failed"):
        return False
    return (
        outcome.ending == "finished"
        or outcome.prompt_sent
        or outcome.output_bytes > 0
        or outcome.usage is not None
    )


def _report(outcome: Outcome, choices: int) -> UpstreamReport:
    """Return what was reported of an answer, without counts that are only of its beginning."""
    usage = outcome.usage
    if usage is None or not _is_of_beginning(outcome, usage, choices):
        return UpstreamReport(usage, outcome.stated_cost_microusd)
    prompt_only = replace(usage, completion_tokens=None, total_tokens=None)
    return UpstreamReport(prompt_only, None, usage.completion_tokens or 0)


def _estimated_charge(
    lease: Lease, outcome: Outcome, report: UpstreamReport, tokens_per_s: float, *, answered: bool
) -> Charge:
    """Return the charge where counts are missing; `answered`: see `_has_answered`."""
    reported, stated = report.usage or NOTHING, report.stated_cost_microusd
    lost, output_bytes = outcome.timed_out_prompts, outcome.output_bytes if answered else 0
    if reported.prompt_tokens is None and reported.total_tokens:
        reported = reported.filled(lease.prompt_estimate, _tokens(output_bytes))
    prompts = lost + (answered and outcome.prompt_sent and reported.prompt_tokens is None)
    text_is_missing = not reported.completion_tokens
    text_bytes = output_bytes if text_is_missing else 0
    tokens = max(_tokens(text_bytes), report.begun_tokens)
    usage = _with(reported, prompts * lease.prompt_estimate, tokens)
    unseen = 0
    if answered and text_is_missing and (outcome.ending == "cancelled" or not output_bytes):
        unseen = _unseen_tokens(outcome, tokens_per_s)
    unseen_tokens = 0 if output_bytes else _unseen_within_limit(lease, unseen, usage)
    guessed = Guessed(prompts, tokens, max(tokens, text_bytes, unseen))
    if stated is not None:  # it covers all but the attempts that timed out before
        reported, guessed = NOTHING, Guessed(lost, 0, 0)
    known = _cost_microusd(lease, reported, stated)
    estimate = _estimate(lease, guessed, known or 0)
    if estimate is None:
        return Charge(usage, known, estimated=True, unseen_tokens=unseen_tokens)
    money = (known or 0) + estimate.cost_microusd
    paid = None if stated is not None else _paid(lease, reported, estimate)
    return Charge(usage, money, estimated=True, unseen_tokens=unseen_tokens, paid=paid)


def _is_of_beginning(outcome: Outcome, reported: Usage, choices: int) -> bool:
    """Return whether a report counts less than what was generated: more reports would follow.

    Some upstreams report the prompt and a token or none at the beginning, and the rest at the end.
    Reports of vLLM and SGLang from before the end are those of one choice each.
    """
    if outcome.ending == "finished" or outcome.complete:
        return False
    counted = (reported.completion_tokens or 0) * MAX_BYTES_PER_TOKEN
    return counted < outcome.output_bytes * choices or outcome.output_bytes == 0


def _unseen_tokens(outcome: Outcome, tokens_per_s: float) -> int:
    if outcome.ending == "finished":
        return 0
    return math.ceil((outcome.duration_s - outcome.queued_s) * tokens_per_s)


def _unseen_within_limit(lease: Lease, unseen: int, usage: Usage) -> int:
    """Return the unseen tokens that a token limit counts: no more than were reserved."""
    taken = lease.taken
    if taken is None or not taken.tokens:
        return 0
    seen = (usage.prompt_tokens or 0) + (usage.completion_tokens or 0)
    return max(0, min(unseen, taken.tokens - seen))


def _tokens(text_bytes: int) -> int:
    return -(-text_bytes // BYTES_PER_TOKEN)


def _sum(first: Usage, second: Usage) -> Usage:
    """Add two usages up; a count that neither has stays unknown."""
    pairs = ((getattr(first, name), getattr(second, name)) for name in first.__struct_fields__)
    return Usage(*((old or 0) + (new or 0) if old or new else old for old, new in pairs))


def _with(reported: Usage, prompt_tokens: int, completion_tokens: int) -> Usage:
    return Usage(
        (reported.prompt_tokens or 0) + prompt_tokens,
        (reported.completion_tokens or 0) + completion_tokens,
        None,
        reported.cached_tokens,
        reported.cache_write_tokens,
        reported.reasoning_tokens,
    )


def _estimate(lease: Lease, guessed: Guessed, known_microusd: int) -> Estimate | None:
    """Return what is charged for what no upstream has reported; None: the price is unknown.

    A key with a budget pays at most what it reserved, of which `known_microusd` are spent.
    """
    prices, taken = lease.model.prices, lease.taken
    if prices is None:
        return None
    if taken is None or not _has_budget(lease):
        tokens = guessed.prompts * lease.prompt_estimate
        cost_microusd = prices.cost_microusd(Usage(tokens, guessed.tokens))
        return Estimate(tokens, guessed.tokens, cost_microusd)
    bound = min(lease.prompt_bound, lease.model.context_window)
    prompt_price, answer_price = prices.dearest(bound)
    prompt_tokens, answer_tokens = guessed.prompts * bound, guessed.max_tokens
    room = max(0, taken.cost_microusd - known_microusd) * MILLION
    if prompt_tokens * prompt_price > room:
        prompt_tokens = room // prompt_price
    room -= prompt_tokens * prompt_price
    if answer_tokens * answer_price > room:
        answer_tokens = room // answer_price
    cost = prompt_tokens * prompt_price + answer_tokens * answer_price
    return Estimate(prompt_tokens, answer_tokens, -(-cost // MILLION))


def _paid(lease: Lease, reported: Usage, estimate: Estimate) -> Usage | None:
    """Return the tokens that the cost of a key with a budget is made of."""
    prices = lease.model.prices
    if prices is None or not _has_budget(lease):
        return None
    paid = _with(reported, estimate.prompt_tokens, estimate.completion_tokens)
    if (prices.cache_write_prompt or 0) > prices.prompt:  # the dearer price was taken
        written = (reported.cache_write_tokens or 0) + estimate.prompt_tokens
        paid = replace(paid, cache_write_tokens=written)
    return paid


def _has_budget(lease: Lease) -> bool:
    return lease.taken is not None and lease.taken.cost_microusd > 0


def _cost_microusd(lease: Lease, usage: Usage, stated_microusd: int | None) -> int | None:
    if stated_microusd is not None:
        return stated_microusd
    prices = lease.model.prices
    return prices.cost_microusd(usage) if prices is not None else None
