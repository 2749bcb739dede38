"""Describe the fields of `[[models]]` in `roxy.toml`, for the documentation.

They are read from the structs in `workers.catalog.entries`, so they cannot differ from the code.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import msgspec
from msgspec import NODEFAULT, UNSET, Struct

from server.config.settings_table import description_of
from workers.catalog.catalog_file import DEFAULT
from workers.catalog.entries import ENTRY_TABLES

SIMPLE = {
    msgspec.inspect.StrType: "text",
    msgspec.inspect.DateType: "date",
    msgspec.inspect.BoolType: "true or false",
    msgspec.inspect.DictType: "table",
}


class EntryField(NamedTuple):
    """One field; `kind` and `default` in words and Markdown."""

    name: str
    kind: str
    default: str
    doc: str


class EntryTable(NamedTuple):
    """One table of TOML: its heading, its purpose and its fields."""

    heading: str
    about: str
    fields: list[EntryField]


def describe_entries() -> list[EntryTable]:
    """Return the tables that describe a model, with every field."""
    return [
        EntryTable(heading, (struct.__doc__ or "").strip(), _fields(struct))
        for heading, struct in ENTRY_TABLES.items()
    ]


def _fields(struct: type[Struct]) -> list[EntryField]:
    described = msgspec.inspect.type_info(struct)
    assert isinstance(described, msgspec.inspect.StructType)
    return [
        EntryField(field.name, _kind(inspected.type), _default(field), description_of(field))
        for field, inspected in zip(msgspec.structs.fields(struct), described.fields, strict=True)
    ]


def _default(field: msgspec.structs.FieldInfo) -> str:
    """Return the default in Markdown, or "" where the field's description says it."""
    if field.required:
        return "required"
    # Clocks have no default of their own, and a default_factory makes an empty table.
    default = getattr(DEFAULT, field.name, None) if field.default is UNSET else field.default
    return "" if default in ("", (), None, NODEFAULT) else f"`{json.dumps(default)}`"


def _kind(inspected: msgspec.inspect.Type) -> str:
    """Return a type in words."""
    match inspected:
        case msgspec.inspect.Metadata(type=inner):
            return _kind(inner)
        case msgspec.inspect.UnionType(types=types):
            kinds = [_kind(one) for one in types if not isinstance(one, msgspec.inspect.NoneType)]
            return " or ".join(kinds)
        case msgspec.inspect.VarTupleType(item_type=item):
            return (
                "tables"
                if isinstance(item, msgspec.inspect.StructType)
                else f"list of {_kind(item)}"
            )
        case msgspec.inspect.StructType():
            return "table"
        case msgspec.inspect.LiteralType(values=values):
            return " or ".join(f"`{json.dumps(value)}`" for value in values)
        case msgspec.inspect.IntType(ge=least, le=most):
            return f"integer{_range(least, most)}"
        case msgspec.inspect.FloatType(ge=least, le=most):
            return f"number{_range(least, most)}"
    return SIMPLE[type(inspected)]


def _range(least: float | None, most: float | None) -> str:
    if least is None:
        return ""
    return f" of at least {least:,}" if most is None else f" from {least:,} to {most:,}"
