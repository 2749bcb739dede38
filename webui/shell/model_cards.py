"""Format a model for the cards of the chat and of the documentation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from webui.shell.figures import short
from workers.units import MILLION

WHOLE_BAR = 1 << 20
"""The context that fills the bar of a card in the chat."""
STOP = re.compile(r"[:.;,](?:\s|$)")
"""Where the first part of a description ends."""


class Price(NamedTuple):
    """Dollars per million tokens."""

    prompt: str
    completion: str


class ModelCard(NamedTuple):
    """The texts of a card.

    `best_at` is the first part of `description`, for a narrow card.
    `bar` and `share` are parts of 1: the context on a square-root scale, and of a million tokens.
    `state` is "" for a model that is available, `tone` the class of its badge. `health` has `mark`,
    `words` and `about`, None when the model has not been measured.
    """

    id: str
    name: str
    maker: str
    description: str
    best_at: str
    context: str
    context_tokens: int
    bar: float
    share: float
    output: str
    price: Price | None
    takes_images: bool
    is_available: bool
    is_allowed: bool
    state: str
    tone: str
    health: Mapping[str, str] | None

    @property
    def option(self) -> str:
        """Return the name for a list of choices, with what prevents or limits the model's use."""
        note = "not allowed" if self.is_available and not self.is_allowed else self.state
        return f"{self.name} ({note})" if note else self.name


def model_card(model: Mapping[str, Any]) -> ModelCard:
    """Return the card of a model as `describe_card` describes it."""
    context, prices = model["context_window"], model["prices"]
    demo = "demo" if model["demo"] else ""
    return ModelCard(
        id=model["id"],
        name=model["name"],
        maker=model["maker"],
        description=model["description"],
        best_at=best_at(model["description"]),
        context=short(context),
        context_tokens=context,
        bar=round((context / WHOLE_BAR) ** 0.5, 3),
        share=round(min(context / MILLION, 1), 3),
        output=short(model["max_output_tokens"]),
        price=Price(_dollars(prices["prompt"]), _dollars(prices["completion"])) if prices else None,
        takes_images="image" in model["modalities"]["input"],
        is_available=model["available"],
        is_allowed=model.get("allowed", True),
        state=demo if model["available"] else "not configured",
        tone="" if model["available"] else "warn",
        health=model["health"],
    )


def best_at(description: str) -> str:
    """Return what a model is best at, from its description: the part before the first stop."""
    short_form = STOP.split(description.strip(), maxsplit=1)[0].removeprefix("Best at ")
    return short_form[:1].upper() + short_form[1:]


def _dollars(price: float) -> str:
    return f"${price:.2f}"
