"""Recorded streams come out as written down beside them, however their bytes were cut.

`golden/NAME.upstream.sse` is what an upstream sent; `NAME.plain.sse` and `NAME.usage.sse` are what
a client gets that did not, and did, ask for usage.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fakes.openai_wire import MODEL, translator

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.name.removesuffix(".upstream.sse") for path in GOLDEN.glob("*.upstream.sse"))
RECORDINGS = {name: (GOLDEN / f"{name}.upstream.sse").read_bytes() for name in NAMES}


def relay(pieces: list[bytes], *, usage: bool) -> bytes:
    one = translator(usage=usage)
    out = [one.feed(piece) for piece in pieces]
    if not one.done:
        out.append(one.finish())
    assert one.done and one.committed and one.failure is None
    return b"".join(out)


def expected(name: str, *, usage: bool) -> bytes:
    return (GOLDEN / f"{name}.{'usage' if usage else 'plain'}.sse").read_bytes()


def test_there_are_recordings() -> None:
    assert len(NAMES) >= 7


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_a_recording_comes_out_as_written_down(name: str, usage: bool) -> None:
    assert relay([RECORDINGS[name]], usage=usage) == expected(name, usage=usage)


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_where_the_bytes_are_cut_makes_no_difference(name: str, usage: bool) -> None:
    stream, told = RECORDINGS[name], expected(name, usage=usage)
    assert relay([stream[at : at + 1] for at in range(len(stream))], usage=usage) == told
    for at in range(1, len(stream)):
        assert relay([stream[:at], stream[at:]], usage=usage) == told, at


@given(st.sampled_from(NAMES), st.lists(st.integers(0, 2000), max_size=9), st.booleans())
def test_any_number_of_cuts_makes_no_difference(name: str, cuts: list[int], usage: bool) -> None:
    stream = RECORDINGS[name]
    places = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    pieces = [stream[start:end] for start, end in itertools.pairwise(places)]
    assert relay(pieces, usage=usage) == expected(name, usage=usage)


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_out_is_what_clients_expect(name: str) -> None:
    *events, done, nothing = expected(name, usage=True).split(b"\n\n")
    assert (done, nothing) == (b"data: [DONE]", b"")
    chunks = [json.loads(one.removeprefix(b"data: ")) for one in events]
    assert {one["model"] for one in chunks} == {MODEL.id}
    assert {one["object"] for one in chunks} == {"chat.completion.chunk"}
    assert len({(one["id"], one["created"]) for one in chunks}) == 1
    assert all("usage" in one for one in chunks)
    assert [one for one in chunks[:-1] if one["usage"]] == []
    assert any(choice["finish_reason"] for one in chunks for choice in one["choices"])


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_was_sent_arrives(name: str) -> None:
    def deltas(stream: bytes) -> list[dict[str, Any]]:
        one_line = stream.replace(b"\r\n", b"\n").replace(b",\ndata: ", b", ")
        lines = [line[5:] for line in one_line.split(b"\n") if line.startswith(b"data:")]
        chunks = [json.loads(line) for line in lines if line.strip() not in (b"", b"[DONE]")]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
        for delta in deltas:
            delta.pop("role", None)  # is sent once, however often it came
            thinking = delta.pop("reasoning", None) or delta.pop("reasoning_content", None)
            delta["thinking"] = thinking  # is sent under both names
            delta.pop("reasoning_content", None)
        return deltas

    assert deltas(expected(name, usage=False)) == deltas(RECORDINGS[name])


@pytest.mark.parametrize("name", NAMES)
def test_each_choice_gets_its_role_once_and_thinking_gets_both_names(name: str) -> None:
    roles: dict[int, int] = {}
    for event in expected(name, usage=False).split(b"\n\n")[:-2]:
        for choice in json.loads(event.removeprefix(b"data: "))["choices"]:
            delta, index = choice["delta"], choice["index"]
            roles[index] = roles.get(index, 0) + ("role" in delta)
            assert (delta.get("reasoning") or "") == (delta.get("reasoning_content") or "")
    assert set(roles.values()) == {1}
