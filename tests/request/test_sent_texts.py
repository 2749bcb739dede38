"""What an upstream quotes of a request is hidden in the words that the owner is shown."""

from __future__ import annotations

import msgspec
import pytest

from workers.providers.sent_texts import SentTexts

FIELDS = {
    "model": msgspec.Raw(b'"acme/nine"'),
    "messages": msgspec.Raw(b'[{"content": "Why does Ann Lee never write to me?"}]'),
}


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("The model `nine` does not exist", "The model `nine` does not exist"),
        ("No model `acme/nine` here", "No model `acme/nine` here"),
        ('Cannot read "Ann Lee" at all', "Cannot read … at all"),
        ("Failed on: why does ANN LEE never write; sorry", "Failed on: …; sorry"),
        ("why does Ann write", "why does Ann write"),
        ("Out of memory", "Out of memory"),
    ],
)
def test_quotations_are_hidden_and_the_rest_stays(said: str, shown: str) -> None:
    assert SentTexts(FIELDS).unquoted(said, known="nine") == shown


def test_without_the_texts_at_hand_nothing_is_shown() -> None:
    """A request's body is dropped when its answer begins."""
    assert SentTexts({}).unquoted("Failed on: why does Ann", known="nine") == ""
