"""The OpenAPI document as tests check answers against it."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
from support.front_door import OWNER, Door, bearer

OPEN = ("ChatCompletion", "ChatCompletionChunk", "CompletionUsage", "Choice", "ChunkChoice")
"""OpenAI's own: upstreams add members."""


class Described:
    """The document of a running gateway, and answers held against it."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self._schemas = copy.deepcopy(told["components"]["schemas"])
        for name, schema in self._schemas.items():
            if "properties" in schema and name not in OPEN:
                schema["additionalProperties"] = False

    def check(self, method: str, path: str, status: int, answer: Any, media: str = "json") -> None:
        """Require that an answer is what is described, with nothing besides."""
        kind = "application/json" if media == "json" else media
        responses = self.told["paths"][path][method]["responses"]
        described = responses.get(str(status)) or responses["default"]
        schema = {**described["content"][kind]["schema"], "components": {"schemas": self._schemas}}
        faults = [
            f"{fault.json_path}: {fault.message}"
            for fault in jsonschema.Draft202012Validator(schema).iter_errors(answer)
        ]
        assert not faults, f"{method} {path} {status}:\n" + "\n".join(faults)

    async def call(
        self, door: Door, method: str, path: str, status: int = 200, key: str = OWNER, **more: Any
    ) -> Any:
        """Call a route, require the status, and hold the answer against the document."""
        told, _, query = path.partition("?")
        made = told.format(id=more.pop("id", ""), model=more.pop("model", ""))
        prefix = "" if path in ("/healthz", "/readyz") else "/api/v1"
        answer = await door.client.request(
            method, f"{prefix}{made}?{query}", headers=bearer(key), **more
        )
        assert answer.status_code == status, answer.text
        self.check(method, told, status, answer.json())
        return answer.json()


async def described(door: Door) -> Described:
    """Read the document, as anybody may."""
    answer = await door.get("/api/v1/openapi.json", None)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    return Described(answer.json())
