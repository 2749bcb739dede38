"""Make the OpenAPI 3.1 document of this gateway from its routes, types, docstrings and errors.

    document(ROUTES, ["zai/glm-4.5", ...])      # a dict, ready to be encoded

Paths and methods come from the routes, texts from the docstrings of their handlers, shapes from
`server.description.operations`, errors from the tree in `workers.errors`, models from the catalog.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from server.api.base import BaseHandler
from server.api.routes import Route
from server.description.error_table import ErrorRow, rows_of
from server.description.operation import Operation, Parameter
from server.description.operations import OPERATIONS
from server.version import version
from workers.errors import (
    Error,
    Forbidden,
    GatewayError,
    InvalidKey,
    InvalidRequest,
    PayloadTooLarge,
    SessionEnded,
)

REFERENCE = "#/components/schemas/{name}"
CLASS_NAME = re.compile(r'("title":"|"#/components/schemas/)(\w+)"')
SCHEMA_NAMES = {"Attempt": "RequestAttempt"}
"""Classes whose schema has another name, which clients generated from the document know."""
TITLE = "Roxy AI"
ABOUT = (
    "A self-hosted gateway for large language models with an OpenAI-compatible API. Every path is"
    " also under `/api`."
)
SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Bearer KEY`."},
    "x-api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "A key.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "roxy_session",
        "description": "The session of the web app; requests that change something also need the"
        " header `X-Roxy-Xsrf`.",
    },
}
PATH_PARTS = {
    "model": "A model's id; send its slash as it is or as %2F.",
    "id": "An id from another answer.",
}
METHODS = ("get", "post", "put", "patch", "delete")

Object = dict[str, Any]

FORBIDDEN = Forbidden.status
EVERYWHERE = ("permission_denied", "xsrf_refused", "other_person")
"""The codes of a 403 that any route may answer with; the others belong to routes that state it."""


def document(routes: Iterable[Route], models: Sequence[str]) -> Object:
    """Return the document; `models` are examples for the member `model`."""
    shapes = _Shapes()
    paths: Object = {}
    for route in routes:
        path = f"/{route.path}" if route.api else route.path
        item = paths[path] = {
            method: _operation(route, method, shapes)
            for method in METHODS
            if method in vars(route.handler)
        }
        if not route.api:
            item["servers"] = [{"url": "/"}]
    schemas = shapes.components()
    if models:
        schemas["ChatRequest"]["properties"]["model"]["examples"] = list(models)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "version": version(),
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/api/v1"}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": SECURITY},
    }


class _Shapes:
    """The types that a document mentions, collected while it is made."""

    def __init__(self) -> None:
        self._types: list[Any] = []

    def of(self, shape: Any) -> Object:
        """Return the schema of a type, mostly a reference."""
        self._types.append(shape)
        # msgspec returns a reference for a named type; `components` makes the schemas themselves.
        (schema,), _ = msgspec.json.schema_components([shape], ref_template=REFERENCE)
        return dict(_public(schema))

    def components(self) -> Object:
        """Return the schemas that are referred to."""
        _, components = msgspec.json.schema_components(self._types, ref_template=REFERENCE)
        return {_schema_name(name): _public(schema) for name, schema in components.items()}


def _public(schema: Any) -> Any:
    """Return a schema that refers to types by their names in the document."""
    text = msgspec.json.encode(schema).decode()
    return msgspec.json.decode(
        CLASS_NAME.sub(lambda found: found[1] + _schema_name(found[2]) + '"', text)
    )


def _schema_name(class_name: str) -> str:
    """Return the document's name for a class: `KeyObject` is "Key", `_NewKey` is "NewKey"."""
    return SCHEMA_NAMES.get(class_name, class_name.lstrip("_").removesuffix("Object"))


def _operation(route: Route, method: str, shapes: _Shapes) -> Object:
    handler, shape = route.handler, OPERATIONS[(method, route.path)]
    words = inspect.getdoc(getattr(handler, method)) or ""
    about = inspect.getdoc(handler) or ""
    made: Object = {
        "operationId": re.sub(r"\W+", "_", f"{method}_{route.path}").strip("_"),
        "tags": [re.split(r"[/.]", route.path.strip("/"))[0]],
        "summary": words.partition("\n")[0],
        "description": f"{about}\n\n{words}",
        "responses": _answers(shape, shapes) | _refusals(handler, method, shape, shapes),
    }
    if handler.access != "anyone":
        made["security"] = [{name: []} for name in SECURITY]
    else:
        made["security"] = []
    parameters = [_part(name) for name in re.findall(r"{(\w+)}", route.path)]
    parameters += [_parameter(one, shapes) for one in shape.parameters]
    if parameters:
        made["parameters"] = parameters
    if shape.request is not None:
        body = {"application/json": {"schema": shapes.of(shape.request)}}
        made["requestBody"] = {"required": True, "content": body}
    elif shape.upload:
        made["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    return made


def _answers(shape: Operation, shapes: _Shapes) -> Object:
    answers: Object = {
        str(status): _answer("Success." if status < 400 else "Not ready.", shapes.of(one))
        if one is not None
        else {"description": "Success, without a body."}
        for status, one in shape.answers.items()
    }
    for media, one in shape.others.items():
        success = answers.setdefault("200", {"description": "Success.", "content": {}})
        success["content"][media] = {"schema": shapes.of(one)}
    return answers


def _refusals(handler: type[BaseHandler], method: str, shape: Operation, shapes: _Shapes) -> Object:
    """Return the answers for errors by status, each with its codes."""
    kinds: list[type[GatewayError]] = list(shape.errors)
    if handler.access != "anyone":
        kinds += [InvalidKey, SessionEnded]
    if handler.access == "owner" or method != "get":
        kinds += [Forbidden]
    has_body = shape.request is not None or shape.upload
    if has_body or shape.parameters:
        kinds += [InvalidRequest]
    if has_body:
        kinds += [PayloadTooLarge]
    by_status: dict[int, list[ErrorRow]] = {}
    for row in rows_of(*kinds):
        if row.status == FORBIDDEN and Forbidden not in shape.errors and row.code not in EVERYWHERE:
            continue
        by_status.setdefault(row.status, []).append(row)
    error = shapes.of(Error)
    refusals = {
        str(status): _answer("\n".join(map(_bullet, rows)), error)
        for status, rows in sorted(by_status.items())
    }
    for status in ("429", "503"):
        if status in refusals:
            wait = {"schema": {"type": "integer"}, "description": "Seconds to wait."}
            refusals[status]["headers"] = {"Retry-After": wait}
    return refusals | {"default": _answer("Any other error.", error)}


def _answer(description: str, schema: Object) -> Object:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _bullet(row: ErrorRow) -> str:
    return f"- `{row.code or row.type}`: {row.cause}"


def _part(name: str) -> Object:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": PATH_PARTS[name],
        "schema": {"type": "string"},
    }


def _parameter(one: Parameter, shapes: _Shapes) -> Object:
    schema = shapes.of(one.type)
    return {"name": one.name, "in": one.place, "description": one.doc, "schema": schema}
