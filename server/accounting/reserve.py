"""Decide what a request may use at most: this is reserved, and the upstream gets it as a cap.

A limit on tokens or money holds only if the answer has a cap that the upstream obeys, so one is
written into the request of every key that has such a limit: the client's own, or else the model's
maximum, or else a share of what the limit still allows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from workers.units import MILLION

if TYPE_CHECKING:
    from server.accounting.counters import Standing
    from workers.catalog.catalog import Model, Prices
    from workers.request.chat_request import ChatRequest

SMALL_ANSWER_TOKENS = 1024
"""Up to this many tokens, one answer may take all that a limit still allows."""


class Reserve(NamedTuple):
    """Tokens and micro-dollars that one request may use at most, with `cap` tokens per choice."""

    tokens: int
    cost_microusd: int
    cap: int


def reserve_for(
    request: ChatRequest,
    model: Model,
    prices: Prices | None,
    standing: Standing,
) -> Reserve:
    """Return what to reserve for a request of a key whose limits stand at `standing`.

    `prices` is None where no budget depends on them. Money is bounded by one token a byte within
    the model's context window; tokens per minute count a quarter of that, which is nearer to the
    usage that they are settled with. A limit that allows nothing yields a cap of 1, which the
    counters then refuse.
    """
    n = request.n
    prompt_bound = min(request.prompt_bound, model.context_window)
    prompt_estimate = request.prompt_estimate
    # Parts of a prediction that the answer does not take are paid too, whatever its cap is.
    predicted = n * min(request.predicted_bound, model.context_window)
    cap = request.max_output_tokens
    if cap is None:
        allowed = [model.max_output_tokens]
        if standing.tokens is not None:
            allowed.append(_share((standing.tokens.remaining - prompt_estimate) // n))
        if prices is not None and standing.budget is not None:
            left = standing.budget.left_microusd - prices.worst_case_microusd(
                prompt_bound, predicted
            )
            per_million = prices.worst_case_microusd(prompt_bound, MILLION) - (
                prices.worst_case_microusd(prompt_bound, 0)
            )
            if per_million:
                allowed.append(_share(left * MILLION // per_million // n))
        cap = max(1, min(allowed))
    cost_microusd = 0
    if prices is not None:
        cost_microusd = prices.worst_case_microusd(prompt_bound, n * cap + predicted)
    return Reserve(prompt_estimate + n * cap, cost_microusd, cap)


def _share(left: int) -> int:
    """Return the share of what is left that a request without a cap of its own gets.

    Half, so that it does not keep all other requests of its key waiting until it ends; but all of
    little, so that it is not cut without need.
    """
    return max(left // 2, min(left, SMALL_ANSWER_TOKENS))
