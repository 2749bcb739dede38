"""What is read of documents, by their formats."""

from __future__ import annotations

import pytest
from support.inputs.office_files import (
    open_file,
    paragraph,
    pdf_file,
    sheet_file,
    slide_file,
    word_file,
    zipped,
)

from server.documents.document_formats import read_document
from server.documents.extract import Extract, TextCollector, Unreadable
from server.documents.office.zip_parts import MAX_UNPACKED_BYTES

STYLES = (
    '<numFmts><numFmt numFmtId="164" formatCode="dd/mm/yyyy"/>'
    '<numFmt numFmtId="165" formatCode="0.00 &quot;days&quot;"/></numFmts>'
    '<cellStyleXfs><xf numFmtId="14"/></cellStyleXfs>'
    '<cellXfs><xf numFmtId="0"/><xf numFmtId="164"/><xf numFmtId="165"/>'
    '<xf numFmtId="22"/></cellXfs>'
)


def read(data: bytes, **limits: float) -> Extract:
    return read_document(data, TextCollector(**limits))  # type: ignore[arg-type]


def reason_of(data: bytes) -> str:
    with pytest.raises(Unreadable) as refused:
        read(data)
    return refused.value.reason


def test_a_pdf_is_read_page_by_page() -> None:
    found = read(b"junk before\n" + pdf_file(["Crème (brûlée) today", "", "The third page"]))
    assert found.text == "[Page 1]\nCrème (brûlée) today\n\n[Page 2]\n\n\n[Page 3]\nThe third page"
    assert (found.format, found.unit, found.units, found.units_read) == ("pdf", "page", 3, 3)


def test_a_pdf_without_text_is_a_scan() -> None:
    assert reason_of(pdf_file(["", "12", ""])) == "scanned"


def test_a_pdf_with_a_password_and_a_damaged_one_are_distinguished() -> None:
    assert reason_of(pdf_file(["secret"], locked=True)) == "password"
    assert reason_of(b"%PDF-1.7\nnothing of the kind") == "damaged"


def test_a_word_file_has_headings_lists_tables_and_pages() -> None:
    styles = (
        '<w:styles xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
        '<w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style></w:styles>'
    )
    body = (
        paragraph("Titel", '<w:pStyle w:val="berschrift1"/>')
        + paragraph("An item", "<w:numPr/>")
        + "<w:p><w:r><w:t>One</w:t><w:tab/><w:t>two</w:t></w:r>"
        "<w:del><w:r><w:t>deleted</w:t></w:r></w:del></w:p>"
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>A</w:t></w:r></w:p></w:tc>"
        "<w:tc><w:p><w:r><w:t>B</w:t></w:r></w:p><w:p><w:r><w:t>C</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
        "<mc:AlternateContent><mc:Choice><w:p><w:r><w:t>In a box</w:t></w:r></w:p></mc:Choice>"
        "<mc:Fallback><w:p><w:r><w:t>In a box</w:t></w:r></w:p></mc:Fallback></mc:AlternateContent>"
        "<w:p><w:r><w:lastRenderedPageBreak/><w:t>Second</w:t></w:r></w:p>"
        '<w:p><w:r><w:br w:type="page"/></w:r></w:p>' + paragraph("Third")
    )
    app = "<Properties><Pages>3</Pages></Properties>"
    notes = (
        '<w:footnotes xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
        + paragraph("See there")
        + "</w:footnotes>"
    )
    more = {"word/styles.xml": styles, "docProps/app.xml": app, "word/footnotes.xml": notes}
    found = read(word_file(body, more))
    assert found.text == (
        "[Page 1]\n# Titel\n- An item\nOne\ttwo\nA | B C\nIn a box\n\n[Page 2]\nSecond\n\n\n"
        "[Page 3]\nThird\n\nFootnotes:\nSee there"
    )
    assert (found.format, found.unit, found.units) == ("docx", "page", 3)
    plain = read(word_file(paragraph("Only this")))
    assert (plain.text, plain.unit) == ("Only this", None)


def test_a_workbook_is_read_sheet_by_sheet_with_dates() -> None:
    rows = (
        '<row><c r="A1" t="s"><v>0</v></c>'
        '<c r="C1" t="inlineStr"><is><t>Two\nlines</t></is></c></row>'
        '<row><c r="A2" s="1"><v>45292</v></c><c r="B2" s="2"><v>3</v></c>'
        '<c r="C2" s="3"><v>45292.5</v></c><c r="D2" t="b"><v>1</v></c></row><row/>'
    )
    found = read(sheet_file({"Umsätze": rows, "Empty": ""}, ["Größe"], STYLES))
    assert found.text == (
        "[Sheet: Umsätze]\nGröße\t\tTwo lines\n2024-01-01\t3\t2024-01-01 12:00:00\tTRUE\n\n"
        "[Sheet: Empty]"
    )
    assert (found.format, found.unit, found.units) == ("xlsx", "sheet", 2)


def test_slides_come_in_their_order_with_their_notes() -> None:
    found = read(slide_file(["First", "Second"], {1: "Say hello"}))
    assert found.text == "[Slide 1]\nFirst\n\n[Slide 2]\nSecond\nNotes: Say hello"
    assert (found.format, found.unit, found.units) == ("pptx", "slide", 2)


def test_open_documents_are_read() -> None:
    text = (
        '<office:text><text:h text:outline-level="2">Title</text:h>'
        "<text:p>a<text:s text:c='2'/>b<office:annotation><text:p>no</text:p></office:annotation>"
        "</text:p>"
        "<text:list><text:list-item><text:p>item</text:p></text:list-item></text:list>"
        "<table:table><table:table-row><table:table-cell><text:p>A</text:p></table:table-cell>"
        "<table:table-cell><text:p>B</text:p></table:table-cell></table:table-row></table:table>"
        "</office:text>"
    )
    assert read(open_file("text", text)).text == "## Title\na  b\n- item\nA | B"
    sheet = (
        '<office:spreadsheet><table:table table:name="One"><table:table-row>'
        "<table:table-cell><text:p>x</text:p></table:table-cell>"
        '<table:table-cell table:number-columns-repeated="2"/>'
        '<table:table-cell table:number-columns-repeated="2"><text:p>y</text:p></table:table-cell>'
        '<table:table-cell table:number-columns-repeated="16380"/></table:table-row>'
        '<table:table-row table:number-rows-repeated="1048000"><table:table-cell/>'
        "</table:table-row>"
        "</table:table></office:spreadsheet>"
    )
    found = read(open_file("spreadsheet", sheet))
    assert (found.text, found.unit) == ("[Sheet: One]\nx\t\t\ty\ty", "sheet")
    slides = (
        "<office:presentation><draw:page><text:p>Hello</text:p></draw:page>"
        "<draw:page><text:p>Again</text:p></draw:page></office:presentation>"
    )
    found = read(open_file("presentation", slides))
    assert found.text == "[Slide 1]\nHello\n\n[Slide 2]\nAgain"
    manifest = {
        "META-INF/manifest.xml": "<manifest><file-entry><encryption-data/></file-entry></manifest>"
    }
    assert reason_of(open_file("text", text, manifest)) == "password"


def test_books_and_rich_text_are_read() -> None:
    book = zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<c><rootfile full-path="OPS/book.opf"/></c>',
            "OPS/book.opf": '<p><item id="b" href="two.xhtml"/><item id="a" href="one%20.xhtml"/>'
            '<itemref idref="a"/><itemref idref="b"/></p>',
            "OPS/one .xhtml": "<!DOCTYPE html><title>No</title><h2>One</h2><p>caf&eacute; <i>now",
            "OPS/two.xhtml": "<p>Two</p><script>no()</script>",
        }
    )
    assert read(book).text == "## One\ncafé now\n\nTwo"
    rich = (
        rb"{\rtf1\ansi\ansicpg1251{\fonttbl{\f0 Arial;}}{\*\generator X;}\f0 \'cf\'f0\'e8"
        rb"\'e2\'e5\'f2"
        rb" \u8364?\par {\b bold}\emdash  \u-10179?\u-8704?\par}"
    )
    assert read(rich).text == "Привет €\nbold— \U0001f600"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"WordDocument" * 50, "old_office"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            "password",
        ),
        (b"PK\x03\x04 cut off", "damaged"),
        (zipped({"readme.txt": "hello"}), "unsupported"),
        (b"\x89PNG\r\n\x1a\n", "unsupported"),
        (bytes(range(256)) * 100, "unsupported"),
        (word_file("<w:p>"), "damaged"),
        (word_file(""), "empty"),
    ],
    ids=["old", "encrypted", "cut", "zip", "image", "bytes", "xml", "empty"],
)
def test_what_cannot_be_read_has_a_reason(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


def test_entities_and_zip_bombs_are_refused() -> None:
    entities = '<!DOCTYPE x [<!ENTITY a "aaaa">]><w:document><w:body>&a;</w:body></w:document>'
    assert reason_of(word_file("", {"word/document.xml": entities})) == "damaged"
    blank = " " * (MAX_UNPACKED_BYTES // 4 + 1)
    parts = {f"word/{name}.xml": f"<x>{blank}</x>" for name in ("styles", "footnotes", "endnotes")}
    assert reason_of(word_file(blank, parts)) == "too_complex"


def test_a_long_text_is_cut_at_its_limit() -> None:
    found = read("Ünlimited ".encode() * 1000, max_bytes=1000)
    assert found.is_cut and 990 <= len(found.text.encode()) <= 1000
    pages = read(pdf_file([f"Page number {n}" for n in range(50)]), max_bytes=200)
    assert pages.is_cut and pages.units == 50 and pages.units_read is not None
    assert pages.units_read < 50 and pages.text.startswith("[Page 1]\nPage number 0")
    over_time = read(pdf_file(["One page of words", "Another page"]), within_s=-1)
    assert over_time.is_cut
