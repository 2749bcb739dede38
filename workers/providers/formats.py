"""The wire formats that deployments can name: the translator and the probe of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

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

VERSION = re.compile(r"/v[0-9]+[a-z0-9]*(/|$)")


def lacks_version(provider: str, base_url: str) -> bool:
    """Return whether the path of an upstream lacks the `/v1` that OpenAI's format usually has."""
    return provider == "openai" and VERSION.search(urlsplit(base_url).path) is None


def address_hint(provider: str, base_url: str) -> str:
    """Return what to look at when nothing is found at the base URL of an upstream."""
    if lacks_version(provider, base_url):
        return "Its base_url should probably end in /v1."
    return "Check its base_url."
