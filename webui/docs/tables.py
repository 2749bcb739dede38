"""The tables of the documentation that are generated: routes, fields, errors, settings.

Sources are the OpenAPI document (routes, types, docstrings of the handlers), the tree of errors,
the settings and the shapes that the tests are made of, so the tables match what the gateway does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from server.api.routes import ROUTES
from server.config.settings import SECTIONS, SHORT_VARIABLES, describe_settings
from server.demo.upstream_shapes import upstream_shapes
from server.description.error_table import error_rows
from server.description.model_fields import describe_entries
from webui.docs.parts import RouteDetails, Table

Schema = dict[str, Any]
WHO = {"anyone": "anyone", "key": "any key, guests", "owner": "the owner"}
BIG = 2**31 - 1
"""Limits of this size and above are omitted from a field's type."""
DEEPEST = 2
"""How many levels of nested objects a table lists."""
FIELD_WORDS = {
    "model": "The id of the model.",
    "messages": "The conversation so far; each message has a `role` and a `content`.",
    "stream": "Send the answer while it is written.",
    "stream_options": '`{"include_usage": true}` adds a last chunk with the usage; streams only.',
    "n": "Number of answers.",
    "max_tokens": "Maximum length of the answer in tokens.",
    "max_completion_tokens": "Newer name of `max_tokens`.",
    "temperature": "Randomness: lower is more focused, higher is more creative.",
    "top_p": "Sample only from the most likely tokens up to this total probability.",
    "presence_penalty": "Above 0: favour new topics.",
    "frequency_penalty": "Above 0: repeat less.",
    "logprobs": "Return the log probability of each token.",
    "top_logprobs": "Return this many alternatives for each token.",
    "logit_bias": "Make tokens more or less likely, by token id.",
    "stop": "Stop before this text.",
    "seed": "Request a repeatable answer, if the model supports it.",
    "tools": "Functions that the model may call.",
    "tool_choice": "Whether the model may, must or must not call a function, or which one.",
    "parallel_tool_calls": "Whether the model may call several functions at once.",
    "functions": "Older form of `tools`.",
    "function_call": "Older form of `tool_choice`.",
    "response_format": '`{"type": "json_object"}`, or a JSON schema to follow.',
    "reasoning_effort": "How much to reason, for models that support it.",
    "verbosity": "How detailed the answer is, for models that support it.",
    "modalities": "Output types, for models that support several.",
    "audio": "Voice and format, for models with audio output.",
    "prediction": "Text that is expected to appear mostly unchanged in the answer.",
    "web_search_options": "Options for models that search the web.",
    "metadata": "Your own labels for the request.",
    "store": "Whether the upstream may store the answer.",
    "service_tier": "Service tier of the upstream.",
    "user": "Your own id of the end user.",
    "safety_identifier": "Newer name of `user`.",
    "prompt_cache_key": "Groups requests that share the upstream's prompt cache.",
}


class Described:
    """A reader of the OpenAPI document that turns it into tables and routes."""

    def __init__(self, document: Schema) -> None:
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
        schema = self._schemas["ChatRequest"]
        required = schema["required"]
        rows = [
            (
                f"`{name}`",
                self._kind(one).removesuffix(" or null")
                + (", required" if name in required else ""),
                FIELD_WORDS.get(name, "Passed to the upstream unchanged."),
            )
            for name, one in schema["properties"].items()
        ]
        return Table("Fields of a chat request", ("Field", "Type", "Meaning"), rows)

    def _route(self, path: str, method: str, operation: Schema) -> RouteDetails:
        handler = next(one.handler for one in ROUTES if one.path.strip("/") == path.strip("/"))
        own = path in ("/healthz", "/readyz")
        about = " ".join(operation["description"].partition("\n\n")[0].split())
        return RouteDetails(
            operation["operationId"],
            method.upper(),
            path if own else f"/api/v1{path}",
            WHO[handler.access],
            f"{about} {operation['summary']}",
            list(self._tables(operation)),
            self._errors(operation),
        )

    def _tables(self, operation: Schema) -> Iterator[Table]:
        parameters = [
            (f"`{one['name']}`", f"{one['in']}, {self._kind(one['schema'])}", one["description"])
            for one in operation.get("parameters", ())
        ]
        if parameters:
            yield Table("Parameters and headers", ("Name", "Where, type", "Meaning"), parameters)
        body = operation.get("requestBody", {}).get("content", {})
        if "application/json" in body:
            schema = body["application/json"]["schema"]
            yield Table("Fields of the body", ("Field", "Type"), list(self._fields(schema)))
        for status, answer in operation["responses"].items():
            if not status.startswith("2"):
                continue
            for media, content in answer.get("content", {}).items():
                fields = list(self._fields(content["schema"]))
                if fields:
                    yield Table(f"Answer {status}, {media}", ("Field", "Type"), fields)

    def _errors(self, operation: Schema) -> str:
        listed = [
            f"{status} {bullet.removeprefix('- ').partition(':')[0]}"
            for status, answer in operation["responses"].items()
            if status.startswith(("4", "5"))
            for bullet in answer["description"].splitlines()
            if bullet.startswith("- ")
        ]
        return f"[Errors](#errors): {', '.join(listed)}." if listed else ""

    def _fields(
        self, schema: Schema, prefix: str = "", depth: int = 0
    ) -> Iterator[tuple[str, ...]]:
        schema = self._resolved(schema)
        required = schema.get("required", ())
        for name, one in schema.get("properties", {}).items():
            optional = "" if name in required or prefix else ", optional"
            yield f"`{prefix}{name}`", self._kind(one) + optional
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
        if "anyOf" in schema:
            kinds = [self._kind(one) for one in schema["anyOf"]]
            return " or ".join(dict.fromkeys(kinds)) if len(kinds) < 4 else "object"
        schema = self._resolved(schema)
        if "enum" in schema:
            return " or ".join(f"`{json.dumps(one)}`" for one in schema["enum"])
        kind = str(schema.get("type", "anything"))
        if kind == "array":
            items = schema.get("items") or {"anyOf": schema.get("prefixItems", [])}
            return f"list of {self._kind(items)}"
        return kind + _bounds(schema)


def _bounds(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and abs(low) >= BIG:
        low = None
    if high is not None and abs(high) >= BIG:
        high = None
    if low is not None and high is not None:
        return f" from {low:,} to {high:,}"
    return f" of at least {low:,}" if low is not None else ""


@cache
def errors() -> Table:
    """Return every error code with its cause, and whether a later try can help."""
    rows = [
        (
            str(row.status),
            f"`{row.type}`",
            f"`{row.code}`" if row.code else "null",
            "no" if row.permanent else "yes",
            row.cause,
        )
        for row in error_rows()
    ]
    return Table("Error codes", ("Status", "type", "code", "Retry", "Cause"), rows)


@cache
def settings() -> list[Table]:
    """Return the settings by table of `roxy.toml`, then the fields of models, then variables."""
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
        headers = ("Setting", "Variable", "Default", "Meaning")
        tables.append(Table(f"[{section}]", headers, rows))
    for entry in describe_entries():
        fields = [(f"`{one.name}`", *one[1:]) for one in entry.fields]
        headers = ("Field", "Type", "Default", "Meaning")
        tables.append(Table(entry.heading, headers, fields))
    names = [(f"`{one.env}`", one.doc) for one in SHORT_VARIABLES]
    return [*tables, Table("Other environment variables", ("Variable", "Meaning"), names)]


def upstream_shapes_tables() -> list[Table]:
    """Return what upstreams send and what clients get of it, a table for each subject."""
    shapes = upstream_shapes()
    return [
        Table(
            about,
            ("Shape", "The upstream sends", "Seen at", "The client gets"),
            [
                (f"`{shape.name}`", shape.sends, shape.who, shape.gets)
                for shape in shapes
                if shape.about == about
            ],
        )
        for about in dict.fromkeys(shape.about for shape in shapes)
    ]
