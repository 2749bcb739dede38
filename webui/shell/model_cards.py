"""Format a model for the cards of the chat and of the documentation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from webui.shell.figures import Figures
from webui.shell.texts import DEFAULT, Language, fill, languages
from workers.units import MILLION

WHOLE_BAR = 1 << 20
"""The context that fills the bar of a card in the chat."""
PRAISE = re.compile(r"^best at ", re.IGNORECASE)
"""A beginning of descriptions that says nothing on a card."""
STOP = re.compile(r"[:.;,](?:\s|$)|[\u3002\uff1a\uff1b\u3001]")
"""Where the first part of a description ends."""


class Price(NamedTuple):
    """Dollars per million tokens."""

    prompt: str
    completion: str


class ModelCard(NamedTuple):
    """The texts of a card.

    `best_at` is a brief form of `description`, for a narrow card.
    `bar` and `share` are parts of 1: the context on a square-root scale, and of a million tokens.
    `state` is "" for a model that is available, `tone` the class of its badge. `health` has `mark`,
    `words` and `about`, None when the model has not been measured. `option` is the name for
    a list of choices, with what prevents or limits the model's use.
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
    option: str


def model_card(model: Mapping[str, Any], language: Language) -> ModelCard:
    """Return the card of a model as `describe_card` describes it."""
    context, prices = model["context_window"], model["prices"]
    texts, figures = language.texts, language.figures
    is_available, is_allowed = model["available"], model.get("allowed", True)
    state = (
        texts.health.not_configured
        if not is_available
        else texts.health.demo
        if model["demo"]
        else ""
    )
    note = texts.health.not_allowed if is_available and not is_allowed else state
    return ModelCard(
        id=model["id"],
        name=model["name"],
        maker=model["maker"],
        description=model["description"],
        best_at=model["best_at"],
        context=figures.short(context),
        context_tokens=context,
        bar=round((context / WHOLE_BAR) ** 0.5, 3),
        share=round(min(context / MILLION, 1), 3),
        output=figures.short(model["max_output_tokens"]),
        price=_price(prices, figures) if prices else None,
        takes_images="image" in model["modalities"]["input"],
        is_available=is_available,
        is_allowed=is_allowed,
        state=state,
        tone="" if is_available else "warn",
        health=model["health"],
        option=fill(texts.health.option, name=model["name"], note=note) if note else model["name"],
    )


def _price(prices: Mapping[str, float], figures: Figures) -> Price:
    dollars = (figures.written(f"{prices[part]:.2f}") for part in ("prompt", "completion"))
    return Price(*(f"${figure}" for figure in dollars))


class Purpose(NamedTuple):
    """What a model is best at: in a sentence, and in a few words for a narrow card."""

    whole: str
    brief: str


def purpose(description: str, language: Language) -> Purpose:
    """Return the purpose that a description gives.

    The built-in catalog describes its models in English, for the API; the texts have these
    sentences in every language. What the owner has written stays as it is.
    """
    name = _known().get(description)
    if name is None:
        return Purpose(description, best_at(description))
    return Purpose(**language.groups["purposes"][name])


def best_at(description: str) -> str:
    """Return what a model is best at, from its description: the part before the first stop."""
    first_part = STOP.split(description.strip(), maxsplit=1)[0]
    short_form = PRAISE.sub("", first_part)
    return short_form[:1].upper() + short_form[1:]


@cache
def _known() -> dict[str, str]:
    """Return the names of the texts by their sentences in English."""
    texts = languages()[DEFAULT].groups["purposes"]
    return {forms["whole"]: name for name, forms in texts.items()}
