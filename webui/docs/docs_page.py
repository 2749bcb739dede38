"""Serve the documentation at /docs, generated from routes, errors, settings and models."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar

import msgspec

from server.identity.authentication import Principal, find_cookie
from webui.docs import tables as docs_tables
from webui.docs.client_sections import completions, first_steps, limits_and_errors
from webui.docs.examples import STREAM_REQUEST
from webui.docs.history_section import chat_history
from webui.docs.owner_sections import for_the_owner, reference
from webui.docs.parts import (
    LANGUAGES,
    Recipe,
    RouteDetails,
    Section,
    Table,
    Values,
    highlighted,
    inline,
    markdown,
    prose,
    table,
)
from webui.shell.figures import short
from webui.shell.health_words import describe_card, sees
from webui.shell.model_cards import model_card
from webui.shell.pages import PageHandler, who
from workers.base_url import is_safe_in_a_shell
from workers.errors import InvalidRequest, ModelNotFound

LANGUAGE_COOKIE = "roxy_language"
MARKDOWN = "text/markdown; charset=utf-8"
GROUPS = (
    ("Start", ("quickstart", "clients", "streaming", "authentication", "models")),
    (
        "Chat",
        ("chat", "tools", "structured", "images", "documents", "queue", "kept", "history"),
    ),
    ("Limits and errors", ("limits", "guests", "errors")),
    ("Owner", ("keys", "usage", "settings")),
    ("Reference", ("routes", "missing", "openapi", "answers", "notes")),
)
"""The table of contents: the title of a group and the ids of its sections."""


class DocumentedHandler(PageHandler):
    """The base of the page and its Markdown: models, sections and values of examples."""

    section: ClassVar[str] = "docs"
    script_texts = ("docs",)

    def models(self) -> list[dict[str, Any]]:
        """Return a description of each model that the visitor sees, and whether they may use it."""
        visitor = self.visitor() or Principal("guest", "")
        return [
            describe_card(model, self.services.health, self.language(), visitor)
            | {"allowed": self.services.admission.may_use(visitor, model.id)}
            for model in self.services.catalog
            if sees(visitor, model)
        ]

    def values(self, models: list[dict[str, Any]]) -> Values:
        """Return the values to fill into the examples. Raises InvalidRequest, ModelNotFound."""
        base_url = self.base_url()
        if not is_safe_in_a_shell(base_url):
            raise InvalidRequest(
                "The Host header has characters that are not safe in a shell. Use another address.",
                param="Host",
            )
        best = sorted(models, key=lambda one: (not one["allowed"], not one["available"]))
        asked = self.get_query_argument("model", "")
        if asked:
            best = [one for one in models if one["id"] == asked] + best
            if best[0]["id"] != asked:
                raise ModelNotFound
        seeing = [one for one in best if "image" in one["modalities"]["input"]] or best
        return Values(
            base_url,
            best[0]["id"] if best else "model",
            seeing[0]["id"] if seeing else "model",
            best[0]["context_window"] if best else 0,
        )

    def sections(self, base_url: str) -> list[Section]:
        """Return all sections of the documentation."""
        config = self.services.config
        fields, routes = described(self.services.openapi())
        return [
            *first_steps(base_url),
            *completions(fields, config),
            chat_history(config.history),
            *limits_and_errors(config, docs_tables.errors()),
            *for_the_owner(docs_tables.settings()),
            *reference(routes, docs_tables.upstream_shapes_tables()),
        ]


@lru_cache(maxsize=2)
def described(document: bytes) -> tuple[Table, list[RouteDetails]]:
    """Return the fields of a chat request and every route from the OpenAPI document."""
    read = docs_tables.Described(msgspec.json.decode(document))
    return read.chat_fields(), read.routes()


class DocsHandler(DocumentedHandler):
    """The documentation as a page."""

    def get(self) -> None:
        """Show the page, with examples for the chosen model in the chosen language."""
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
            models=[model_card(model, self.language()) for model in models],
            languages=LANGUAGES,
            language=chosen if chosen in LANGUAGES else "curl",
            stream_request=msgspec.json.encode(STREAM_REQUEST).decode(),
            runner=who(visitor or Principal("guest", ""), self.language().texts),
            may_run=visitor is not None or self.services.config.guests.enabled,
            highlighted=highlighted,
            prose=prose,
            inline=inline,
            is_route=lambda part: isinstance(part, RouteDetails),
            is_recipe=lambda part: isinstance(part, Recipe),
        )


class DocsMarkdownHandler(DocumentedHandler):
    """The documentation as Markdown."""

    def get(self) -> None:
        """Send the documentation as Markdown."""
        models = self.models()
        values = self.values(models)
        parts = [
            f"# {self.services.config.web.name}: the API\n\nBase URL: `{values.base_url}/api/v1`"
        ]
        for section in self.sections(values.base_url):
            parts.append(markdown(section, values))
            if section.models:
                parts.append(
                    table(models_table(models, priced=any(one["prices"] for one in models)))
                )
        self.reply(200, ("\n\n".join(parts) + "\n").encode(), {"Content-Type": MARKDOWN})

    def add_headers(self, headers: dict[str, str]) -> None:
        """Add the headers of a page but keep the content type."""
        kind = headers["Content-Type"]
        super().add_headers(headers)
        if kind == MARKDOWN:
            headers["Content-Type"] = kind


def contents(sections: list[Section]) -> list[tuple[str, list[Section]]]:
    """Return the table of contents: the title and the sections of each group."""
    by_id = {section.id: section for section in sections}
    return [(title, [by_id[name] for name in names]) for title, names in GROUPS]


def models_table(models: list[dict[str, Any]], *, priced: bool) -> Table:
    """Return the models as a table, for the Markdown version; guests get no prices."""
    columns: list[tuple[str, list[str]]] = [
        ("Id", [f"`{one['id']}`" for one in models]),
        ("Name", [one["name"] for one in models]),
        ("Maker", [one["maker"] for one in models]),
        ("Context", [short(one["context_window"]) for one in models]),
    ]
    if priced:
        prices = [price(one["prices"]) for one in models]
        columns.append(("Dollars per million tokens, in / out", prices))
    columns += [
        ("Inputs", [", ".join(one["modalities"]["input"]) for one in models]),
        ("Available", ["yes" if one["available"] else "not configured" for one in models]),
    ]
    rows = list(zip(*(cells for _, cells in columns), strict=True))
    return Table("Models", tuple(name for name, _ in columns), rows)


def price(prices: dict[str, Any] | None) -> str:
    """Return the prices of input and output as text."""
    if prices is None:
        return "unknown"
    return f"${prices['prompt']:.2f} / ${prices['completion']:.2f}"
