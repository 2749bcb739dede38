"""The documentation at /docs: made from the code's own routes, errors, settings and models."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, ClassVar

import msgspec

from server.auth import Principal, find_cookie
from server.handlers.models import may_use
from webui import docs_tables
from webui.docs_examples import STREAM_REQUEST
from webui.docs_parts import (
    LANGUAGES,
    Route,
    Section,
    Table,
    Values,
    highlighted,
    inline,
    markdown,
    prose,
    table,
)
from webui.docs_rest import for_the_owner, reference
from webui.docs_text import bounds, completions, first_steps
from webui.figures import short
from webui.model_cards import model_card
from webui.model_health import describe_card
from webui.pages import PageHandler, who
from workers.errors import InvalidRequest, ModelNotFound

LANGUAGE_COOKIE = "roxy_language"
SAFE_URL = re.compile(r"https?://[A-Za-z0-9._~:/@+\[\]-]+", re.ASCII)
"""What may stand in examples that people paste into a shell."""
MARKDOWN = "text/markdown; charset=utf-8"
GROUPS = (
    ("Start", ("quickstart", "streaming", "authentication", "models")),
    ("Chat", ("chat", "tools", "images", "queue", "kept")),
    ("Bounds", ("limits", "guests", "errors")),
    ("Owner", ("keys", "usage", "settings")),
    ("Reference", ("routes", "openapi", "notes")),
)
"""The table of contents."""


class DocumentedHandler(PageHandler):
    """What the page and its Markdown share: the models, the sections, what examples hold."""

    section: ClassVar[str] = "Docs"

    def models(self) -> list[dict[str, Any]]:
        """Describe every model, and whether the visitor may use it."""
        visitor = self.visitor() or Principal("guest", "")
        guest_models = tuple(self.services.config.guests.models)
        return [
            describe_card(model, self.services.health)
            | {"allowed": may_use(visitor, model.id, guest_models)}
            for model in self.services.catalog
        ]

    def values(self, models: list[dict[str, Any]]) -> Values:
        """Choose what the examples hold. Raises InvalidRequest, ModelNotFound."""
        base_url = self.base_url()
        if not SAFE_URL.fullmatch(base_url):
            raise InvalidRequest("The examples cannot be written for this Host.", param="Host")
        best = sorted(models, key=lambda one: (not one["allowed"], not one["available"]))
        asked = self.get_query_argument("model", "")
        if asked:
            best = [one for one in models if one["id"] == asked] + best
            if best[0]["id"] != asked:
                raise ModelNotFound("There is no such model here.")
        seeing = [one for one in best if "image" in one["modalities"]["input"]] or best
        return Values(
            base_url,
            best[0]["id"] if best else "model",
            seeing[0]["id"] if seeing else "model",
        )

    def sections(self, base_url: str) -> list[Section]:
        """Give the whole documentation."""
        config = self.services.config
        fields, routes = described(self.services.openapi())
        return [
            *first_steps(base_url),
            *completions(fields, config),
            *bounds(config, docs_tables.errors()),
            *for_the_owner(docs_tables.settings()),
            *reference(routes),
        ]


@lru_cache(maxsize=2)
def described(document: bytes) -> tuple[Table, list[Route]]:
    """Read the OpenAPI document: the fields of a chat request, and every route."""
    told = docs_tables.Described(msgspec.json.decode(document))
    return told.chat_fields(), told.routes()


class DocsHandler(DocumentedHandler):
    """The page."""

    def get(self) -> None:
        """Show it, with examples for the model and in the language that were chosen."""
        models = self.models()
        values = self.values(models)
        visitor = self.visitor()
        chosen = find_cookie(self.request.headers, LANGUAGE_COOKIE)
        sections = self.sections(values.base_url)
        self.show(
            "docs/page.html",
            sections=sections,
            groups=contents(sections),
            values=values,
            models=[model_card(model) for model in models],
            languages=LANGUAGES,
            language=chosen if chosen in LANGUAGES else "curl",
            stream_request=msgspec.json.encode(STREAM_REQUEST).decode(),
            runner=who(visitor) if visitor is not None else "Guest",
            may_run=visitor is not None or self.services.config.guests.enabled,
            highlighted=highlighted,
            prose=prose,
            inline=inline,
            is_route=lambda part: isinstance(part, Route),
        )


class DocsMarkdownHandler(DocumentedHandler):
    """The same as Markdown."""

    def get(self) -> None:
        """Send it."""
        models = self.models()
        values = self.values(models)
        parts = [f"# Roxy AI: the API\n\nBase URL: `{values.base_url}/api/v1`"]
        for section in self.sections(values.base_url):
            parts.append(markdown(section, values))
            if section.models:
                parts.append(table(models_table(models)))
        self.reply(200, ("\n\n".join(parts) + "\n").encode(), {"Content-Type": MARKDOWN})

    def add_headers(self, headers: dict[str, str]) -> None:
        """Protect it like a page, but say what it is."""
        kind = headers["Content-Type"]
        super().add_headers(headers)
        if kind == MARKDOWN:
            headers["Content-Type"] = kind


def contents(sections: list[Section]) -> list[tuple[str, list[Section]]]:
    """Give the table of contents: groups of sections."""
    by_id = {section.id: section for section in sections}
    return [(title, [by_id[name] for name in names]) for title, names in GROUPS]


def models_table(models: list[dict[str, Any]]) -> Table:
    """Give the models as a table, for Markdown."""
    rows = [
        (
            f"`{one['id']}`",
            one["name"],
            one["owned_by"],
            short(one["context_window"]),
            price(one["prices"]),
            ", ".join(one["modalities"]["input"]),
            "yes" if one["available"] else "not configured",
        )
        for one in models
    ]
    headers = (
        "Id",
        "Name",
        "Maker",
        "Context",
        "Dollars per million in / out",
        "Takes",
        "Available",
    )
    return Table("Models", headers, rows)


def price(prices: dict[str, Any] | None) -> str:
    """Write prices in and out."""
    if prices is None:
        return "not known"
    return f"${prices['prompt']:.2f} / ${prices['completion']:.2f}"
