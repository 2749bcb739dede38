"""The text of PDF files, page by page, by PDFium: the engine of Chromium's viewer.

Compared with files that browsers and office programs write, it resolves ligatures to letters and
reads 200 pages per second where readers written in Python read
10. It is native code, so it runs in the child only, which can open no file and no connection.
"""

from __future__ import annotations

import ctypes
import math
import re
from typing import Any

from server.documents.extract import TextCollector, Unreadable
from server.documents.right_to_left import Glyph, read_page, reads_from_right

HYPHENATED = re.compile("[\x02\ufffe]\n?")
"""PDFium's mark for a hyphen at the end of a line, where the word goes on."""
UNUSABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
FEW_LETTERS = 8
"""A scan may have a page number or a stamp as text."""
SLANT = 0.05
"""How far a letter may be turned, in radians, and still stand upright."""
PASSWORD_ERROR = 4
"""FPDF_ERR_PASSWORD in PDFium's fpdfview.h."""


def read_pdf(data: bytes, out: TextCollector) -> None:
    """Add the text of every page. Raises Unreadable."""
    try:
        import pypdfium2
    except ImportError as error:
        raise Unreadable("no_pdf") from error
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        is_locked = getattr(error, "err_code", None) == PASSWORD_ERROR or "assword" in str(error)
        raise Unreadable("password" if is_locked else "damaged", "PDFium") from error
    out.units = len(document)
    letters = 0
    for number in range(len(document)):
        out.begin("page")
        try:
            page = document[number]
            text = clean(text_of(page.get_textpage()))
            page.close()
        except pypdfium2.PdfiumError:
            text = ""  # one page is damaged; the others can be read
        letters += len(text)
        out.line(text)
    if letters <= FEW_LETTERS * len(document):
        raise Unreadable("scanned")


def text_of(page: Any) -> str:
    """Return the text of a page; where it has Hebrew or Arabic, in the order of where it stands."""
    text: str = page.get_text_range()
    if not reads_from_right(text):
        return text
    glyphs = glyphs_of(page)
    return read_page(glyphs) if glyphs else text


def glyphs_of(page: Any) -> list[Glyph] | None:
    """Return what stands on a page and where; None if a part of it does not stand upright."""
    import pypdfium2.raw as pdfium

    x, y, box = ctypes.c_double(), ctypes.c_double(), pdfium.FS_RECTF()
    found = []
    for at in range(page.count_chars()):
        text = chr(pdfium.FPDFText_GetUnicode(page, at))
        if pdfium.FPDFText_IsGenerated(page, at) or text.isspace() or text == "\0":
            continue
        angle = pdfium.FPDFText_GetCharAngle(page, at)
        if min(angle, 2 * math.pi - angle) > SLANT:
            return None
        pdfium.FPDFText_GetCharOrigin(page, at, x, y)
        pdfium.FPDFText_GetLooseCharBox(page, at, box)
        size = max(box.top - box.bottom, 1.0)
        found.append(Glyph(text, x.value, y.value, box.left, box.right, size))
    return found


def clean(text: str) -> str:
    """Return a page's text with plain line ends, words joined that a hyphen divides."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return UNUSABLE.sub("", HYPHENATED.sub("", lines)).strip()
