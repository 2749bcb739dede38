"""A head that is taken is read as Tornado's own parser reads it; more heads are refused."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, HTTPInputError

from server.http.request_head import parse_head

Read = tuple[str, list[tuple[str, str]]] | None


def tornados(data: bytes) -> tuple[str, HTTPHeaders]:
    """Parse as Tornado does; its method uses nothing of its connection."""
    nobody: Any = None
    return HTTP1Connection._parse_headers(nobody, data)


def read(parse: Any, data: bytes) -> Read:
    """Return what a parser makes of a head; None: it refuses it."""
    try:
        start_line, headers = parse(data)
    except HTTPInputError:
        return None
    found = list(headers.get_all())
    assert all(headers[name] == ",".join(headers.get_list(name)) for name, _ in found)
    return start_line, found


def short(data: bytes) -> tuple[str, HTTPHeaders]:
    """Parse our way."""
    start_line, headers, _ = parse_head(data)
    return " ".join(start_line), headers


HEADS = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\nHOST: b\r\nHost:c\r\n\r\n",
    b"GET / HTTP/1.1\r\nA:\r\nB: \t \r\nC: x \t\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: b:c: d\r\nX-y-Z:1\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET / HTTP/1.1\r\nHost: a\n\r\n",
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
    b"GET / HTTP/1.1\r\n A: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
    b"GET / HTTP/1.1\r\nA\r\n\r\n",
    b"GET / HTTP/1.1\r\n: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: \x85\xa0b\xa0\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: b\x0bc\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: \x0b\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: b\0\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: b\x7f\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: \x1c\x1d\r\n\r\n",
    b"GET / HTTP/2.0\r\nA: b\r\n\r\n",
    b"GET  / HTTP/1.1\r\nA: b\r\n\r\n",
    b"\r\n\r\n",
)


@pytest.mark.parametrize("data", HEADS, ids=ascii)
def test_a_head_is_read_as_tornado_reads_it_or_refused(data: bytes) -> None:
    assert read(short, data) in (read(tornados, data), None)


BITS = (
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b": ", b",", b"A", b"a-b", b"Host"),
    *(b"\0", b"\x0b", b"\x1f", b"\x7f", b"\x85", b"\xa0", b"\xff", b"("),
    *(b"GET / HTTP/1.1\r\n", b"\r\nX: y"),
)
PIECES = st.sampled_from(BITS) | st.binary(max_size=3)


@given(st.lists(PIECES, max_size=15))
def test_no_head_is_read_another_way(pieces: list[bytes]) -> None:
    for start in (b"", b"GET / HTTP/1.1\r\nHost: a"):
        data = start + b"".join(pieces) + b"\r\n\r\n"
        assert read(short, data) in (read(tornados, data), None)


@pytest.mark.parametrize("name", ["Host", "host", "X-Sent-Twice", "x-sent-TWICE", "X-Absent"])
def test_get_finds_what_tornados_headers_find(name: str) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nx-sent-twice: 1\r\nX-Sent-Twice: 2\r\n\r\n"
    _, expected = tornados(head)
    _, headers, _ = parse_head(head)
    assert headers.get(name) == expected.get(name)
    assert headers.get(name, "else") == expected.get(name, "else")


def test_long_names_of_headers_are_not_kept() -> None:
    tracemalloc.start()
    try:
        for number in range(100):
            name = b"X" * 30_000 + str(number).encode()
            parse_head(b"GET / HTTP/1.1\r\n" + name + b": y\r\n\r\n")
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 1_000_000
