"""Read one document in a process of its own: bytes in, JSON out.

The limits are set before the first byte is read. After the input the process gives up what it does
not need any more: it can open no file and no connection, and start no process.
"""

from __future__ import annotations

import codecs
import contextlib
import resource
import sys

import msgspec

from server.documents.document_formats import read_document
from server.documents.extract import TextCollector, Unreadable
from server.documents.reading import ADDRESS_SPACE_BYTES, Finding

CPU_S = 8
"""Of the processor, not of the clock: a busy machine must not refuse what it can read."""
ENCODINGS = (
    *("ascii", "latin_1", "utf_8", "utf_8_sig", "utf_16", "utf_16_le", "utf_16_be", "utf_32"),
    *("cp437", "cp850", "cp874", "cp932", "cp949", "euc_jp", "euc_kr", "shift_jis", "gb18030"),
    *("gb2312", "big5", "mac_roman", "iso8859_15", *(f"cp{page}" for page in range(1250, 1259))),
)
"""Python reads the module of an encoding when it is first used, which is impossible later."""


def main() -> None:
    """Read the document that arrives, and write what was found."""
    _limit(resource.RLIMIT_AS, ADDRESS_SPACE_BYTES)
    _limit(resource.RLIMIT_CPU, CPU_S)
    _limit(resource.RLIMIT_CORE, 0)
    for name in ENCODINGS:
        codecs.lookup(name)
    with contextlib.suppress(ImportError):
        import pypdfium2  # noqa: F401 - loaded now, because nothing can be opened later
    data = sys.stdin.buffer.read()
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):
        _limit(limit, 0)
    sys.stdout.buffer.write(msgspec.json.encode(_finding(data)))


def _finding(data: bytes) -> Finding:
    try:
        return Finding(extract=read_document(data, TextCollector()))
    except Unreadable as error:
        return Finding(reason=error.reason, detail=error.detail)
    except (MemoryError, RecursionError) as error:
        return Finding(reason="too_complex", detail=type(error).__name__)
    except Exception as error:  # noqa: BLE001 - whatever a damaged file leads to; the parent logs it
        return Finding(reason="damaged", detail=type(error).__name__)


def _limit(kind: int, most: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # a lower limit is set already
        resource.setrlimit(kind, (most, most))


main()
