"""The readers below the HTTP server, byte by byte: heads and chunked bodies."""

from __future__ import annotations

import asyncio

import pytest
from tornado.httputil import (
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)

from server.http.answer_head import answer_head
from server.http.chunked_body import ChunkedBody
from server.http.client_connection import body_is_slow
from server.http.client_exchange import ClientExchange, Departure, Peer
from server.http.connection_errors import error_answer, invalid_http
from server.http.request_head import CHUNKED, find_head_end, parse_head, without_blank_lines


def read(pieces: list[bytes]) -> tuple[bytes, bytes, bool]:
    """Feed a body as it may come; what is not consumed is offered again."""
    body, unread, found, complete = ChunkedBody(), b"", b"", False
    for number, piece in enumerate(pieces):
        data, unread, complete = body.feed(unread + piece)
        found += data
        if complete:
            return found, unread + b"".join(pieces[number + 1 :]), True
    return found, unread, complete


def test_a_chunked_body_is_the_same_however_it_is_split() -> None:
    data = b"5\r\nhello\r\n00A\r\n0123456789\r\n1\r\n\r\r\n0\r\n\r\nGET / "
    whole = (b"hello0123456789\r", b"GET / ", True)
    assert read([data]) == whole
    assert read([data[at : at + 1] for at in range(len(data))]) == whole
    for at in range(len(data)):
        assert read([data[:at], data[at:]]) == whole


@pytest.mark.parametrize(
    "data",
    [
        *(b"5\nhello", b"5;a=b\r\n", b"+5\r\n", b" 5\r\n", b"\r\n", b"0x5\r\n"),
        *(b"5\r\nhello!!", b"5\r\nhello\rX", b"0\r\nX: y\r\n", b"f" * 16 + b"\r\n", b"f" * 20),
    ],
)
def test_odd_chunks_are_refused(data: bytes) -> None:
    with pytest.raises(HTTPInputError):
        read([data])
    with pytest.raises(HTTPInputError):
        read([data[at : at + 1] for at in range(len(data))] + [b"\0" * 20])


def test_a_head_gives_line_headers_and_length() -> None:
    data = b"BREW /a?b HTTP/1.1\r\nhost: x\r\nX-A:1\r\nx-a: \t2 \r\ncontent-length: 12\r\n\r\n"
    line, headers, length = parse_head(data)
    assert tuple(line) == ("BREW", "/a?b", "HTTP/1.1")
    assert (headers["Host"], headers["x-a"], headers.get_list("X-A")) == ("x", "1,2", ["1", "2"])
    assert length == 12 and "" not in headers and len(headers) == 3
    assert parse_head(b"GET / HTTP/1.0\r\n\r\n")[2] == 0
    assert parse_head(b"GET / HTTP/1.0\r\nTransfer-Encoding: Chunked\r\n\r\n")[2] == CHUNKED


def test_the_end_of_a_head_is_found_and_a_bare_line_feed_refused() -> None:
    assert find_head_end(b"GET / HTTP/1.1\r\n\r\n", 0) == 14
    assert find_head_end(b"GET / HTTP/1.1\r\n\r", 0) == -1
    for bare in (b"\n", b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\r\nHost: a\n"):
        with pytest.raises(HTTPInputError):
            find_head_end(bare, 0)
    assert without_blank_lines(b"\r\n\r\nGET") == b"GET"


class Delegate(HTTPMessageDelegate):
    """A delegate that notes its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def headers_received(
        self, _start_line: RequestStartLine | ResponseStartLine, _headers: HTTPHeaders
    ) -> None:
        """Note the head."""
        self.calls.append("head")

    def finish(self) -> None:
        """Note the end of the request."""
        self.calls.append("finish")


class Paper:
    """A connection that keeps what is written."""

    def __init__(self) -> None:
        self.sent = b""
        self.ended = self.released_times = 0

    def send(self, data: bytes) -> asyncio.Future[None]:
        """Keep it."""
        self.sent += data
        return asyncio.get_running_loop().create_future()

    def finished(self, exchange: ClientExchange) -> None:
        """Count it."""
        self.ended += 1

    def released(self, _exchange: ClientExchange) -> None:
        """Count that the body may come."""
        self.released_times += 1


async def test_a_held_exchange_completes_once_it_is_released() -> None:
    paper, steps = Paper(), Delegate()
    exchange = ClientExchange(
        Peer("192.0.2.1", "http"), paper.send, paper.finished, paper.released, Departure()
    )
    exchange.begin(steps, RequestStartLine("GET", "/", "HTTP/1.1"), HTTPHeaders())
    exchange.hold()
    exchange.complete()
    assert steps.calls == ["head"]
    exchange.release()
    assert (steps.calls, paper.released_times) == (["head", "finish"], 0)


async def test_the_body_of_a_held_exchange_is_asked_for_once_it_is_released() -> None:
    paper = Paper()
    exchange = ClientExchange(
        Peer("192.0.2.1", "http"), paper.send, paper.finished, paper.released, Departure()
    )
    exchange.hold()
    exchange.release()
    assert paper.released_times == 1


async def test_nothing_is_written_after_the_end_of_an_answer() -> None:
    paper = Paper()
    exchange = ClientExchange(
        Peer("192.0.2.1", "http"), paper.send, paper.finished, paper.released, Departure()
    )
    exchange.write(b"HTTP/1.1 200 OK\r\n\r\nok")
    exchange.finish()
    exchange.finish()
    assert exchange.write(b"late").done() and exchange.over
    assert paper.sent == b"HTTP/1.1 200 OK\r\n\r\nok" and paper.ended == 1


def test_every_head_forbids_sniffing() -> None:
    heads = [answer_head(200, {}, close=False), error_answer(invalid_http())]
    assert all(b"\r\nX-Content-Type-Options: nosniff\r\n" in head for head in heads)
    assert heads[1].count(b"Connection: close\r\n") == 1


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\r\nX: b"])
def test_a_header_that_holds_a_line_break_is_not_written(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        answer_head(200, {"X": value}, close=False)


@pytest.mark.parametrize(
    ("received", "lasted_s", "timeout_s", "slow"),
    [
        (0, 9.9, 60.0, False),  # a pause at its start
        (0, 10.1, 60.0, True),
        (500, 10.1, 60.0, True),  # dripped, long before the time is over
        (1024 * 11, 10.1, 60.0, False),
        (1024 * 30, 59.0, 60.0, True),
        (1024 * 59 + 1, 59.0, 60.0, False),
        (1024 * 61, 61.0, 60.0, True),  # past the time only a fast one goes on
        (1024 * 64 * 60, 61.0, 60.0, True),
        (1024 * 64 * 61, 61.0, 60.0, False),
        (0, 0.2, 0.3, False),
        (100, 0.31, 0.3, True),
    ],
)
def test_a_body_may_be_late_or_slow_but_not_dripped(
    received: int, lasted_s: float, timeout_s: float, slow: bool
) -> None:
    assert body_is_slow(received, lasted_s, timeout_s) is slow
