"""Search the texts of a person, newest conversation first, within a time limit."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from server.history.folding import excerpt_of, fold
from server.history.history_records import QuestionRecord, SearchHit, SearchResult
from server.history.steps.asking import Steps
from server.history.steps.conversation_steps import decode_details
from server.history.steps.message_steps import decode_message

PIECE = 50
"""Conversations that are searched between two looks at the clock."""
WILDCARDS = re.compile("(?=[%_!])")
"""The places where LIKE needs its escape character."""

NEWEST = (
    "SELECT id, title, updated FROM history_conversations"
    " WHERE person = ? AND deleted IS NULL ORDER BY updated DESC, id"
)
CONTAINS = "words LIKE ? ESCAPE '!'"


class FoundRow(NamedTuple):
    """A row in which every word occurs; `message` "": the conversation itself."""

    conversation: str
    title: str
    updated: int
    message: str
    text: str


def search(person: str, words: Sequence[str], limit: int, ends_at: float) -> Steps[list[FoundRow]]:
    """Find the rows in which every folded word occurs; stop at `ends_at` (time.monotonic()).

    The last row is incomplete, with an empty text, if the search was stopped.
    """
    patterns = [f"%{WILDCARDS.sub('!', word)}%" for word in words]
    contains = " AND ".join([CONTAINS] * len(patterns))
    conversations = yield NEWEST, (person,)
    found: list[FoundRow] = []
    for start in range(0, len(conversations), PIECE):
        if time.monotonic() >= ends_at:
            return [*found, FoundRow("", "", 0, "", "")]
        piece = conversations[start : start + PIECE]
        marks = ", ".join("?" * len(piece))
        values = (person, *(row[0] for row in piece), *patterns)
        titles = yield (
            (
                "SELECT id, details FROM history_conversations"
                f" WHERE person = ? AND id IN ({marks}) AND {contains}"
            ),
            values,
        )
        messages = yield (
            (
                "SELECT conversation, id, body FROM history_messages"
                f" WHERE person = ? AND conversation IN ({marks}) AND {contains}"
                " ORDER BY created DESC, id LIMIT ?"
            ),
            (*values, limit - len(found) + 1),
        )
        found += _in_order(piece, titles, messages)
        if len(found) >= limit:
            break
    return found[:limit]


def _in_order(
    conversations: Sequence[Sequence[Any]],
    titles: Sequence[Sequence[Any]],
    messages: Sequence[Sequence[Any]],
) -> list[FoundRow]:
    """Return what was found, by the order of the conversations."""
    systems: dict[str, str] = {row[0]: row[1] for row in titles}
    bodies: dict[str, list[Sequence[Any]]] = {}
    for row in messages:
        bodies.setdefault(row[0], []).append(row)
    found = []
    for conversation, title, updated in conversations:
        if conversation in systems:
            found.append(FoundRow(conversation, title, updated, "", systems[conversation]))
        for _, message, body in bodies.get(conversation, ()):
            found.append(FoundRow(conversation, title, updated, message, body))
    return found


def hits_of(found: Sequence[FoundRow], words: Sequence[str]) -> SearchResult:
    """Return what was found with excerpts. It takes a while for long texts: use a thread."""
    hits = [_hit(one, words) for one in found if one.text]
    return SearchResult(hits, partial=len(hits) < len(found))


def _hit(found: FoundRow, words: Sequence[str]) -> SearchHit:
    role: Literal["user", "assistant"] | None = None
    places: list[tuple[Literal["title", "text", "system", "file"], str]]
    if found.message:
        message = decode_message(found.text)
        places = [("text", message.text)]
        role = "assistant"
        if isinstance(message, QuestionRecord):
            role = "user"
            places += [("file", file.name) for file in message.files]
    else:
        places = [("title", found.title), ("system", decode_details(found.text).system)]
    where, text, word = _first(places, words)
    excerpt = excerpt_of(text, word)
    return SearchHit(
        found.conversation,
        found.title,
        found.message or None,
        role,
        where,
        excerpt.text,
        excerpt.match,
        found.updated,
    )


def _first(
    places: Sequence[tuple[Literal["title", "text", "system", "file"], str]],
    words: Sequence[str],
) -> tuple[Literal["title", "text", "system", "file"], str, str]:
    """Return the first place that has one of the words, with that word."""
    for where, text in places:
        folded = fold(text)
        for word in words:
            if word in folded:
                return where, text, word
    return places[0][0], places[0][1], words[0]
