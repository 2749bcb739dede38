"""What the keys API accepts, refuses and shows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.keys.key_requests import parse_key_changes, parse_new_key, parse_rotation
from server.shapes.key_object import key_object
from server.store.key import Key, KeyChanges, LimitChanges, Limits, NewKey
from workers.errors import InvalidRequest

NOW = 1_795_348_800


def test_a_name_is_enough() -> None:
    assert parse_new_key(b'{"name": "ci"}', now=NOW) == NewKey("ci")


def test_everything_can_be_chosen() -> None:
    body = {
        "name": "  The CI of 👩‍💻 Zoë  ",
        "models": ["a/b", "c/d", "a/b"],
        "expires_at": NOW + 1,
        "weight": 100,
        "limits": {"requests_per_minute": 1, "budget_microusd": 2, "budget_period": "total"},
    }
    assert parse_new_key(msgspec.json.encode(body), now=NOW) == NewKey(
        name="The CI of 👩‍💻 Zoë",
        models=("a/b", "c/d"),
        expires_at=NOW + 1,
        weight=100,
        limits=Limits(requests_per_minute=1, budget_microusd=2, budget_period="total"),
    )


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ("", Limits(requests_per_minute=60)),
        (', "limits": {}', Limits(requests_per_minute=60)),
        (', "limits": null', Limits()),
        (', "limits": {"requests_per_minute": null}', Limits()),
        (', "limits": {"tokens_per_minute": 9}', Limits(60, 9)),
    ],
)
def test_an_absent_limit_takes_its_default_and_null_means_none(
    limits: str, expected: Limits
) -> None:
    body = f'{{"name": "ci"{limits}}}'.encode()
    assert parse_new_key(body, defaults=Limits(requests_per_minute=60)).limits == expected


REFUSED = [
    (b"", None),
    (b"{", None),
    (b"[]", None),
    (b"null", None),
    (b'"name"', None),
    (b'{"name": "a"} x', None),
    (b"\xef\xbb\xbf{}", None),
    (b'{"name": "\xff"}', None),
    (b'{"name": "a", "zz": "\xff"}', None),
    (b'{"name": "\\ud800"}', None),
    (b'{"name": "a", "models": ' + b"[" * 100_000, "models[0]"),
    (b'{"name": "a", "name": "b"}', "name"),
    (
        b'{"name": "a", "limits": {"tokens_per_minute": 1, "tokens_per_minute": 2}}',
        "tokens_per_minute",
    ),
    (b'{"name": "a", "weight": ' + b"9" * 5000 + b"}", "weight"),
    (b"{}", "name"),
    (b'{"name": null}', "name"),
    (b'{"name": 1}', "name"),
    (b'{"name": ""}', "name"),
    (b'{"name": "  "}', "name"),
    (b'{"name": "a\\u0000"}', "name"),
    (b'{"name": "a\\nb"}', "name"),
    (b'{"name": "a\\u2028b"}', "name"),
    (b'{"name": "a\\u202eb"}', "name"),
    (b'{"name": "%s"}' % (b"x" * 101), "name"),
    (b'{"name": "a", "key": "roxy_chosen"}', "key"),
    (b'{"name": "a", "status": "active"}', "status"),
    (b'{"name": "a", "a\\"`b": 1}', 'a"`b'),
    (b'{"name": "a", "models": "a/b"}', "models"),
    (b'{"name": "a", "models": []}', "models"),
    (b'{"name": "a", "models": [""]}', "models[0]"),
    (b'{"name": "a", "models": ["x", 1]}', "models[1]"),
    (b'{"name": "a", "expires_at": 1795348800}', "expires_at"),
    (b'{"name": "a", "expires_at": -5}', "expires_at"),
    (b'{"name": "a", "expires_at": 1.8e9}', "expires_at"),
    (b'{"name": "a", "expires_at": "2030-01-01"}', "expires_at"),
    (b'{"name": "a", "expires_at": 999999999999999999999999999999}', "expires_at"),
    (b'{"name": "a", "weight": 0}', "weight"),
    (b'{"name": "a", "weight": 101}', "weight"),
    (b'{"name": "a", "weight": true}', "weight"),
    (b'{"name": "a", "weight": null}', "weight"),
    (b'{"name": "a", "limits": []}', "limits"),
    (b'{"name": "a", "limits": {"rpm": 5}}', "limits.rpm"),
    (b'{"name": "a", "limits": {"requests_per_minute": 0}}', "limits.requests_per_minute"),
    (b'{"name": "a", "limits": {"requests_per_minute": -1}}', "limits.requests_per_minute"),
    (b'{"name": "a", "limits": {"tokens_per_minute": 1.5}}', "limits.tokens_per_minute"),
    (b'{"name": "a", "limits": {"tokens_per_minute": NaN}}', None),
    (b'{"name": "a", "limits": {"concurrent_requests": "5"}}', "limits.concurrent_requests"),
    (b'{"name": "a", "limits": {"budget_microusd": 1000000000000001}}', "limits.budget_microusd"),
    (b'{"name": "a", "limits": {"budget_period": "year"}}', "limits.budget_period"),
    (b'{"name": "a", "limits": {"budget_period": null}}', "limits.budget_period"),
]


@pytest.mark.parametrize(("body", "param"), REFUSED)
def test_a_wrong_body_is_refused_naming_the_field(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_new_key(body, now=NOW)
    assert refusal.value.param == param
    assert param is None or param in refusal.value.message
    assert len(refusal.value.message) < 300


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"name": 1}', "Invalid value for 'name'. It must be a string of 1 to 100 characters."),
        (
            b'{"name": "a", "limits": {"tokens_per_minute": 0}}',
            (
                "Invalid value for 'limits.tokens_per_minute'."
                " It must be a whole number, 1 or more, or null for no limit."
            ),
        ),
        (b"[]", "Invalid value for 'body'. It must be an object."),
    ],
)
def test_a_wrong_value_is_answered_with_what_it_must_be(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_new_key(body, now=NOW)
    assert refusal.value.message == message


@given(
    st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    ["name", "models", "limits", "expires_at", "weight", "budget_period"]
                ),
                inner,
            )
        ),
    ).map(msgspec.json.encode)
)
def test_no_body_is_answered_by_a_crash(body: bytes) -> None:
    for parse in (parse_new_key, parse_key_changes, parse_rotation):
        try:
            parse(body)
        except InvalidRequest:
            continue


def test_a_change_knows_absent_from_null() -> None:
    assert parse_key_changes(b"{}") == KeyChanges()
    assert parse_key_changes(b'{"models": null, "expires_at": null, "limits": null}') == KeyChanges(
        models=None, expires_at=None, limits=None
    )
    assert parse_key_changes(b'{"limits": {"tokens_per_minute": null}}') == KeyChanges(
        limits=LimitChanges(tokens_per_minute=None)
    )
    assert parse_key_changes(b'{"name": " b ", "status": "disabled", "weight": 2}') == KeyChanges(
        name="b", status="disabled", weight=2
    )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"name": null}', "name"),
        (b'{"name": ""}', "name"),
        (b'{"status": "revoked"}', "status"),
        (b'{"status": null}', "status"),
        (b'{"weight": null}', "weight"),
        (b'{"expires_at": 1}', "expires_at"),
        (b'{"models": []}', "models"),
        (b'{"id": "key_x"}', "id"),
        (b'{"limits": {"budget_microusd": 0}}', "limits.budget_microusd"),
    ],
)
def test_a_wrong_change_is_refused_naming_the_field(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_key_changes(body, now=NOW)
    assert refusal.value.param == param


def test_a_rotation_may_choose_its_grace_up_to_a_month() -> None:
    assert parse_rotation(b"") == 0
    assert parse_rotation(b"{}") == 0
    assert parse_rotation(b'{"grace_s": 3600}') == 3600
    for wrong in (b'{"grace_s": -1}', b'{"grace_s": 2592001}', b'{"grace_s": null}'):
        with pytest.raises(InvalidRequest) as refusal:
            parse_rotation(wrong)
        assert refusal.value.param == "grace_s"


def test_a_key_is_shown_whole_but_for_secret_and_digests() -> None:
    key = Key(
        id="key_1",
        name="ci",
        redacted="roxy_ab12…wxyz",
        digest=b"d" * 32,
        created_at=NOW,
        models=("a/b",),
        limits=Limits(requests_per_minute=5),
        previous_digest=b"p" * 32,
        previous_until=NOW + 5,
        note="on loan",
    )
    expected: dict[str, Any] = {
        "id": "key_1",
        "object": "key",
        "name": "ci",
        "redacted": "roxy_ab12…wxyz",
        "created_at": NOW,
        "last_used_at": None,
        "expires_at": None,
        "status": "active",
        "models": ["a/b"],
        "note": "on loan",
        "limits": {
            "requests_per_minute": 5,
            "tokens_per_minute": None,
            "concurrent_requests": None,
            "budget_microusd": None,
            "budget_period": "month",
        },
        "weight": 1,
    }
    assert msgspec.json.decode(msgspec.json.encode(key_object(key))) == expected
