"""Serve the documentation at /docs, generated from routes, errors, settings and models."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

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
from webui.shell.health_words import describe_card, sees
from webui.shell.model_cards import model_card
from webui.shell.pages import PageHandler, who
from webui.shell.texts import DEFAULT, Language, fill, languages
from workers.base_url import is_safe_in_a_shell
from workers.errors import InvalidRequest, ModelNotFound

LANGUAGE_COOKIE = "roxy_language"
MARKDOWN = "text/markdown; charset=utf-8"


class DocumentedHandler(PageHandler):
    """The base of the page and its Markdown: models, sections and values of examples."""

    section = "docs"
    script_texts = ("docs",)
    translated = True

    def models(self) -> list[dict[str, Any]]:
        """Return a description of each model that the visitor sees, and whether they may use it."""
        visitor = self.visitor() or Principal("guest", "")
        return [
            describe_card(
                model, self.services.health, self.language(), visitor, self.services.admission
            )
            | {"allowed": self.services.admission.may_use(visitor, model.id)}
            for model in self.services.catalog
            if sees(visitor, model)
        ]

    def values(self, models: list[dict[str, Any]]) -> Values:
        """Return the values to fill into the examples. Raises InvalidRequest, ModelNotFound."""
        base_url = self.base_url()
        if not is_safe_in_a_shell(base_url):
            self.said = self.language().texts.docs_page.unsafe_host
            raise InvalidRequest(
                "The Host header has characters that are not safe in a shell. Use another address.",
                param="Host",
            )
        best = sorted(models, key=lambda one: (not one["allowed"], not one["available"]))
        asked = self.get_query_argument("model", "")
        if asked:
            best = [one for one in models if one["id"] == asked] + best
            if best[0]["id"] != asked:
                self.said = self.language().texts.docs_page.no_such_model
                raise ModelNotFound
        seeing = [one for one in best if "image" in one["modalities"]["input"]] or best
        return Values(
            base_url,
            best[0]["id"] if best else "model",
            seeing[0]["id"] if seeing else "model",
            best[0]["context_window"] if best else 0,
        )

    def sections(self, base_url: str, *, may_run: bool = False) -> list[Section]:
        """Return all sections of the documentation."""
        config, locale = self.services.config, self.language()
        fields, routes = described(self.services.openapi(), locale.code)
        return [
            *first_steps(base_url, locale, may_run=may_run),
            *completions(fields, config, locale),
            chat_history(config.history, locale),
            *limits_and_errors(config, docs_tables.errors(locale.code), locale),
            *for_the_owner(docs_tables.settings(locale.code), locale),
            *reference(routes, docs_tables.upstream_shapes_tables(locale), locale),
        ]


@lru_cache(maxsize=8)
def described(document: bytes, code: str) -> tuple[Table, list[RouteDetails]]:
    """Return the fields of a chat request and every route, in a language."""
    read = docs_tables.Described(msgspec.json.decode(document), languages()[code])
    return read.chat_fields(), read.routes()


class DocsHandler(DocumentedHandler):
    """The documentation as a page."""

    def get(self) -> None:
        """Show the page, with examples for the chosen model in the chosen language."""
        models = self.models()
        values = self.values(models)
        visitor = self.visitor()
        chosen = find_cookie(self.request.headers, LANGUAGE_COOKIE)
        may_run = visitor is not None or self.services.config.guests.enabled
        sections = self.sections(values.base_url, may_run=may_run)
        locale = self.language()
        self.show(
            "docs/page.html",
            foreign=locale.code != DEFAULT,
            titles=locale.groups["examples"],
            steps=locale.groups["recipes"],
            sections=sections,
            groups=contents(sections, locale),
            values=values,
            models=[model_card(model, locale) for model in models],
            languages=LANGUAGES,
            language=chosen if chosen in LANGUAGES else "curl",
            stream_request=msgspec.json.encode(STREAM_REQUEST).decode(),
            runner=who(visitor or Principal("guest", ""), locale.texts),
            may_run=may_run,
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
        models, locale = self.models(), self.language()
        values = self.values(models)
        title = fill(locale.texts.docs_page.document_title, site=self.services.config.web.name)
        base = fill(locale.texts.docs_page.document_base, url=f"{values.base_url}/api/v1")
        parts = [f"# {title}", base]
        if locale.code != DEFAULT:
            parts.append(locale.texts.docs_page.parts_in_english)
        for section in self.sections(values.base_url):
            parts.append(markdown(section, values, locale))
            if section.models:
                parts.append(table(models_table(models, locale)))
        self.reply(200, ("\n\n".join(parts) + "\n").encode(), {"Content-Type": MARKDOWN})

    def add_headers(self, headers: dict[str, str]) -> None:
        """Add the headers of a page but keep the content type."""
        kind = headers["Content-Type"]
        super().add_headers(headers)
        if kind == MARKDOWN:
            headers["Content-Type"] = kind


def contents(sections: list[Section], locale: Language) -> list[tuple[str, list[Section]]]:
    """Return the table of contents: the title and the sections of each group."""
    texts, by_id = locale.texts, {section.id: section for section in sections}
    groups = (
        (
            texts.docs_page.group_start,
            ("quickstart", "clients", "streaming", "authentication", "models"),
        ),
        (
            texts.docs_page.group_chat,
            ("chat", "tools", "structured", "images", "documents", "queue", "kept", "history"),
        ),
        (texts.docs_page.group_limits, ("limits", "guests", "errors")),
        (texts.docs_page.group_owner, ("keys", "usage", "settings")),
        (texts.docs_page.group_reference, ("routes", "missing", "openapi", "answers", "notes")),
    )
    return [(title, [by_id[name] for name in names]) for title, names in groups]


def models_table(models: list[dict[str, Any]], locale: Language) -> Table:
    """Return the models as a table, for the Markdown version; guests get no prices."""
    texts = locale.texts
    columns: list[tuple[str, list[str]]] = [
        (texts.docs_tables.id, [f"`{one['id']}`" for one in models]),
        (texts.docs_tables.name, [one["name"] for one in models]),
        (texts.docs_tables.maker, [one["maker"] for one in models]),
        (
            texts.docs_tables.context,
            [locale.figures.short(one["context_window"]) for one in models],
        ),
    ]
    if any(one["prices"] for one in models):
        columns.append((texts.docs_tables.prices, [price(one["prices"], locale) for one in models]))
    available = [
        texts.docs_tables.yes if one["available"] else texts.docs_tables.not_configured
        for one in models
    ]
    columns += [
        (texts.docs_tables.inputs, [", ".join(one["modalities"]["input"]) for one in models]),
        (texts.docs_tables.available, available),
    ]
    rows = list(zip(*(cells for _, cells in columns), strict=True))
    return Table(texts.docs_tables.models, tuple(name for name, _ in columns), rows)


def price(prices: dict[str, Any] | None, locale: Language) -> str:
    """Return the prices of input and output as text."""
    if prices is None:
        return str(locale.texts.docs_tables.unknown)
    written = locale.figures.written
    return " / ".join(f"${written(f'{prices[part]:.2f}')}" for part in ("prompt", "completion"))
