"""What the search finds in a text, and what it shows of it."""

from __future__ import annotations

import pytest
from support.inputs.search_cases import SEARCH_CASES

from server.history.folding import BLOCK, excerpt_of, find_places, fold, fold_long, search_words


def marked(text: str, query: str) -> str | None:
    """Return the excerpt with its marks in brackets, None if a word is missing."""
    words = search_words(query)
    if any(word not in fold(text) for word in words):
        return None
    excerpt = excerpt_of(text, words)
    units = excerpt.text.encode("utf-16-le", "surrogatepass")
    shown, at = b"", 0
    for start, end in excerpt.matches:
        shown += units[at : 2 * start] + "[".encode("utf-16-le")
        shown += units[2 * start : 2 * end] + "]".encode("utf-16-le")
        at = 2 * end
    return (shown + units[at:]).decode("utf-16-le", "surrogatepass")


@pytest.mark.parametrize(("text", "query", "shown"), SEARCH_CASES)
def test_the_server_finds_and_shows(text: str, query: str, shown: str | None) -> None:
    assert marked(text, query) == shown


def test_places_are_found_far_in_a_long_text() -> None:
    for filler in ("word ", "Straße e\u0301 "):
        text = filler * BLOCK + "Nädel"
        (place,) = find_places(text, ["nädel"])
        assert text[place.start : place.end] == "Nädel"
        assert fold_long(text) == fold(text)
    assert marked("é" + "x" * 3 * BLOCK, "nothing") is None
