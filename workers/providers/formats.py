"""List the wire formats that deployments can name, with the translator of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workers.catalog.catalog import Deployment, Model
from workers.providers.openai.openai_translator import OpenAITranslator
from workers.providers.translator import Translator
from workers.request.chat_request import ChatRequest

TRANSLATORS: Mapping[str, Callable[[ChatRequest, Model, Deployment, int], Translator]] = {
    "openai": OpenAITranslator,
}
"""By provider; called once per attempt with request, model, deployment and the largest event in
bytes."""
