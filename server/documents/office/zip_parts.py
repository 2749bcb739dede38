"""The parts of an office file: a zip of XML files, read piece by piece within limits.

A zip may unpack to a thousand times its size, and XML may declare entities that expand without
end. So the bytes that are unpacked are counted, and a document type declaration is refused:
neither Office nor OpenDocument files have one.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Iterator
from typing import Literal, NamedTuple
from xml.parsers import expat

from server.documents.extract import Unreadable
from workers.units import KIB, MIB

MAX_UNPACKED_BYTES = 200 * MIB
MAX_PARTS = 20_000
PIECE_BYTES = 64 * KIB
MAX_DIGITS = 9
ENCRYPTED_FLAG = 1
RELATIONSHIPS = "relationships"
"""How the names of both namespaces of relationship ids end (ECMA-376, transitional and strict)."""


class XmlEvent(NamedTuple):
    """A start or an end of an element, by its local name, or a text."""

    kind: Literal["start", "end", "text"]
    name: str
    attributes: dict[str, str]


class ZipParts:
    """The parts of one file. Raises Unreadable for a file that is no zip, or a hostile one."""

    def __init__(self, data: bytes) -> None:
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            raise Unreadable("damaged", "no zip") from error
        self._left = MAX_UNPACKED_BYTES
        self.names = set(self._zip.namelist())
        if len(self.names) > MAX_PARTS:
            raise Unreadable("too_complex", "too many parts")

    def pieces(self, name: str) -> Iterator[bytes]:
        """Return the bytes of a part, unpacked piece by piece. A damaged one raises any error."""
        if self._zip.getinfo(name).flag_bits & ENCRYPTED_FLAG:
            raise Unreadable("password", "encrypted zip")
        with self._zip.open(name) as part:
            while piece := part.read(PIECE_BYTES):
                self._left -= len(piece)
                if self._left < 0:
                    raise Unreadable("too_complex", "unpacks to too much")
                yield piece

    def read(self, name: str, most: int = MIB) -> bytes:
        """Return the beginning of a part, b"" where there is none."""
        if name not in self.names:
            return b""
        found = b""
        for piece in self.pieces(name):
            found += piece
            if len(found) >= most:
                break
        return found[:most]

    def events(self, name: str) -> Iterator[XmlEvent]:
        """Return the events of an XML part; none where there is no such part.

        Attributes have their local names; a relationship's id is `r:id`.
        """
        if name not in self.names:
            return
        found: list[XmlEvent] = []
        parser = _parser_into(found)
        try:
            for piece in self.pieces(name):
                parser.Parse(piece, False)  # noqa: FBT003 - it takes no keywords
                yield from found
                found.clear()
            parser.Parse(b"", True)  # noqa: FBT003 - as above
        except expat.ExpatError as error:
            raise Unreadable("damaged", f"xml: {error.code}") from error
        yield from found

    def relations(self, name: str) -> dict[str, tuple[str, str]]:
        """Return what a part refers to: by id, the last word of the type and the part's name."""
        folder, own = posixpath.split(name)
        found = {}
        for event in self.events(posixpath.join(folder, "_rels", f"{own}.rels")):
            if event.kind == "start" and event.name == "Relationship":
                given = event.attributes
                target = given.get("Target", "")
                path = target[1:] if target.startswith("/") else posixpath.join(folder, target)
                kind = given.get("Type", "").rpartition("/")[2]
                found[given.get("Id", "")] = (kind, posixpath.normpath(path))
        return found

    def main(self, default: str) -> str:
        """Return the name of the main part of an Office file."""
        kinds = self.relations("").values()
        return next((path for kind, path in kinds if kind == "officeDocument"), default)


def whole_number(text: str, default: int = 0) -> int:
    """Return the number that an attribute or a text holds; the default for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else default


def _parser_into(found: list[XmlEvent]) -> expat.XMLParserType:
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True

    def start(name: str, attributes: dict[str, str]) -> None:
        found.append(
            XmlEvent(
                "start",
                name.rpartition(" ")[2],
                {_attribute(key): value for key, value in attributes.items()},
            )
        )

    def refuse(*_: object) -> None:
        raise Unreadable("damaged", "document type declaration")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: found.append(
        XmlEvent("end", name.rpartition(" ")[2], {})
    )
    parser.CharacterDataHandler = lambda text: found.append(XmlEvent("text", text, {}))
    parser.StartDoctypeDeclHandler = refuse
    return parser


def _attribute(name: str) -> str:
    space, _, local = name.rpartition(" ")
    return f"r:{local}" if space.endswith(RELATIONSHIPS) else local
