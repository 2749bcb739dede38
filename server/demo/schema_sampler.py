"""Make a JSON value that matches a JSON schema, for the demo's tool calls and JSON answers.

Only the keywords that schemas of tools commonly use are read; others are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

Json: TypeAlias = Any
MAX_DEPTH = 12
MAX_VALUES = 1000
"""Most values of an answer: a schema that contains itself several times grows exponentially."""
MAX_TEXT = 1000
FORMATS = {
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "date-time": "2026-01-31T12:00:00Z",
    "duration": "PT5M",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
FREE_TEXT = ("query", "question", "text", "prompt", "input", "message", "content")
"""Parameters with these names get the user's text."""


class Sampler:
    """Make values for one root schema; free-text parameters get the text `said`."""

    def __init__(self, root: Json, said: str = "") -> None:
        self._root = root
        self._said = said[:MAX_TEXT]
        self._values = 0

    def value(self) -> Json:
        """Make a value for the whole schema."""
        return self._value(self._root, "value", 0)

    def _value(self, schema: Json, name: str, depth: int) -> Json:
        self._values += 1
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            return None
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if choices := _sequence(schema.get("enum")):
            return choices[0]
        if "default" in schema:
            return schema["default"]
        return self._of_type(schema, name, depth)

    def _of_type(self, schema: Mapping[str, Json], name: str, depth: int) -> Json:
        match _type(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer" | "number" as kind:
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return self._string(schema, name)

    def _object(self, schema: Mapping[str, Json], depth: int) -> dict[str, Json]:
        """Fill all properties near the top, and below that only required ones."""
        properties = _mapping(schema.get("properties"))
        required = [name for name in _sequence(schema.get("required")) if isinstance(name, str)]
        names = dict.fromkeys([*(properties if depth < 3 else ()), *required])
        return {name: self._value(properties.get(name, {}), name, depth + 1) for name in names}

    def _array(self, schema: Mapping[str, Json], name: str, depth: int) -> list[Json]:
        fixed = _sequence(schema.get("prefixItems"))
        first = [self._value(item, name, depth + 1) for item in fixed]
        most = int(_bound(schema.get("maxItems"), 100))
        count = min(int(_bound(schema.get("minItems"), 0)) or min(most, 1), 100)
        items = schema.get("items", {})
        while len(first) < count:
            first.append(self._value(items, name, depth + 1))
        return first[: max(most, 0)]

    def _string(self, schema: Mapping[str, Json], name: str) -> str:
        made = FORMATS.get(str(schema.get("format")))
        if made is None:
            made = self._said if name.lower() in FREE_TEXT and self._said else f"demo {name}"
        shortest = int(_bound(schema.get("minLength"), 0))
        longest = int(_bound(schema.get("maxLength"), MAX_TEXT))
        return made.ljust(min(shortest, MAX_TEXT), ".")[: max(longest, 0)]

    def _resolved(self, schema: Json) -> Mapping[str, Json]:
        """Follow `$ref` within the document and choose the first of alternatives."""
        resolved = _mapping(schema)
        for _ in range(MAX_DEPTH):
            if "$ref" in resolved:
                resolved = {**self._referred(resolved["$ref"]), **_without(resolved, "$ref")}
            elif parts := _sequence(resolved.get("allOf")):
                resolved = {**_without(resolved, "allOf"), **_merged(parts, self._follow)}
            elif options := _alternatives(resolved):
                chosen = next((o for o in options if _type(_mapping(o)) != "null"), options[0])
                resolved = {**_without(resolved, "anyOf", "oneOf"), **_mapping(chosen)}
            else:
                return resolved
        return {}

    def _follow(self, schema: Json) -> Mapping[str, Json]:
        part = _mapping(schema)
        return self._referred(part["$ref"]) if "$ref" in part else part

    def _referred(self, reference: Json) -> Mapping[str, Json]:
        place: Json = self._root
        for step in str(reference).removeprefix("#").strip("/").split("/"):
            if step:
                place = _mapping(place).get(step.replace("~1", "/").replace("~0", "~"))
        return _mapping(place)


def _type(schema: Mapping[str, Json]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), "null")
    if isinstance(kind, str):
        return kind
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _number(schema: Mapping[str, Json], *, whole: bool) -> int | float:
    lowest = _bound(schema.get("minimum"), None)
    above = _bound(schema.get("exclusiveMinimum"), None)
    highest = _bound(schema.get("maximum"), None)
    below = _bound(schema.get("exclusiveMaximum"), None)
    step = _bound(schema.get("multipleOf"), None) or (1 if whole else None)
    if above is not None:
        lowest = above + (step or _nudge(above, below if below is not None else highest))
    if below is not None:
        highest = below - (step or _nudge(lowest if lowest is not None else below - 2, below))
    value: float = 1 if lowest is None else lowest
    if highest is not None and value > highest:
        value = highest
    if step and step > 0 and abs(value / step) < 2**53:
        value = -(-value // step) * step
    return int(value) if whole or value == int(value) else value


def _nudge(low: float, high: float | None) -> float:
    return 1 if high is None else (high - low) / 2


def _merged(parts: list[Json], follow: Any) -> dict[str, Json]:
    """Merge the parts of an `allOf`, with their properties and required names joined."""
    merged: dict[str, Json] = {}
    for part in parts:
        for key, value in follow(part).items():
            if key == "properties":
                merged[key] = {**_mapping(merged.get(key)), **_mapping(value)}
            elif key == "required":
                merged[key] = [*_sequence(merged.get(key)), *_sequence(value)]
            else:
                merged[key] = value
    return merged


def _alternatives(schema: Mapping[str, Json]) -> list[Json]:
    return _sequence(schema.get("anyOf")) or _sequence(schema.get("oneOf"))


def _without(schema: Mapping[str, Json], *names: str) -> dict[str, Json]:
    return {key: value for key, value in schema.items() if key not in names}


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _bound(value: Json, default: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else default
