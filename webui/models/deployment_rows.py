"""Format models and their deployments for the owner: configuration, state and figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from server.shapes.health_object import DeploymentHealth, ModelHealthObject
from webui.shell.figures import NONE
from webui.shell.health_words import failure_words, reason_of
from webui.shell.texts import Language, fill
from workers.catalog.catalog import Deployment, Model, Prices
from workers.catalog.makers import maker_name
from workers.money import in_full
from workers.providers.formats import lacks_version
from workers.run.deployment_state import LastFailure


class DeploymentView(NamedTuple):
    """A deployment for display; `mark` is the colour of its dot. `secret` is what it needs.

    `failure` is how its last request has failed, `details` the provider's own words about it.
    `hint` is what may be wrong with its address; `is_lost`: nothing was found there.
    """

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
    failure: str
    details: str
    hint: str
    is_lost: bool


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


def model_view(
    number: int, model: Model, health: ModelHealthObject, language: Language
) -> ModelView:
    """Return a model for display; `number` is its place on the page."""
    known = {one.id: one for one in health.deployments}
    deployments = sorted(model.deployments, key=lambda one: one.order)  # as they are tried
    shown = [deployment_view(model, one, known[one.id], language) for one in deployments]
    state, mark = model_state(model, health, language)
    return ModelView(
        anchor=f"model-{number}",
        id=model.id,
        name=model.name,
        maker=maker_name(model.owned_by),
        state=state,
        mark=mark,
        facts=_facts(model, health, language),
        deployments=shown,
    )


def model_state(model: Model, health: ModelHealthObject, language: Language) -> tuple[str, str]:
    """Return in words whether a model can be used, and the colour of its dot."""
    texts = language.texts
    live = [one for one in health.deployments if one.state != "off"]
    if not live:
        return texts.models.not_configured, ""
    ready = [one for one in live if one.state != "cooling"]
    if not ready:
        return texts.models.all_cooling, "bad"
    if health.failing:
        return texts.models.failing, "warn"
    if all(one.last_failure for one in ready):
        return texts.models.newest_failed, "warn"
    if model.served_by_demo:
        return texts.models.demo_only, "warn"
    if len(ready) < len(live):
        figure = language.figures.count(len(ready))
        return language.plural(texts.models.available_by, len(live), ready=figure), "warn"
    return texts.models.available, "good"


def deployment_view(
    model: Model, one: Deployment, health: DeploymentHealth, language: Language
) -> DeploymentView:
    """Return a deployment for display, without anything secret."""
    count = language.figures.count
    state, mark = deployment_state(one, health, language)
    return DeploymentView(
        id=one.id,
        name=one.id.removeprefix(f"{model.id}@"),
        state=state,
        mark=mark,
        secret="" if one.demo else _secret(one, language),
        missing=_listed(one.missing_variables, language),
        upstream=one.upstream_model,
        wire=language.texts.models.built_in if one.demo else _wire(one, language),
        order=count(one.order),
        room=count(one.max_concurrency),
        last_hour=_last_hour(health, language),
        can_try=one.live,
        failure=_failure(health.last_failure, language),
        details=health.last_failure.message or "" if health.last_failure is not None else "",
        hint=_address_hint(one, language),
        is_lost=health.last_failure is not None and health.last_failure.reason == "base_url",
    )


def deployment_state(
    one: Deployment, health: DeploymentHealth, language: Language
) -> tuple[str, str]:
    """Return what a deployment does now, and the colour of its dot."""
    texts, figures = language.texts, language.figures
    if not one.supported:
        return fill(texts.models.not_supported, provider=one.provider), ""
    if not one.live:
        return texts.models.not_configured, ""
    reason = reason_of(health.reason, language)
    if health.state == "cooling":
        wait = _wait(math.ceil(health.cooling_s or 0.0), language)
        return fill(texts.models.cooling, time=wait, reason=reason), "bad"
    if health.state == "probing":
        return fill(texts.models.probing, reason=reason), "warn"
    if health.failures:
        return language.plural(texts.models.last_failed, health.failures), "warn"
    if health.busy:
        return fill(texts.models.ok_busy, count=figures.count(health.busy)), "good"
    return texts.models.ok, "good"


def _failure(failure: LastFailure | None, language: Language) -> str:
    """Return how the last request has failed, or "" after a success."""
    if failure is None:
        return ""
    moment = language.figures.name_moment(failure.at)
    moment = fill(language.texts.requests.utc, moment=moment)
    reason = failure_words(failure.reason, failure.status, language)
    return fill(language.texts.models.last_request_failed, moment=moment, reason=reason)


def _address_hint(one: Deployment, language: Language) -> str:
    """Return what to correct when nothing is found at the address of a deployment, or ""."""
    lacks = lacks_version(one.provider, one.base_url)
    return str(language.texts.models.ends_in_version) if lacks else ""


def _wait(wait_s: int, language: Language) -> str:
    """Return a time to wait in words, rounded up: 99 seconds, 10 minutes."""
    texts = language.texts
    if wait_s < 100:
        return language.plural(texts.page.seconds, wait_s)
    return language.plural(texts.page.minutes, math.ceil(wait_s / 60))


def _listed(parts: Sequence[str], language: Language) -> str:
    """Return some parts as a list in words."""
    if not parts:
        return ""
    first, *rest = parts
    if not rest:
        return first
    return fill(language.texts.chat.list, first=first, rest=_listed(rest, language))


def _last_hour(health: DeploymentHealth, language: Language) -> str:
    texts = language.texts
    if not health.requests:
        return str(texts.models.not_used)
    parts = [language.plural(texts.usage.request_count, health.requests)]
    if health.ttft_ms is not None:
        time = language.figures.duration(health.ttft_ms)
        parts.append(fill(texts.health.first_token, time=time))
    if health.tokens_per_s:
        parts.append(_speed(health.tokens_per_s, language))
    return fill(texts.models.last_hour, figures=_listed(parts, language))


def _speed(tokens_per_s: float, language: Language) -> str:
    return fill(language.texts.page.speed, count=language.figures.count(round(tokens_per_s)))


def _secret(one: Deployment, language: Language) -> str:
    """Return which variables a deployment reads and whether they are set; never a value."""
    texts = language.texts
    if one.missing_variables:
        return ""
    if not one.secret_env:
        return str(texts.models.no_secret)
    return fill(texts.models.secret_set, variable=one.secret_env)


def _wire(one: Deployment, language: Language) -> str:
    """Return the format of an upstream and its host."""
    texts = language.texts
    known = {
        "openai": texts.models.openai_at,
        "anthropic": texts.models.anthropic_at,
        "google": texts.models.google_at,
    }
    host = _host(one.base_url) or texts.models.unknown_host
    return fill(known.get(one.provider, texts.models.other_at), provider=one.provider, host=host)


def _host(base_url: str) -> str:
    """Return the host of a base URL, or "": user names, passwords and queries may be secret."""
    parts = urlsplit(base_url)
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"{parts.hostname}{port}" if parts.hostname else ""


def _facts(
    model: Model, health: ModelHealthObject, language: Language
) -> list[tuple[str, str, str]]:
    """Return the facts of a model: label, figure and the figure in full."""
    texts, figures = language.texts, language.figures
    ttft = NONE if health.ttft_ms is None else figures.duration(health.ttft_ms)
    speed = _speed(health.tokens_per_s, language) if health.tokens_per_s else NONE
    return [
        (texts.models.context, *_tokens(model.context_window, language)),
        (texts.models.longest_answer, *_tokens(model.max_output_tokens, language)),
        (texts.models.price, *_price(model.prices, language)),
        (texts.models.input, _kinds(model.input_modalities, language), ""),
        (texts.models.first_token, ttft, texts.models.median),
        (texts.models.speed, speed, texts.models.median),
        (texts.models.requests, _requests(health, language), ""),
    ]


def _tokens(number: int, language: Language) -> tuple[str, str]:
    """Return a number of tokens, short and in full."""
    full = language.plural(language.texts.usage.token_count, number)
    return language.figures.short(number), full


def _kinds(modalities: Sequence[str], language: Language) -> str:
    """Return what a model takes, in words."""
    texts = language.texts
    known = {
        "text": texts.models.text,
        "image": texts.models.image,
        "audio": texts.models.audio,
        "video": texts.models.video,
        "file": texts.models.file,
    }
    return _listed([known.get(one, one) for one in modalities], language)


def _requests(health: ModelHealthObject, language: Language) -> str:
    figures = language.figures
    if not health.requests:
        return figures.count(0)
    share = figures.share(health.failures, health.requests)
    count = figures.count(health.requests)
    return fill(language.texts.models.requests_failed, count=count, share=share)


def _price(prices: Prices | None, language: Language) -> tuple[str, str]:
    """Return the prices of a model, and those of special cases, one on a line."""
    texts, figures = language.texts, language.figures
    if prices is None:
        return texts.models.price_unknown, texts.models.state_price
    prompt = figures.written(in_full(prices.prompt))
    completion = figures.written(in_full(prices.completion))
    usual = fill(texts.usage.in_out_exact, prompt=prompt, completion=completion)
    more = []
    if prices.cached_prompt is not None:
        cached = figures.written(in_full(prices.cached_prompt))
        more.append(fill(texts.models.cached_price, price=cached))
    more += [
        fill(
            texts.models.price_above,
            prompt=figures.written(in_full(tier.prompt)),
            completion=figures.written(in_full(tier.completion)),
            tokens=figures.short(tier.above_prompt_tokens),
        )
        for tier in prices.tiers
    ]
    return usual, "\n".join(more)
