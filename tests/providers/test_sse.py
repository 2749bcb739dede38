"""An event stream gives the same payloads however its bytes were cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.providers.event_splitter import EventSplitter

CASES = [
    ("one event", b"data: a\n\n", [b"a"]),
    ("several events", b"data: a\n\ndata: b\n\ndata: c\n\n", [b"a", b"b", b"c"]),
    ("no space after the colon", b"data:a\n\n", [b"a"]),
    ("only one space is taken", b"data:  a \n\n", [b" a "]),
    ("CRLF", b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    ("CRLF and LF mixed", b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"]),
    ("a lone CR is white space", b'data: {"a":\r1}\n\n', [b'{"a": 1}']),
    ("comments", b": hi\n\n:\ndata: a\n: x\n\n", [b"a"]),
    ("other fields", b"event: x\nid: 1\nretry: 2\ndata: a\n\n", [b"a"]),
    ("fields that only begin like data", b"database: x\ndata: a\n\n", [b"a"]),
    ("an event without data", b"event: ping\n\ndata: a\n\n", [b"a"]),
    ("empty data", b"data:\n\ndata: \n\ndata\n\ndata: a\n\n", [b"a"]),
    ("data over several lines", b"data: {\ndata:\ndata: }\n\n", [b"{  }"]),
    ("several lines in CRLF", b"data: {\r\ndata: }\r\n\r\n", [b"{ }"]),
    ("a byte order mark", b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    ("a byte order mark later is no field", b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
    ("blank lines", b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n", [b"a", b"b"]),
    ("Unicode line ends are none", "data: \u2028\u0085\n\n".encode(), ["\u2028\u0085".encode()]),
    ("an end without blank line", b"data: a\n\ndata: b\n", [b"a", b"b"]),
    ("an end without line end", b"data: a\n\ndata: b", [b"a", b"b"]),
    ("an end within CRLF", b"data: a\r\n\r\ndata: b\r", [b"a", b"b"]),
    ("CR alone", b": x\rdata: {}\r\rid: 1\rdata: [DONE]\r\r", [b"{}", b"[DONE]"]),
    ("CR alone, then an end", b"data: {}\rdata: [1]", [b"{}", b"[1]"]),
    ("one newline", b'data: {"a":1}\ndata: {"a":2}\ndata: [DONE]\n',
     [b'{"a":1}', b'{"a":2}', b"[DONE]"]),
    ("an object over two lines", b'data: {"a":\ndata: {}}\n\n', [b'{"a": {}}']),
    ("JSON without a field name", b'\n{"a":\n 1\n}\n\n', [b'{"a":  1 }']),
    ("JSON in CRLF", b'{\r\n"a": 1\r\n}\r\n', [b'{  "a": 1  } ']),
    ("JSON lines", b'{"a":1}\n{"a":2}\n\n[DONE]', [b'{"a":1}', b'{"a":2}', b"[DONE]"]),
    ("JSON after events", b'data: a\n\n{"a":1}', [b"a", b'{"a":1}']),
    ("text that begins like JSON", b"[info] x\n\ndata: a\n\n[warn", [b"a"]),
    ("nothing", b"", []),
]  # fmt: skip


def split(pieces: list[bytes], limit: int = 1000) -> list[bytes]:
    splitter = EventSplitter(limit)
    payloads = [payload for piece in pieces for payload in splitter.feed(piece)]
    assert not splitter.overlong
    return payloads + splitter.finish()


@pytest.mark.parametrize(
    ("stream", "payloads"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_a_stream_gives_its_payloads_however_it_is_cut(
    stream: bytes, payloads: list[bytes]
) -> None:
    assert split([stream]) == payloads
    assert split([stream[at : at + 1] for at in range(len(stream))]) == payloads
    for at in range(len(stream)):
        assert split([stream[:at], stream[at:]]) == payloads, at


LINES = [
    b"data: a",
    b"data:",
    b"data",
    b": c",
    b"event: e",
    b"",
    b"\r",
    b"data: b\r",
    b"\xef\xbb\xbf",
]


@given(st.lists(st.sampled_from(LINES)), st.lists(st.integers(0, 80), max_size=6))
def test_any_stream_gives_the_same_whole_and_in_pieces(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"\n".join(lines)
    places = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]
    assert split(pieces) == split([stream])


@pytest.mark.parametrize(
    ("stream", "overlong"),
    [
        (b"data: 56789\n\n", False),
        (b"data: 567890\n\n", True),
        (b"data: 5\ndata: 5\n\n", True),
        (b"data:\n" * 3 + b"\n", True),
        (b"data: 5\n\n" * 9, False),
        (b": a long comment", True),
        (b": a long comment\n\n", True),
        (b": short\n\n" * 9, False),
    ],
)
def test_an_event_or_line_beyond_the_cap_is_told_however_it_is_cut(
    stream: bytes, overlong: bool
) -> None:
    for size in (1, 2, 5, len(stream)):
        splitter = EventSplitter(11)
        for at in range(0, len(stream), size):
            splitter.feed(stream[at : at + size])
        assert splitter.overlong is overlong, size


def test_events_before_an_overlong_one_come_out_and_none_after_it() -> None:
    splitter = EventSplitter(20)
    assert splitter.feed(b"data: a\n\ndata: " + b"x" * 30 + b"\n\ndata: b\n\n") == [b"a"]
    assert splitter.overlong
    assert splitter.feed(b"data: c\n\n") == []
    assert splitter.finish() == []


def test_an_event_of_many_megabytes_is_put_together_once() -> None:
    splitter = EventSplitter(64 * 1024 * 1024)
    splitter.feed(b"data: ")
    for _ in range(32 * 1024):  # joining at every step would copy 500 GB
        splitter.feed(b"x" * 1024)
    (payload,) = splitter.feed(b"\n\n")
    assert len(payload) == 32 * 1024 * 1024


def test_events_parted_by_one_newline_come_out_with_their_own_line() -> None:
    splitter = EventSplitter(1000)
    assert splitter.feed(b'data: {"a":1}\n') == [], "the event may have another line"
    assert splitter.feed(b'data: {"a":2}\n') == [b'{"a":1}', b'{"a":2}']
    assert splitter.feed(b'data: {"a":3}\n') == [b'{"a":3}']


def test_only_a_text_that_is_the_whole_body_is_bare() -> None:
    for body, bare in (
        (b'{"a":1}', True),
        (b': x\n\n{"a":\n1}\n', True),
        (b'{"a":1}\n{"a":2}\n', False),
        (b'data: {"a":1}\n\n', False),
        (b'data: {"a":1}\n\n{"a":2}', False),
        (b'data: {"a":1}\ndata: {"a":2}\n{"a":2}', False),
        (b"[info]\n", False),
    ):
        splitter = EventSplitter(1000)
        splitter.feed(body)
        splitter.finish()
        assert splitter.is_bare is bare, body
