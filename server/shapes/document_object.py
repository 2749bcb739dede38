"""The text of a document, as the API answers it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from server.documents.extract import Extract, Unit


class DocumentObject(Struct, frozen=True, kw_only=True):
    """The text of a document.

    `unit` says what `units` counts; both are null where a document has none of them. `units_read`
    of them are in `text`. `truncated` is true if the text is longer than the limit: its beginning
    is in `text`.
    """

    object: Literal["document"]
    format: str
    text: str
    unit: Unit | None
    units: int | None
    units_read: int | None
    truncated: bool


def document_object(extract: Extract) -> DocumentObject:
    """Return what was read as the API shows it."""
    return DocumentObject(
        object="document",
        format=extract.format,
        text=extract.text,
        unit=extract.unit,
        units=extract.units,
        units_read=extract.units_read,
        truncated=extract.is_cut,
    )
