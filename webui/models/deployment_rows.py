"""Format models and their deployments for the owner: configuration, state and figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from server.shapes.health_object import DeploymentHealth, ModelHealthObject
from webui.shell.figures import NONE, count, duration, plural, share, short
from webui.shell.health_words import reason_of
from webui.shell.texts import languages
from workers.catalog.catalog import Deployment, Model, Prices
from workers.money import in_full

PROVIDERS = {"openai": "OpenAI format", "anthropic": "Anthropic format", "google": "Google format"}


class DeploymentView(NamedTuple):
    """A deployment for display; `mark` is the colour of its dot. `secret` is what it needs."""

    id: str
    name: str
    state: str
    mark: str
    secret: str
    missing: str
    upstream: str
    wire: str
    order: str
    room: str
    last_hour: str
    can_try: bool


class ModelView(NamedTuple):
    """A model for display. `anchor` is the id of its section on the page."""

    anchor: str
    id: str
    name: str
    maker: str
    state: str
    mark: str
    facts: Sequence[tuple[str, str, str]]
    deployments: Sequence[DeploymentView]


def model_view(number: int, model: Model, health: ModelHealthObject) -> ModelView:
    """Return a model for display; `number` is its place on the page."""
    known = {one.id: one for one in health.deployments}
    shown = [deployment_view(model, one, known[one.id]) for one in model.deployments]
    state, mark = model_state(model, health)
    return ModelView(
        anchor=f"model-{number}",
        id=model.id,
        name=model.name,
        maker=model.owned_by,
        state=state,
        mark=mark,
        facts=_facts(model, health),
        deployments=shown,
    )


def model_state(model: Model, health: ModelHealthObject) -> tuple[str, str]:
    """Return in words whether a model can be used, and the colour of its dot."""
    live = [one for one in health.deployments if one.state != "off"]
    if not live:
        return "Not configured", ""
    ready = [one for one in live if one.state != "cooling"]
    if not ready:
        return "Down: every deployment is cooling down", "bad"
    if health.failing:
        return "Many requests fail", "warn"
    if model.served_by_demo:
        return "Demo answers only", "warn"
    if len(ready) < len(live):
        return f"Available by {len(ready)} of {plural(len(live), 'deployment')}", "warn"
    return "Available", "good"


def deployment_view(model: Model, one: Deployment, health: DeploymentHealth) -> DeploymentView:
    """Return a deployment for display, without anything secret."""
    state, mark = deployment_state(one, health)
    return DeploymentView(
        id=one.id,
        name=one.id.removeprefix(f"{model.id}@"),
        state=state,
        mark=mark,
        secret="" if one.demo else _secret(one),
        missing=" and ".join(one.missing_variables),
        upstream=one.upstream_model,
        wire=f"{PROVIDERS.get(one.provider, one.provider)} at {_host(one.base_url)}"
        if not one.demo
        else "Built-in demo",
        order=count(one.order),
        room=count(one.max_concurrency),
        last_hour=_last_hour(health),
        can_try=one.live,
    )


def deployment_state(one: Deployment, health: DeploymentHealth) -> tuple[str, str]:
    """Return what a deployment does now, and the colour of its dot."""
    if not one.supported:
        return f"Not supported: this version cannot speak {one.provider}", ""
    if not one.live:
        return "Not configured", ""
    if health.state == "cooling":
        wait = _wait(health.cooling_s or 0.0)
        return f"Cooling down, used again in {wait}: {_cause(health)}", "bad"
    if health.state == "probing":
        return f"Trying again after: {_cause(health)}", "warn"
    if health.failures:
        return f"OK, but the last {plural(health.failures, 'attempt')} failed", "warn"
    busy = f", {count(health.busy)} active" if health.busy else ""
    return f"OK{busy}", "good"


def _last_hour(health: DeploymentHealth) -> str:
    if not health.requests:
        return "not used in the last hour"
    parts = [plural(health.requests, "request")]
    if health.ttft_ms is not None:
        parts.append(f"{duration(health.ttft_ms)} to first token")
    if health.tokens_per_s:
        parts.append(f"{health.tokens_per_s:,.0f} tokens/s")
    return f"last hour: {', '.join(parts)}"


def _cause(health: DeploymentHealth) -> str:
    return reason_of(health.reason, languages()["en"])


def _wait(wait_s: float) -> str:
    whole = math.ceil(wait_s)
    return f"{whole} s" if whole < 100 else f"{math.ceil(whole / 60)} min"


def _secret(one: Deployment) -> str:
    """Return which variables a deployment reads and whether they are set; never a value."""
    if one.missing_variables:
        return ""
    return f"{one.secret_env} is set" if one.secret_env else "No secret needed"


def _host(base_url: str) -> str:
    """Return the host of a base URL: user names, passwords and queries may be secret."""
    parts = urlsplit(base_url)
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"{parts.hostname or 'an unknown host'}{port}"


def _facts(model: Model, health: ModelHealthObject) -> list[tuple[str, str, str]]:
    """Return the facts of a model: label, figure and the figure in full."""
    failed = share(health.failures, health.requests) if health.requests else ""
    return [
        ("Context", short(model.context_window), f"{count(model.context_window)} tokens"),
        ("Max. answer", short(model.max_output_tokens), f"{count(model.max_output_tokens)} tokens"),
        ("Price per 1M tokens", *_price(model.prices)),
        ("Input", ", ".join(model.input_modalities), ""),
        (
            "First token, last hour",
            duration(health.ttft_ms) if health.ttft_ms is not None else NONE,
            "Median of streamed answers",
        ),
        (
            "Speed, last hour",
            f"{health.tokens_per_s:,.0f} tokens/s" if health.tokens_per_s else NONE,
            "Median of streamed answers",
        ),
        (
            "Requests, last hour",
            f"{count(health.requests)}, {failed} failed" if failed else "0",
            "",
        ),
    ]


def _price(prices: Prices | None) -> tuple[str, str]:
    if prices is None:
        return "Unknown", "Keys with a budget cannot use this model. State its price in roxy.toml."
    text = f"{in_full(prices.prompt)} in, {in_full(prices.completion)} out"
    more = []
    if prices.cached_prompt is not None:
        more.append(f"{in_full(prices.cached_prompt)} for cached input")
    more += [
        f"{in_full(tier.prompt)} in, {in_full(tier.completion)} out above"
        f" {short(tier.above_prompt_tokens)} tokens"
        for tier in prices.tiers
    ]
    return text, "; ".join(more)
