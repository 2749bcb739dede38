"""Recognise what a document is by its first bytes, and read it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from server.documents.extract import Extract, TextCollector, TextFull, Unreadable
from server.documents.office.book_file import read_book
from server.documents.office.open_document import read_open_document
from server.documents.office.sheet_file import read_sheets
from server.documents.office.slide_file import read_slides
from server.documents.office.word_file import read_word
from server.documents.office.zip_parts import ZipParts
from server.documents.pdf_pages import read_pdf
from server.documents.plain_text import decode_text
from server.documents.rich_text import read_rich_text
from workers.units import KIB

PDF_START_WITHIN = 1 * KIB
"""Readers accept bytes before the header (ISO 32000-1, annex H, note 13)."""
ZIP_START = b"PK\x03\x04"
OLE_START = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Compound files: Word, Excel and PowerPoint before 2007, and encrypted files of today."""
ENCRYPTED_PART = "EncryptedPackage".encode("utf-16-le")
MEDIA = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"\x1f\x8b", b"7z\xbc\xaf", b"ID3", b"OggS")


def read_document(data: bytes, out: TextCollector) -> Extract:
    """Return the text of a document, as far as it fits into `out`. Raises Unreadable."""
    name, read = _reader_for(data)
    is_cut = False
    try:
        read(out)
    except TextFull:
        is_cut = True
    found = out.extract(name, is_cut=is_cut)
    if not found.text.strip():
        raise Unreadable("empty")
    return found


def _reader_for(data: bytes) -> tuple[str, Callable[[TextCollector], None]]:
    """Return the format of a document, and what reads it."""
    if b"%PDF-" in data[:PDF_START_WITHIN]:
        return "pdf", partial(read_pdf, data)
    if data.startswith(ZIP_START):
        return _zip_reader(ZipParts(data))
    if data.startswith(OLE_START):
        raise Unreadable("password" if ENCRYPTED_PART in data else "old_office", "compound file")
    if data.startswith(b"{\\rtf"):
        return "rtf", partial(read_rich_text, data)
    if data.startswith(MEDIA):
        raise Unreadable("unsupported", "media")
    return "text", lambda out: out.add(decode_text(data))


def _zip_reader(parts: ZipParts) -> tuple[str, Callable[[TextCollector], None]]:
    names = parts.names
    if "[Content_Types].xml" in names:
        for folder, name, read in (
            ("word/", "docx", read_word),
            ("xl/", "xlsx", read_sheets),
            ("ppt/", "pptx", read_slides),
        ):
            if any(part.startswith(folder) for part in names):
                return name, partial(read, parts)
    kind = parts.read("mimetype", 100).decode("ascii", "replace")
    if "opendocument" in kind and "content.xml" in names:
        family = kind.rpartition(".")[2].partition("-")[0].strip()
        name = {"spreadsheet": "ods", "presentation": "odp"}.get(family, "odt")
        return name, partial(read_open_document, parts)
    if "epub" in kind or "META-INF/container.xml" in names:
        return "epub", partial(read_book, parts)
    raise Unreadable("unsupported", "zip")
