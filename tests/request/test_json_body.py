"""A body from a stranger is split into its members, or refused in words that help."""

from __future__ import annotations

import json
import tracemalloc
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from workers.errors import InvalidRequest
from workers.request.json_body import MAX_DEPTH, read_object, read_objects

SCALARS: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


def refusal(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read_object(body)
    return caught.value


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{", "not valid JSON: it ends too early"),
        (b'{"a":1}x', "not valid JSON: trailing characters"),
        (b'{"a":1,}', "not valid JSON"),
        (b"{'a':1}", "not valid JSON"),
        (b'{"a":NaN}', "not valid JSON"),
        (b'{"a":-Infinity}', "not valid JSON"),
        (b'{"a":01}', "not valid JSON"),
        (b'{"a":"\x01"}', "not valid JSON"),
        (b'{"a":"\n"}', "not valid JSON"),
        (rb'{"a":"\x"}', "not valid JSON"),
        (rb'{"a":"\ud800"}', "not valid JSON: a \\u escape is half of a surrogate pair"),
        (rb'{"a":"\ud800 and more text"}', "half of a surrogate pair"),
        (rb'{"a":"\ude00 and more text"}', "half of a surrogate pair"),
        (rb'{"a":"\ud83d\ud83d\ude00"}', "not valid JSON"),
        (rb'{"a":{"\ud800 key, far inside":1}}', "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON: it begins with a byte order mark"),
        (b'{"a":"\xff"}', "not valid UTF-8 (byte 6)"),
        (b'{"a":"\xc0\x80"}', "not valid UTF-8"),
        (b'{"a":"\xed\xa0\x80"}', "not valid UTF-8"),
        ('{"a":"é"}'.encode("utf-16"), "not valid UTF-8"),
        ('{"a":"é"}'.encode("latin-1"), "not valid UTF-8"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"{}"', "must be a JSON object"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes, words: str) -> None:
    assert words in refusal(body).message


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' {"a" : 1 } \n',
        rb'{"a":"\ud83d\ude00 \\ud800"}',
        '{"a":"👋 é"}'.encode(),
        b'{"a":1e999,"b":' + b"9" * 5000 + b"}",
        b'{"a":{"x":1,"x":2}}',
    ],
)
def test_members_come_as_they_were_sent(body: bytes) -> None:
    members = read_object(body)
    told = json.loads(body, parse_int=str)
    assert list(members) == list(told)
    assert {name: json.loads(bytes(raw), parse_int=str) for name, raw in members.items()} == told


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"model": "a", "n": 1, "n": 1}',
        b'{ "n":1, "x":{"n":2}, "n":1 }',
        rb'{"model":"a","mod\u0065l":"b"}',
        b'{"x":"' + b"a" * 70_000 + b'","x":1}',
        b'{"a_member_with_a_long_name":1,"n":1,"n":2}',
    ],
)
def test_a_repeated_key_is_refused_and_named(body: bytes) -> None:
    error = refusal(body)
    assert "more than once" in error.message
    assert error.param in ("model", "n", "x")


@pytest.mark.parametrize(
    "body",
    [
        b'{ "a":1,"a":12}',
        b'{ "a":12,"a":1}',
        b'{ "a":"x","b":[{"a":"x"}],"a":"x"}',
        b'{"a" : {} , "\\u0061" : {}}',
        b'{\n  "b": "\\"a\\\\",\n  "a": true,\n  "a": true\n}',
        b'{ "b":[[1,[2]],[]],"a":1,"a":2}',
        b'{"a":[[1,[2]]],"b":[{"a":[]}],"a":[[1,[2]]]}',
        b'{"a":[[1],[2]],"a":[[1]]}',
        b'{ "a":{}, "a":1}',
        b'{ "a":[1,2], "a":22}',
        b'{"a":[[1]],"a":[[1],[2]]}',
    ],
)
def test_a_repeated_key_is_found_however_the_body_is_spaced(body: bytes) -> None:
    assert refusal(body).param == "a"


@pytest.mark.parametrize(
    "items",
    [
        b'[{"a":1},{"b":2,"ab":1,"ab":1}]',
        b'[{"a": 1}, {"b": 2, "ab": 1, "ab": 1}]',
        # The repeated member takes as many bytes as the spaces of json.dumps.
        b'[{"role":1,"aa":1},{"bb":2,"ab":1,"ab":1}]',
        b'[{"role":1,"aa":1},\n{"bb":2, "ab":1,\t"ab":2}]',
    ],
)
def test_a_key_repeated_in_an_object_of_a_list_is_refused(items: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_objects(Raw(items), "messages")
    assert caught.value.param == "messages[1].ab"


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=4)), st.sampled_from([None, 2]))
def test_every_list_of_objects_is_read(told: list[dict[str, Any]], indent: int | None) -> None:
    objects = read_objects(Raw(json.dumps(told, indent=indent).encode()), "messages")
    assert [
        {name: json.loads(bytes(raw)) for name, raw in members.items()} for members in objects
    ] == told


@pytest.mark.parametrize("begin", [b'{"a":[', b'{ "a":['], ids=["compact", "spaced"])
def test_reading_a_body_costs_little_more_memory_than_the_body(begin: bytes) -> None:
    body = begin + b"17," * 1_000_000 + b"17]}"
    tracemalloc.start()
    try:
        read_object(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(body)


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return b'{"a":' + opening * (depth - 1) + closing * (depth - 1) + b"}"


FILLER = {
    "a small body": b"",
    "a large body": b"a" * 2_000_000,
    "a large body of many values": b'","b":[' + b'{"[\\"":"]"},' * 100_000 + b'0],"c":"',
}


@pytest.mark.parametrize("filler", FILLER.values(), ids=FILLER.keys())
def test_the_depth_limit_is_exact(filler: bytes) -> None:
    def body(depth: int) -> bytes:
        return nested(depth)[:-1] + b',"brackets":"' + b"[{" * 40 + rb"\"\\" + filler + b'"}'

    for depth in (2, 33, 63, MAX_DEPTH):
        read_object(body(depth))
    for depth in (MAX_DEPTH + 1, MAX_DEPTH + 2, 200):
        assert "nested more than 64 levels" in refusal(body(depth)).message


def test_a_number_too_large_to_build_hides_no_depth() -> None:
    number = b',"n":' + b"9" * 5000 + b"}"
    read_object(nested(64)[:-1] + number)
    assert "levels" in refusal(nested(65)[:-1] + number).message


def test_depth_counts_objects_like_arrays() -> None:
    read_object(nested(64, b'{"k":', b"}").replace(b":}", b":0}"))
    assert "levels" in refusal(nested(65, b'{"k":', b"}").replace(b":}", b":0}")).message


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_a_body_that_would_overflow_the_stack_is_refused(opening: bytes) -> None:
    assert refusal(b'{"a":' + opening * 100_000).status == 400
    closing = b"]" if opening == b"[" else b"}"
    body = b'{"a":' + opening * 20_000 + b"1" + closing * 20_000 + b"}"
    assert "nested more than 64 levels" in refusal(body).message


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[' + b"[]," * 600_000 + b"[]]}",
        b'{"a":[' + b'"",' * 600_000 + b'""]}',
        b"{" + b",".join(b'"%d":0' % n for n in range(300_000)) + b"}",
    ],
    ids=["arrays", "strings", "keys"],
)
def test_a_body_that_is_all_structure_is_refused(body: bytes) -> None:
    assert "Send fewer" in refusal(body).message


SNIPPETS = st.lists(st.sampled_from(list('{}[]",:\\u0d8 1e-.tn')), max_size=30).map("".join)


@given(st.dictionaries(st.text(), JSON, max_size=5), st.sampled_from([None, 2]), st.booleans())
def test_every_json_object_is_read(told: dict[str, Any], indent: int | None, escape: bool) -> None:
    body = json.dumps(told, indent=indent, ensure_ascii=escape).encode()
    members = read_object(body)
    assert {name: json.loads(bytes(raw)) for name, raw in members.items()} == told


@given(st.data(), st.dictionaries(st.text(), JSON, min_size=1, max_size=5), st.booleans())
def test_a_key_repeated_at_any_place_is_refused(
    data: st.DataObject, told: dict[str, Any], compact: bool
) -> None:
    comma, colon = (",", ":") if compact else (", ", " : ")
    members = list(told.items())
    again = data.draw(st.sampled_from(members))
    value = data.draw(st.just(again[1]) | JSON)
    members.insert(data.draw(st.integers(0, len(members))), (again[0], value))
    dumps = partial(json.dumps, separators=(comma, colon))
    body = "{" + comma.join(f"{dumps(key)}{colon}{dumps(value)}" for key, value in members) + "}"
    assert refusal(body.encode()).param == again[0][:100]


@given(st.binary() | (st.text() | SNIPPETS).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        members = read_object(body)
    except InvalidRequest:
        return
    assert json.loads(body).keys() == members.keys()
