"""Choose the model that writes the titles of chats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def choose_title_model(models: Iterable[Mapping[str, Any]]) -> str:
    """Return the id of the cheapest model by its card, "" if there is none.

    Free models come first, models without a known price last. Those that fail at present are taken
    if there are no others, and those of the demo, whose titles are no more than the first words,
    only where every model is one.
    """
    fit = [model for model in models if _writes_titles(model)]
    return str(min(fit, key=_rank)["id"]) if fit else ""


def _writes_titles(model: Mapping[str, Any]) -> bool:
    kinds = model["modalities"]
    takes_text = "text" in kinds["input"] and "text" in kinds["output"]
    return bool(model["available"]) and takes_text


def _rank(model: Mapping[str, Any]) -> tuple[bool, bool, bool, float, str]:
    prices, health = model["prices"], model["health"]
    fails = health is not None and health["mark"] == "bad"
    cost = prices["prompt"] + prices["completion"] if prices is not None else 0.0
    return model["demo"], fails, prices is None, cost, model["id"]
