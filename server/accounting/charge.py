"""Decide what a request is charged, from what it reserved and how it ended.

Reported usage is charged as reported. A count that an upstream did not report is estimated: from a
quarter of the bytes; money from the same, but for a key with a budget from one token a byte, within
what was reserved, so that a client cannot pass its budget by leaving before the report.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from workers.request.token_usage import BYTES_PER_TOKEN, Usage

if TYPE_CHECKING:
    from server.accounting.admission import Lease
    from workers.run.job import Outcome

UNSEEN_TOKENS_PER_S = 200
"""How fast a model is taken to think, or to write an answer that comes in one piece, by the second:
faster than most. It counts only where a client leaves before it has seen any text."""


class Charge(NamedTuple):
    """What one request is charged; `usage` None: nothing, `cost_microusd` None: price unknown."""

    usage: Usage | None = None
    cost_microusd: int | None = 0
    estimated: bool = False

    @property
    def tokens(self) -> int:
        """The tokens that count for a limit."""
        usage = self.usage
        return (usage.prompt_tokens or 0) + (usage.completion_tokens or 0) if usage else 0


FREE = Charge()
NOTHING = Usage()


def charge_for(lease: Lease, outcome: Outcome) -> Charge:
    """Return the charge for a request that has ended.

    A request that failed or was refused got no content and is free, except for prompts on which an
    upstream worked until the gateway's clock ran out. Of one that ended otherwise, the prompt
    counts once it was sent, and all text that was generated.
    """
    answered = outcome.ending not in ("refused", "failed") and (
        outcome.ending == "finished"
        or outcome.prompt_sent
        or outcome.output_bytes > 0
        or outcome.usage is not None
    )
    lost = outcome.timed_out_prompts
    reported = outcome.usage if answered else None
    has_text = answered and outcome.output_bytes > 0
    if reported is not None and not lost and not reported.is_missing_any(has_text):
        return Charge(reported, _cost_microusd(lease, reported))
    if not answered and not lost:
        return FREE
    if reported is not None and reported.prompt_tokens is None and reported.total_tokens:
        reported = reported.filled(lease.prompt_estimate, _tokens(outcome.output_bytes))
    prompt_is_missing = reported is None or reported.prompt_tokens is None
    prompts = lost + (answered and outcome.prompt_sent and prompt_is_missing)
    text_is_missing = reported is None or not reported.completion_tokens
    text_bytes = outcome.output_bytes if answered and text_is_missing else 0
    usage = _with(reported or NOTHING, prompts * lease.prompt_estimate, _tokens(text_bytes))
    unseen = 0
    if answered and text_is_missing and not has_text and outcome.ending != "finished":
        unseen = math.ceil((outcome.duration_s - outcome.queued_s) * UNSEEN_TOKENS_PER_S)
    most_tokens = max(text_bytes, unseen)
    cost_microusd = _estimated_microusd(lease, reported, usage, prompts, most_tokens)
    return Charge(usage, cost_microusd, estimated=True)


def _tokens(text_bytes: int) -> int:
    return -(-text_bytes // BYTES_PER_TOKEN)


def _with(reported: Usage, prompt_tokens: int, completion_tokens: int) -> Usage:
    return Usage(
        (reported.prompt_tokens or 0) + prompt_tokens,
        (reported.completion_tokens or 0) + completion_tokens,
        None,
        reported.cached_tokens,
        reported.cache_write_tokens,
        reported.reasoning_tokens,
    )


def _estimated_microusd(
    lease: Lease, reported: Usage | None, usage: Usage, prompts: int, most_tokens: int
) -> int | None:
    """Return the cost of a charge that is an estimate, in part at least."""
    prices, taken = lease.model.prices, lease.taken
    if prices is None:
        return None
    if taken is None or not taken.cost_microusd:
        return prices.cost_microusd(usage)
    known = prices.cost_microusd(reported) if reported is not None else 0
    bound = min(lease.prompt_bound, lease.model.context_window)
    most = known + prompts * prices.worst_case_microusd(bound, 0)
    most += prices.worst_case_microusd(bound, most_tokens) - prices.worst_case_microusd(bound, 0)
    return max(known, min(most, taken.cost_microusd))


def _cost_microusd(lease: Lease, usage: Usage) -> int | None:
    prices = lease.model.prices
    return prices.cost_microusd(usage) if prices is not None else None
