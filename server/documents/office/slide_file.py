"""The text of PowerPoint files (PPTX; ECMA-376, part 1, section 19)."""

from __future__ import annotations

from collections.abc import Iterator

from server.documents.extract import TextCollector
from server.documents.office.zip_parts import XmlEvent, ZipParts


def read_slides(parts: ZipParts, out: TextCollector) -> None:
    """Add the text of every slide in its order, and the speaker's notes below each."""
    main = parts.main("ppt/presentation.xml")
    relations = parts.relations(main)
    slides = [
        relations[event.attributes["r:id"]][1]
        for event in parts.events(main)
        if event.kind == "start"
        and event.name == "sldId"
        and event.attributes.get("r:id") in relations
    ]
    out.units = len(slides)
    for slide in slides:
        out.begin("slide")
        _add_text(parts, slide, out)
        for kind, notes in parts.relations(slide).values():
            if kind == "notesSlide":
                _add_text(parts, notes, out, "Notes: ")


def _add_text(parts: ZipParts, name: str, out: TextCollector, prefix: str = "") -> None:
    words: list[str] = []
    row: list[str] | None = None
    is_read = False
    for kind, tag, _ in _without_numbers(parts.events(name)):
        if kind == "text":
            words += [tag] * is_read
        elif tag == "t":
            is_read = kind == "start"
        elif tag in ("br", "tr") and kind == "start":
            row = [] if tag == "tr" else row
            words += ["\n"] * (tag == "br")
        elif tag == "p" and kind == "end":
            line, words = "".join(words).strip(), []
            if row is not None:
                row.append(line)
            elif line:
                out.line(prefix + line)
                prefix = ""
        elif tag == "tr" and row is not None:
            out.line(" | ".join(row))
            row = None


def _without_numbers(events: Iterator[XmlEvent]) -> Iterator[XmlEvent]:
    """Leave out the fields that show the number of the slide."""
    in_number = False
    for event in events:
        if event.name == "fld" and event.kind != "text":
            in_number = event.attributes.get("type") == "slidenum"
        elif not in_number:
            yield event
