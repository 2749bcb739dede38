"""Describe how well a model has answered in the last hour, and why a deployment is not used."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from server.accounting.admission import Admission
from server.answers.model_health import Health, ModelHealth
from server.identity.authentication import Principal
from server.shapes.model_object import model_object
from webui.shell.figures import Figures
from webui.shell.model_cards import purpose
from webui.shell.texts import Language, fill
from workers.catalog.catalog import Model
from workers.catalog.makers import maker_name

WORTH_SHOWING = 0.05
"""The share of failures from which on it is shown."""


class HealthWords(NamedTuple):
    """`mark` is the dot's colour as in `.state` of the pages, `about` the figures in full."""

    mark: str
    words: str
    about: str


def describe_card(
    model: Model,
    health: ModelHealth,
    language: Language,
    visitor: Principal | None = None,
    admission: Admission | None = None,
) -> dict[str, Any]:
    """Return a model as the API shows it, with its maker's name, and its health if it is available.

    What it is best at is in the visitor's language, also in brief (`best_at`).
    Prices are for those who have a key; what a model lacks (`missing`: variables) for the owner.
    With `admission` the longest answer is that of the visitor.
    """
    most = admission.max_output_tokens(visitor, model) if visitor and admission else None
    priced = visitor is not None and visitor.sees_costs
    described: dict[str, Any] = msgspec.to_builtins(
        model_object(model, priced=priced, max_output_tokens=most)
    )
    words = health_words(health.find(model.id), language) if described["available"] else None
    described["health"] = words._asdict() if words is not None else None
    described["maker"] = maker_name(model.owned_by)
    described["description"], described["best_at"] = purpose(model.description, language)
    is_owner = visitor is not None and visitor.is_owner
    lacks = is_owner and not described["available"]
    described["missing"] = model.missing_secrets() if lacks else ()
    return described


def sees(visitor: Principal | None, model: Model) -> bool:
    """Return True if a visitor sees a model: those without an upstream are for the owner."""
    return bool(model.live_deployments()) or (visitor is not None and visitor.is_owner)


def health_words(health: Health | None, language: Language) -> HealthWords | None:
    """Return a model's health in words, or None when there is nothing to report."""
    if health is None:
        return None
    texts, figures = language.texts, language.figures
    part = health.failures / health.requests
    share = figures.percent.format(value=f"{part * 100:.0f}")
    figure = {"count": figures.count(health.requests), "share": share}
    if health.ttft_ms is None:
        time, about, words = "", fill(texts.health.measured, **figure), ""
    else:
        time = first_token(health.ttft_ms, figures)
        about = fill(texts.health.measured_speed, **figure, time=time)
        words = fill(texts.health.first_token, time=time)
    if health.failing:
        return HealthWords("bad", texts.health.failing, about)
    if part >= WORTH_SHOWING and (words or health.failures > 1):
        form = texts.health.first_token_failed if words else texts.health.failed
        return HealthWords("warn", fill(form, time=time, share=share), about)
    return HealthWords("good", words, about) if words else None


def first_token(ttft_ms: int, figures: Figures) -> str:
    """Return a time to first token in words: 0.4 s, 12 s."""
    if ttft_ms < 100:
        return "<" + figures.s.format(value=figures.written("0.1"))
    figure = f"{ttft_ms / 1000:.1f}" if ttft_ms < 9_950 else f"{ttft_ms / 1000:.0f}"
    return figures.s.format(value=figures.written(figure))


def failure_words(reason: str | None, status: int | None, language: Language) -> str:
    """Return why an upstream has failed, with the status of its answer, if it sent one."""
    return reason_of(reason, language) + (f" (HTTP {status})" if status else "")


def reason_of(reason: str | None, language: Language) -> str:
    """Return the reason that the health API gives, in words."""
    texts = language.texts
    if reason is None:
        return str(texts.health.why_unknown)
    known = {
        "credentials": texts.health.why_credentials,
        "credit": texts.health.why_credit,
        "model": texts.health.why_model,
        "base_url": texts.health.why_base_url,
        "certificate": texts.health.why_certificate,
        "upstream_rate_limited": texts.health.why_upstream_rate_limited,
        "upstream_overloaded": texts.health.why_upstream_overloaded,
        "upstream_unavailable": texts.health.why_upstream_unavailable,
        "upstream_disconnected": texts.health.why_upstream_disconnected,
        "upstream_connect_timeout": texts.health.why_upstream_connect_timeout,
        "upstream_timeout": texts.health.why_upstream_timeout,
        "upstream_gap_timeout": texts.health.why_upstream_gap_timeout,
        "upstream_rejected": texts.health.why_upstream_rejected,
        "upstream_error": texts.health.why_upstream_error,
    }
    return str(known.get(reason) or reason.removeprefix("upstream_").replace("_", " "))
