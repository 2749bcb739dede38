"""Documents as the programs of people write them, made from the parts that matter."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
SLIDE = "http://schemas.openxmlformats.org/presentationml/2006/main"
DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
OPEN = "urn:oasis:names:tc:opendocument:xmlns"


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    """Return a zip of parts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def relations(**targets: str) -> str:
    """Return a part of relationships: ids with `kind target`."""
    inside = "".join(
        f'<Relationship Id="{name}" Type="{OFFICE}/{kind}" Target="{target}"/>'
        for name, (kind, target) in ((n, t.split()) for n, t in targets.items())
    )
    return f'<?xml version="1.0"?><Relationships xmlns="{PACKAGE}">{inside}</Relationships>'


def word_file(body: str, more: Mapping[str, str] | None = None) -> bytes:
    """Return a DOCX with this body."""
    return zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": relations(r1="officeDocument word/document.xml"),
            "word/document.xml": f'<w:document xmlns:w="{WORD}" xmlns:mc="urn:mc"><w:body>{body}'
            "</w:body></w:document>",
            **(more or {}),
        }
    )


def paragraph(text: str, properties: str = "") -> str:
    """Return a paragraph of a DOCX."""
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def sheet_file(sheets: Mapping[str, str], shared: Sequence[str] = (), styles: str = "") -> bytes:
    """Return an XLSX with the rows of each sheet."""
    names = "".join(
        f'<sheet name="{name}" sheetId="{at}" r:id="s{at}"/>' for at, name in enumerate(sheets)
    )
    links = {f"s{at}": f"worksheet worksheets/sheet{at}.xml" for at in range(len(sheets))}
    texts = "".join(f"<si><t>{text}</t></si>" for text in shared)
    return zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": relations(r1="officeDocument xl/workbook.xml"),
            "xl/workbook.xml": f'<workbook xmlns="{SHEET}" xmlns:r="{OFFICE}"><sheets>{names}'
            "</sheets></workbook>",
            "xl/_rels/workbook.xml.rels": relations(
                **links, t="sharedStrings sharedStrings.xml", y="styles styles.xml"
            ),
            "xl/sharedStrings.xml": f'<sst xmlns="{SHEET}">{texts}</sst>',
            "xl/styles.xml": f'<styleSheet xmlns="{SHEET}">{styles}</styleSheet>',
            **{
                f"xl/worksheets/sheet{at}.xml": f'<worksheet xmlns="{SHEET}"><sheetData>{rows}'
                "</sheetData></worksheet>"
                for at, rows in enumerate(sheets.values())
            },
        }
    )


def slide_file(slides: Sequence[str], notes: Mapping[int, str] | None = None) -> bytes:
    """Return a PPTX: the text of each slide, and notes by the slide's number from 0."""
    notes = notes or {}

    def shape(text: str) -> str:
        return (
            f'<p:sld xmlns:p="{SLIDE}" xmlns:a="{DRAWING}"><a:p><a:r><a:t>{text}</a:t></a:r></a:p>'
            '<a:p><a:fld type="slidenum"><a:t>99</a:t></a:fld></a:p></p:sld>'
        )

    listed = "".join(f'<p:sldId id="{256 + at}" r:id="s{at}"/>' for at in range(len(slides)))
    links = {f"s{at}": f"slide slides/slide{len(slides) - at}.xml" for at in range(len(slides))}
    parts: dict[str, str | bytes] = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": relations(r1="officeDocument ppt/presentation.xml"),
        "ppt/presentation.xml": f'<p:presentation xmlns:p="{SLIDE}" xmlns:r="{OFFICE}">'
        f"<p:sldIdLst>{listed}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": relations(**links),
    }
    for at, text in enumerate(slides):
        number = len(slides) - at  # the order of the files is not that of the slides
        parts[f"ppt/slides/slide{number}.xml"] = shape(text)
        if at in notes:
            parts[f"ppt/slides/_rels/slide{number}.xml.rels"] = relations(
                n="notesSlide ../notesSlides/notes.xml"
            )
            parts["ppt/notesSlides/notes.xml"] = shape(notes[at])
    return zipped(parts)


def open_file(kind: str, body: str, more: Mapping[str, str] | None = None) -> bytes:
    """Return an ODT, ODS or ODP: `kind` is text, spreadsheet or presentation."""
    spaces = " ".join(
        f'xmlns:{name}="{OPEN}:{name}:1.0"' for name in ("office", "text", "table", "draw", "meta")
    )
    return zipped(
        {
            "mimetype": f"application/vnd.oasis.opendocument.{kind}",
            "content.xml": f"<office:document-content {spaces}><office:body>{body}</office:body>"
            "</office:document-content>",
            **{name: part.replace("SPACES", spaces) for name, part in (more or {}).items()},
        }
    )


def pdf_file(pages: Sequence[str], *, locked: bool = False) -> bytes:
    """Return a PDF with a line of text on each page; "" is a page without text."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    kids = []
    for text in pages:
        number = len(objects) + 1
        kids.append(f"{number} 0 R")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {number + 1} 0 R"
            " /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica"
            " /Encoding /WinAnsiEncoding >> >> >> >>".encode()
        )
        shown = text.encode("cp1252").replace(b"(", b"\\(").replace(b")", b"\\)")
        content = b"BT /F1 24 Tf 72 700 Td (" + shown + b") Tj ET" if text else b""
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>".encode()
    if locked:
        mark = b"<" + b"5a" * 32 + b">"
        objects.append(
            b"<< /Filter /Standard /V 2 /R 3 /Length 128 /P -4 /O %b /U %b >>" % (mark, mark)
        )
    return pdf_of(objects, locked=locked)


def placed_pdf(letters: Sequence[tuple[str, float, float]]) -> bytes:
    """Return a PDF of one page with each letter at its place in points; letters are 10 wide."""
    codes = {letter: code for code, letter in enumerate(sorted({one[0] for one in letters}), 33)}
    names = "".join(
        f"<{code:02x}> <{letter.encode('utf-16-be').hex()}>\n" for letter, code in codes.items()
    )
    cmap = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /A def\n"
        "/CMapType 2 def 1 begincodespacerange <00> <ff> endcodespacerange\n"
        f"{len(codes)} beginbfchar\n{names}endbfchar endcmap end end"
    ).encode()
    content = "\n".join(
        f"BT /F1 20 Tf {x} {y} Td <{codes[letter]:02x}> Tj ET" for letter, x, y in letters
    ).encode()
    stream = b"<< /Length %d >>\nstream\n%s\nendstream"
    widths = " ".join(["500"] * 223)
    page = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R"
        b" /Resources << /Font << /F1 4 0 R >> >> >>"
    )
    font = (
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /FirstChar 33 /LastChar 255"
        b" /Widths [%s] /ToUnicode 6 0 R >>"
    )
    return pdf_of(
        [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            page,
            font % widths.encode(),
            stream % (len(content), content),
            stream % (len(cmap), cmap),
        ]
    )


def pdf_of(objects: Sequence[bytes], *, locked: bool = False) -> bytes:
    """Return a PDF file of objects, the first of which is its catalog."""
    out = io.BytesIO(b"%PDF-1.7\n")
    out.seek(0, io.SEEK_END)
    places = []
    for number, content in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    table = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    lock = b" /Encrypt %d 0 R /ID [<00><00>]" % len(objects) if locked else b""
    out.write(b"trailer << /Size %d /Root 1 0 R%b >>\n" % (len(places) + 1, lock))
    out.write(b"startxref\n%d\n%%%%EOF\n" % table)
    return out.getvalue()
