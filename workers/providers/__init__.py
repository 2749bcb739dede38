"""Wire formats of upstreams: one translator per provider, made anew for every attempt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from workers.providers.openai.openai_translator import OpenAITranslator
from workers.providers.translator import Translator, UpstreamRequest
from workers.request.chat_request import ChatRequest

if TYPE_CHECKING:
    from workers.catalog.catalog import Deployment, Model

__all__ = ["TRANSLATORS", "Translator", "UpstreamRequest"]

TRANSLATORS: Mapping[str, Callable[[ChatRequest, Model, Deployment, int], Translator]] = {
    "openai": OpenAITranslator,
}
"""By provider; called with request, model, deployment and the largest event in bytes."""
