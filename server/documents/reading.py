"""Have a document read by a child process, few at a time, and stop one that takes too long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

import server
from server.documents.extract import MAX_TEXT_BYTES, Extract, Reason
from workers.errors import DocumentUnreadable, GatewayError, Overloaded
from workers.units import KIB, MIB

log = logging.getLogger("roxy.documents")

ADDRESS_SPACE_BYTES = 200 * MIB
STOPPED_AFTER_S = 60.0
"""The child stops itself after 8 s of the processor; this is for a machine that is too busy."""
BUSY_WAIT_S = 5.0
MAX_AT_ONCE = 2
MAX_WAITING = 16
MAX_PER_LANE = 6
"""How many of them one key, or all guests together, may have read or waiting."""
MAX_ANSWER_BYTES = 6 * MAX_TEXT_BYTES + 64 * KIB
"""JSON may need six bytes for one of a text: \\u0001."""

WORDS: dict[Reason, str] = {
    "password": "This document is protected by a password. Remove the password and attach it"
    " again.",
    "scanned": "This PDF has no text: its pages are pictures. Run text recognition (OCR) on it, or"
    " attach the pages as images.",
    "empty": "This file has no text.",
    "old_office": "This file has the format of an old Office version. Save it as DOCX, XLSX or PPTX"
    " and attach it again.",
    "damaged": "This document is damaged. Open it in the program it was made with, save it again"
    " and attach the new file.",
    "too_complex": "This document takes too long to read or needs too much memory. Save the part"
    " you need as a document of its own and attach that.",
    "unsupported": "No text can be read from this kind of file. These can be read: PDF, DOCX, XLSX,"
    " PPTX, ODT, ODS, ODP, RTF, EPUB and text files.",
    "no_pdf": "PDF files cannot be read here: the owner can add this with"
    " pip install 'roxy-ai[documents]'.",
}


class Finding(Struct, frozen=True, kw_only=True):
    """What the child answers: an extract, or the reason why there is none."""

    extract: Extract | None = None
    reason: Reason = "damaged"
    detail: str = ""


class DocumentReader:
    """Read documents for callers, who wait their turn."""

    def __init__(self, stopped_after_s: float = STOPPED_AFTER_S) -> None:
        self._stopped_after_s = stopped_after_s
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)
        self._asking: dict[str, int] = {}

    def check_room(self, lane: str) -> None:
        """Raise Overloaded if too many documents wait, or too many of this lane."""
        waiting = sum(self._asking.values())
        if waiting >= MAX_AT_ONCE + MAX_WAITING or self._asking.get(lane, 0) >= MAX_PER_LANE:
            raise Overloaded(
                "Too many documents are being read. Try again shortly.",
                retry_after_s=BUSY_WAIT_S,
            )

    async def read(self, data: bytes, lane: str, left: Callable[[], bool]) -> Extract:
        """Return the text of a document; `left` returns whether the caller has left.

        Raises DocumentUnreadable and Overloaded.
        """
        self.check_room(lane)
        self._asking[lane] = self._asking.get(lane, 0) + 1
        try:
            async with self._turns:
                if left():
                    raise DocumentUnreadable
                finding = await self._finding(data)
        finally:
            self._asking[lane] -= 1
            if not self._asking[lane]:
                del self._asking[lane]
        if finding.extract is not None:
            return finding.extract
        log.info("a document could not be read: %s %s", finding.reason, finding.detail)
        words = WORDS[finding.reason]
        if finding.reason in ("scanned", "empty"):
            raise DocumentUnreadable(words, code="document_without_text")
        if finding.reason in ("unsupported", "no_pdf"):
            raise DocumentUnreadable(words, code="document_type_unsupported")
        raise DocumentUnreadable(words)

    async def _finding(self, data: bytes) -> Finding:
        try:
            async with asyncio.timeout(self._stopped_after_s):
                answer = await _ask_child(data)
            return msgspec.json.decode(answer, type=Finding)
        except TimeoutError:
            return Finding(reason="too_complex", detail="stopped after its time")
        except msgspec.DecodeError:  # its limits of memory and time end a process without a word
            return Finding(reason="too_complex", detail="the process ended")
        except OSError as error:
            raise GatewayError from error


async def _ask_child(data: bytes) -> bytes:
    """Start a child, send it a document and return its answer, up to the limit."""
    # By module path only, as in `workers.catalog.prices`: no secret of our environment.
    here = str(Path(server.__file__).parents[1])
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "server.documents",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PYTHONPATH": os.pathsep.join([here, *filter(None, sys.path)])},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            child.stdin.write(data)
            await child.stdin.drain()
        child.stdin.close()
        answer = b""
        while piece := await child.stdout.read(MIB):
            answer += piece
            if len(answer) > MAX_ANSWER_BYTES:
                break
        return answer
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
