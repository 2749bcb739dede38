"""The wire formats that deployments can name: the translator and the probe of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workers.catalog.catalog import Deployment, Model
from workers.providers.openai.openai_probe import openai_probe
from workers.providers.openai.openai_translator import OpenAITranslator
from workers.providers.probe import Probe
from workers.providers.translator import Translator
from workers.request.chat_request import ChatRequest

TRANSLATORS: Mapping[str, Callable[[ChatRequest, Model, Deployment, int], Translator]] = {
    "openai": OpenAITranslator,
}
"""By provider; called once per attempt with request, model, deployment and the largest event in
bytes."""

PROBES: Mapping[str, Callable[[Deployment], Probe]] = {
    "openai": openai_probe,
}
"""By provider: the request that shows whether the upstream of a deployment works."""
