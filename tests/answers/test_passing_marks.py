"""Marks of requests that are passed on: what they carry, and that no part can be changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.answers.passing_marks import MARK_HEADER, MAX_HOPS, PassedOn, PassingMarks

MARKS = PassingMarks(b"a secret of the store")
PASSED = PassedOn(1, "2001:db8::7", "chat.example:8443", secure=True)
HEADERS = {"Authorization": "Bearer key", "Cookie": "roxy_session=abc"}
TARGET = "/api/v1/jobs/req_1/stream?after=3"
UNTRUSTED = PassedOn(MAX_HOPS, trusted=False)


def marked(passed: PassedOn = PASSED) -> dict[str, str]:
    """Return the headers of a request with its mark."""
    return HEADERS | {MARK_HEADER: MARKS.sign(passed, "GET", TARGET, HEADERS)}


def test_a_mark_says_what_the_first_process_knew() -> None:
    assert MARKS.read("GET", TARGET, marked()) == PASSED
    assert MARKS.read("GET", TARGET, HEADERS) is None


@given(client=st.text(), host=st.text(), secure=st.booleans(), hops=st.integers(0, MAX_HOPS))
def test_whatever_the_client_wrote_survives_and_forges_nothing(
    client: str, host: str, secure: bool, hops: int
) -> None:
    try:
        (client + host).encode()
    except UnicodeEncodeError:
        return
    passed = PassedOn(hops, client, host, secure)
    headers = marked(passed)
    assert headers[MARK_HEADER].isascii() and headers[MARK_HEADER].isprintable()
    assert MARKS.read("GET", TARGET, headers) == passed


@pytest.mark.parametrize(
    ("method", "target", "changes"),
    [
        ("DELETE", TARGET, {}),
        ("GET", TARGET + "0", {}),
        ("GET", TARGET, {"Authorization": "Bearer other"}),
        ("GET", TARGET, {"Cookie": "roxy_session=abd"}),
        ("GET", TARGET, {"X-Api-Key": "another"}),
    ],
)
def test_a_mark_is_of_one_request_and_its_credentials(
    method: str, target: str, changes: dict[str, str]
) -> None:
    assert MARKS.read(method, target, marked() | changes) == UNTRUSTED


@pytest.mark.parametrize("field", range(5))
def test_no_field_of_a_mark_can_be_changed(field: int) -> None:
    fields = marked()[MARK_HEADER].split(";")
    fields[field] = "0" if fields[field] != "0" else "1"
    assert MARKS.read("GET", TARGET, HEADERS | {MARK_HEADER: ";".join(fields)}) == UNTRUSTED


@pytest.mark.parametrize("mark", ["", ";", ";;;;", "1", "x;y", "é;1;2;3;4", "1;1.1.1.1;h;0;"])
def test_what_is_no_mark_ends_the_passing_on_and_is_not_believed(mark: str) -> None:
    assert MARKS.read("GET", TARGET, HEADERS | {MARK_HEADER: mark}) == UNTRUSTED


def test_a_mark_of_another_gateway_is_not_believed() -> None:
    other = PassingMarks(b"another secret")
    assert other.read("GET", TARGET, marked()) == UNTRUSTED
