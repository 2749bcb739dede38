"""The tables of the documentation that are generated: routes, fields, errors, settings.

Sources are the OpenAPI document (routes, types, docstrings of the handlers), the tree of errors,
the settings and the shapes that the tests are made of, so the tables match what the gateway does.
What these say stays in English (`Table.english`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache, reduce
from typing import Any

from server.api.routes import ROUTES
from server.config.settings import SECTIONS
from server.config.settings_table import SHORT_VARIABLES, describe_settings
from server.demo.upstream_shapes import upstream_shapes
from server.description.error_table import error_rows
from server.description.model_fields import describe_entries
from webui.docs.parts import RouteDetails, Table
from webui.shell.texts import Language, fill, languages

Schema = dict[str, Any]
BIG = 2**31 - 1
"""Limits of this size and above are omitted from a field's type."""
DEEPEST = 2
"""How many levels of nested objects a table lists."""


class Described:
    """A reader of the OpenAPI document that turns it into tables and routes."""

    def __init__(self, document: Schema, locale: Language) -> None:
        self._locale = locale
        self._paths: Schema = document["paths"]
        self._schemas: Schema = document["components"]["schemas"]

    def routes(self) -> list[RouteDetails]:
        """Return every operation with its tables and errors."""
        return [
            self._route(path, method, operation)
            for path, item in self._paths.items()
            for method, operation in item.items()
            if method != "servers"
        ]

    def chat_fields(self) -> Table:
        """Return the fields of a chat request."""
        schema, texts = self._schemas["ChatRequest"], self._locale.texts
        required, about = schema["required"], self._locale.groups["docs_fields"]
        null = self._null("")
        rows = []
        for name, one in schema["properties"].items():
            kind = self._kind(one).removesuffix(null)
            if name in required:
                kind = fill(texts.docs_tables.required, kind=kind)
            rows.append((f"`{name}`", kind, about.get(name, texts.docs_tables.unchanged)))
        headers = (texts.docs_tables.field, texts.docs_tables.type, texts.docs_tables.meaning)
        return Table(texts.docs_tables.chat_fields, headers, rows)

    def _route(self, path: str, method: str, operation: Schema) -> RouteDetails:
        handler = next(one.handler for one in ROUTES if one.path.strip("/") == path.strip("/"))
        own, texts = path in ("/healthz", "/readyz"), self._locale.texts
        who = {
            "anyone": texts.docs_tables.who_anyone,
            "key": texts.docs_tables.who_key,
            "owner": texts.docs_tables.who_owner,
        }
        about = " ".join(operation["description"].partition("\n\n")[0].split())
        return RouteDetails(
            operation["operationId"],
            method.upper(),
            path if own else f"/api/v1{path}",
            who[handler.access],
            f"{about} {operation['summary']}",
            list(self._tables(operation)),
            self._errors(operation),
        )

    def _tables(self, operation: Schema) -> Iterator[Table]:
        texts = self._locale.texts
        meaning, field, kind = (
            texts.docs_tables.meaning,
            texts.docs_tables.field,
            texts.docs_tables.type,
        )
        parameters = [
            (f"`{one['name']}`", self._parameter_kind(one), one["description"])
            for one in operation.get("parameters", ())
        ]
        if parameters:
            headers = (texts.docs_tables.name, texts.docs_tables.where_type, meaning)
            yield Table(texts.docs_tables.parameters, headers, parameters, english=(2,))
        body = operation.get("requestBody", {}).get("content", {})
        if "application/json" in body:
            fields = list(self._fields(body["application/json"]["schema"]))
            yield Table(texts.docs_tables.body_fields, (field, kind), fields)
        for status, answer in operation["responses"].items():
            if not status.startswith("2"):
                continue
            for media, content in answer.get("content", {}).items():
                if fields := list(self._fields(content["schema"])):
                    label = fill(texts.docs_tables.answer_fields, status=status, media=media)
                    yield Table(label, (field, kind), fields)

    def _parameter_kind(self, parameter: Schema) -> str:
        form, kind = self._locale.texts.docs_tables.parameter_kind, self._kind(parameter["schema"])
        return fill(form, place=parameter["in"], kind=kind)

    def _errors(self, operation: Schema) -> str:
        listed = [
            f"{status} {bullet.removeprefix('- ').partition(':')[0]}"
            for status, answer in operation["responses"].items()
            if status.startswith(("4", "5"))
            for bullet in answer["description"].splitlines()
            if bullet.startswith("- ")
        ]
        form = self._locale.texts.docs_tables.errors_of
        return fill(form, codes=", ".join(listed)) if listed else ""

    def _fields(
        self, schema: Schema, prefix: str = "", depth: int = 0
    ) -> Iterator[tuple[str, ...]]:
        schema = self._resolved(schema)
        required = schema.get("required", ())
        for name, one in schema.get("properties", {}).items():
            kind = self._kind(one)
            if name not in required and not prefix:
                kind = fill(self._locale.texts.docs_tables.optional, kind=kind)
            yield f"`{prefix}{name}`", kind
            inner, mark = self._inner(one)
            if depth < DEEPEST and inner.get("properties"):
                yield from self._fields(inner, f"{prefix}{name}{mark}.", depth + 1)

    def _inner(self, schema: Schema) -> tuple[Schema, str]:
        """Return the object schema inside a field (past null and lists) and `[]` for a list."""
        options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
        if len(options) != 1:
            return {}, ""
        one = self._resolved(options[0])
        return (self._resolved(one["items"]), "[]") if one.get("items") else (one, "")

    def _resolved(self, schema: Schema) -> Schema:
        name = schema.get("$ref", "").rpartition("/")[2]
        found: Schema = self._schemas[name] if name else schema
        return found

    def _kind(self, schema: Schema) -> str:
        """Return a schema's type in words."""
        texts = self._locale.texts
        if "anyOf" in schema:
            kinds = dict.fromkeys(self._kind(one) for one in schema["anyOf"])
            return self._either(kinds) if len(schema["anyOf"]) < 4 else "object"
        schema = self._resolved(schema)
        if "enum" in schema:
            return self._either(f"`{json.dumps(one)}`" for one in schema["enum"])
        kind = str(schema.get("type", texts.docs_tables.anything))
        if kind == "array":
            items = schema.get("items") or {"anyOf": schema.get("prefixItems", [])}
            return fill(texts.docs_tables.list_of, kind=self._kind(items))
        return self._bounded(kind, schema)

    def _either(self, kinds: Iterable[str]) -> str:
        form = self._locale.texts.docs_tables.either
        return reduce(lambda first, second: fill(form, first=first, second=second), kinds)

    def _null(self, kind: str) -> str:
        """Return the type that is `kind` or null."""
        return self._either((kind, "null"))

    def _bounded(self, kind: str, schema: Schema) -> str:
        low, high = schema.get("minimum"), schema.get("maximum")
        if low is None or abs(low) >= BIG:
            return kind
        texts, written = self._locale.texts, self._locale.figures.written
        if high is None or abs(high) >= BIG:
            return fill(texts.docs_tables.at_least, kind=kind, low=written(f"{low:,}"))
        values = {"low": written(f"{low:,}"), "high": written(f"{high:,}")}
        return fill(texts.docs_tables.between, kind=kind, **values)


@cache
def errors(code: str) -> Table:
    """Return every error code with its cause, and whether a later try can help, in a language."""
    texts = languages()[code].texts
    rows = [
        (
            str(row.status),
            f"`{row.type}`",
            f"`{row.code}`" if row.code else "null",
            texts.docs_tables.no if row.permanent else texts.docs_tables.yes,
            row.cause,
        )
        for row in error_rows()
    ]
    headers = (
        texts.docs_tables.status,
        "type",
        "code",
        texts.docs_tables.retry,
        texts.docs_tables.cause,
    )
    return Table(texts.docs_tables.error_codes, headers, rows, english=(4,))


@cache
def settings(code: str) -> list[Table]:
    """Return the settings by table of `roxy.toml`, then the fields of models, then variables."""
    texts = languages()[code].texts
    setting, variable, default = (
        texts.docs_tables.setting,
        texts.docs_tables.variable,
        texts.docs_tables.default,
    )
    field, kind, meaning = (
        texts.docs_tables.field,
        texts.docs_tables.type,
        texts.docs_tables.meaning,
    )
    tables = []
    for section in SECTIONS:
        rows = [
            (
                f"`{one.path}`",
                f"`{one.env}`",
                f"`{json.dumps(one.default)}`" if one.default not in ("", None) else "",
                one.doc,
            )
            for one in describe_settings()
            if one.path.startswith(f"{section}.")
        ]
        headers = (setting, variable, default, meaning)
        tables.append(Table(f"[{section}]", headers, rows, english=(3,)))
    for entry in describe_entries():
        fields = [(f"`{one.name}`", *one[1:]) for one in entry.fields]
        headers = (field, kind, default, meaning)
        tables.append(Table(entry.heading, headers, fields, english=(1, 3)))
    names = [(f"`{one.env}`", one.doc) for one in SHORT_VARIABLES]
    others = Table(texts.docs_tables.other_variables, (variable, meaning), names, english=(1,))
    return [*tables, others]


def upstream_shapes_tables(locale: Language) -> list[Table]:
    """Return what upstreams send and what clients get of it, a table for each subject."""
    shapes, texts = upstream_shapes(), locale.texts
    headers = (
        texts.docs_tables.shape,
        texts.docs_tables.sends,
        texts.docs_tables.seen_at,
        texts.docs_tables.gets,
    )
    return [
        Table(
            about,
            headers,
            [
                (f"`{shape.name}`", shape.sends, shape.who, shape.gets)
                for shape in shapes
                if shape.about == about
            ],
            english=(1, 2, 3),
        )
        for about in dict.fromkeys(shape.about for shape in shapes)
    ]
