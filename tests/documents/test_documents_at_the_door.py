"""POST documents from outside: who may, what it answers, and what it refuses."""

from __future__ import annotations

import asyncio
import io
import random
import zipfile

import pytest
from support.fakes.upstream import FakeUpstream
from support.front_door import OWNER, Door, bearer
from support.inputs.office_files import paragraph, pdf_file, sheet_file, word_file
from support.schemas import validate_error
from support.visitors import guest

from server.documents.reading import MAX_PER_LANE, DocumentReader
from workers.errors import DocumentUnreadable, Overloaded

MAX_FILE_BYTES = 10 * 1024 * 1024


async def test_the_text_of_a_document_is_answered_to_the_owner_and_to_keys(
    door: Door, upstream: FakeUpstream
) -> None:
    secret = (await door.client.post("/api/keys", json={"name": "k"}, headers=bearer(OWNER))).json()
    for key in (OWNER, secret["key"]):
        answer = await door.client.post(
            "/api/v1/documents", content=pdf_file(["Hello there", "And more"]), headers=bearer(key)
        )
        assert answer.status_code == 200
        assert answer.json() == {
            "object": "document",
            "format": "pdf",
            "text": "[Page 1]\nHello there\n\n[Page 2]\nAnd more",
            "unit": "page",
            "units": 2,
            "units_read": 2,
            "truncated": False,
        }


@pytest.mark.gateway(settings="[guests]\nrequests_per_minute = 2\n")
async def test_documents_of_a_guest_are_limited_but_are_no_messages(door: Door) -> None:
    browser = guest(door)
    text = "Größe;1".encode("cp1252")
    for _ in range(2):
        answer = await door.client.post("/api/v1/documents", content=text, headers=browser)
        assert answer.json()["text"] == "Größe;1"
        assert answer.headers["x-ratelimit-remaining-requests"] == "2"
    answer = await door.client.post("/api/v1/documents", content=text, headers=browser)
    assert answer.status_code == 429
    standing = (await door.client.get("/api/v1/key", headers=browser)).json()
    assert standing["remaining"]["requests"]["remaining"] == 2


async def test_what_cannot_be_read_is_refused_in_words(door: Door) -> None:
    cases = [
        (pdf_file(["secret"], locked=True), "document_unreadable", "Remove the password"),
        (pdf_file([""]), "document_without_text", "OCR"),
        (b"\x89PNG\r\n\x1a\n", "document_type_unsupported", "PDF, DOCX"),
    ]
    for data, code, words in cases:
        answer = await door.client.post("/api/v1/documents", content=data, headers=bearer(OWNER))
        assert answer.status_code == 400
        validate_error(answer.json())
        error = answer.json()["error"]
        assert error["code"] == code and words in error["message"]
    empty = await door.client.post("/api/v1/documents", headers=bearer(OWNER))
    assert empty.status_code == 400
    large = await door.client.post(
        "/api/v1/documents", content=b"a" * (MAX_FILE_BYTES + 1), headers=bearer(OWNER)
    )
    assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")


def changed(data: bytes, at: int, byte: int) -> bytes:
    """Return a file with another byte in one place, counted from its end if negative."""
    at %= len(data)
    return data[:at] + bytes([byte]) + data[at + 1 :]


def packed(method: int) -> bytes:
    """Return a DOCX that is packed by a method of `zipfile`."""
    made = io.BytesIO()
    text = paragraph(random.Random(1).randbytes(20_000).hex())
    with (
        zipfile.ZipFile(io.BytesIO(word_file(text))) as source,
        zipfile.ZipFile(made, "w", method) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return made.getvalue()


async def test_a_damaged_file_is_called_so_whatever_is_damaged_in_it(door: Door) -> None:
    whole = packed(zipfile.ZIP_DEFLATED)
    part, end = whole.rindex(b"PK\x01\x02"), whole.index(b"PK\x05\x06")
    methods = (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_STORED)
    files = [packed(method) for method in methods]
    cases = {
        **{f"data, method {one[8]}": changed(one, len(one) // 2, 0xA5) for one in files},
        "the version": changed(whole, part + 6, 99),
        "the method": changed(whole, part + 10, 77),
        "the size of the directory": changed(whole, end + 15, 0x7F),
        "the place of a part": changed(whole, part + 44, 0x7F),
        "the end": whole[:end],
    }
    for what, data in cases.items():
        answer = await door.client.post("/api/v1/documents", content=data, headers=bearer(OWNER))
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "document_unreadable"), what
        assert "is damaged" in error["message"], what


async def test_a_document_that_needs_too_much_memory_or_time_is_refused() -> None:
    reader = DocumentReader()
    hungry = sheet_file({"One": "<row/>"}, ["a" * (120 << 20)])
    with pytest.raises(DocumentUnreadable, match="too much memory"):
        await reader.read(hungry, "owner", lambda: False)
    slow = DocumentReader(stopped_after_s=0)
    with pytest.raises(DocumentUnreadable, match="too long"):
        await slow.read(word_file(paragraph("Hi")), "owner", lambda: False)


async def test_one_caller_cannot_take_all_turns() -> None:
    reader = DocumentReader()
    data = word_file(paragraph("Hi"))
    async with asyncio.TaskGroup() as tasks:
        reading = [
            tasks.create_task(reader.read(data, "guests", lambda: False))
            for _ in range(MAX_PER_LANE)
        ]
        await asyncio.sleep(0)  # each has begun
        with pytest.raises(Overloaded):
            await reader.read(data, "guests", lambda: False)
        other = await reader.read(data, "key_a", lambda: False)
    assert {each.result().text for each in reading} == {"Hi"} == {other.text}
    assert (await reader.read(data, "guests", lambda: False)).text == "Hi"
