"""Search the texts of a person, newest conversation first, within a time limit."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from server.history.folding import MAX_FILE_CHARS, excerpt_of, fold
from server.history.history_records import (
    MessageRecord,
    QuestionRecord,
    SearchHit,
    SearchResult,
)
from server.history.steps.message_steps import decode_message
from server.history.steps.reading_steps import decode_details
from server.history.steps.sql_steps import Rows, Steps
from workers.units import MIB

CONVERSATIONS_AT_ONCE = 50
"""Conversations that are searched between two looks at the clock."""
MAX_FILE_BYTES = 4 * MAX_FILE_CHARS
MAX_READ_BYTES = 16 * MIB
"""Contents of files that are read for excerpts; later hits show the file's name."""
WILDCARDS = re.compile("(?=[%_!])")
"""The places where LIKE needs its escape character."""

NEWEST = (
    "SELECT id, title, updated FROM history_conversations"
    " WHERE person = ? AND deleted IS NULL ORDER BY updated DESC, id"
)
CONTAINS = "words LIKE ? ESCAPE '!'"
HAS = f"CASE WHEN {CONTAINS} THEN 1 ELSE 0 END"
READ_FILE = "SELECT name, substr(content, 1, ?) FROM history_files WHERE person = ? AND id = ?"

Where = Literal["title", "text", "system", "file"]


class FoundFile(NamedTuple):
    """A file whose text has words; `content` None: it was not read."""

    name: str
    content: bytes | None


class FoundRow(NamedTuple):
    """A row in which every word occurs; `message` "": the conversation itself."""

    conversation: str
    title: str
    updated: int
    message: str
    text: str
    file: FoundFile | None = None


MORE = FoundRow("", "", 0, "", "")


class _Match(NamedTuple):
    """A message in which every word occurs, and the file that has most of them."""

    created: int
    message: str
    body: str
    file: str | None = None


class SearchedText(NamedTuple):
    """A text in which words may be; `name` of the file that it is in."""

    where: Where
    text: str
    name: str | None = None


def search(person: str, words: Sequence[str], limit: int, ends_at: float) -> Steps[list[FoundRow]]:
    """Find the rows in which every folded word occurs; stop at `ends_at` (time.monotonic()).

    The last row is incomplete, with an empty text, if there may be more.
    """
    patterns = [f"%{WILDCARDS.sub('!', word)}%" for word in words]
    conversations = yield NEWEST, (person,)
    found: list[FoundRow] = []
    unread = MAX_READ_BYTES
    for start in range(0, len(conversations), CONVERSATIONS_AT_ONCE):
        if time.monotonic() >= ends_at:
            return [*found, MORE]
        piece = conversations[start : start + CONVERSATIONS_AT_ONCE]
        places = (person, *(row[0] for row in piece))
        titles, matches = yield from _find_in(places, patterns, limit - len(found) + 1)
        for one, match in _in_order(piece, titles, matches):
            if len(found) >= limit:
                return [*found, MORE]
            file = None
            if match and match.file:
                file = yield from _read_file(person, match.file, unread)
                unread -= len(file.content or b"")
            found.append(one._replace(file=file))
    return found


def _find_in(
    places: Sequence[str], patterns: Sequence[str], limit: int
) -> Steps[tuple[Rows, dict[str, list[_Match]]]]:
    """Find titles, and the messages of each conversation; `places`: a person and conversations."""
    marks = ", ".join("?" * (len(places) - 1))
    contains = " AND ".join([CONTAINS] * len(patterns))
    titles = yield (
        (
            "SELECT id, details FROM history_conversations"
            f" WHERE person = ? AND id IN ({marks}) AND {contains}"
        ),
        (*places, *patterns),
    )
    rows = yield (
        (
            "SELECT conversation, created, id, body FROM history_messages"
            f" WHERE person = ? AND conversation IN ({marks}) AND {contains}"
            " ORDER BY created DESC, id LIMIT ?"
        ),
        (*places, *patterns, limit),
    )
    matches: dict[str, list[_Match]] = defaultdict(list)
    for conversation, *row in rows:
        matches[conversation].append(_Match(*row))
    yield from _add_files(places, patterns, matches)
    return titles, matches


def _add_files(
    places: Sequence[str], patterns: Sequence[str], matches: dict[str, list[_Match]]
) -> Steps[None]:
    """Add the messages of some conversations that have all words only with their files' texts."""
    marks = ", ".join("?" * (len(places) - 1))
    flags = ", ".join([HAS] * len(patterns))
    files = yield (
        (
            f"SELECT conversation, file, {flags} FROM history_file_words"
            f" WHERE person = ? AND conversation IN ({marks})"
            f" AND ({' OR '.join([CONTAINS] * len(patterns))})"
        ),
        (*patterns, *places, *patterns),
    )
    if not files:
        return
    known = {match.message for found in matches.values() for match in found}
    having = {file: set(_numbers(row)) for _, file, *row in files}
    inside = list(dict.fromkeys(row[0] for row in files))
    questions = yield (
        (
            f"SELECT conversation, created, id, body, {flags} FROM history_messages"
            f" WHERE person = ? AND conversation IN ({', '.join('?' * len(inside))})"
            " AND state = 'asked' AND body LIKE '%,\"files\":[{%'"
        ),
        (*patterns, places[0], *inside),
    )
    for conversation, created, message, body, *row in questions:
        sent = decode_message(body)
        if message in known or not isinstance(sent, QuestionRecord):
            continue
        # The bytes of a document are no text that people read, even where they are ASCII.
        texts = (file.id for file in sent.files if file.kind == "text")
        attached = [file for file in texts if file in having]
        everywhere = set(_numbers(row)).union(*(having[file] for file in attached))
        if attached and len(everywhere) == len(patterns):
            best = max(attached, key=lambda file: len(having[file]))
            matches[conversation].append(_Match(created, message, body, best))


def _numbers(flags: Sequence[int]) -> Iterator[int]:
    return (number for number, flag in enumerate(flags) if flag)


def _in_order(
    conversations: Rows, titles: Rows, matches: dict[str, list[_Match]]
) -> Iterator[tuple[FoundRow, _Match | None]]:
    """Return what was found, by the order of the conversations, newest message first."""
    systems: dict[str, str] = {row[0]: row[1] for row in titles}
    for conversation, title, updated in conversations:
        if conversation in systems:
            yield FoundRow(conversation, title, updated, "", systems[conversation]), None
        found = sorted(matches.get(conversation, ()), key=lambda match: match.message)
        for match in sorted(found, key=lambda match: -match.created):
            yield FoundRow(conversation, title, updated, match.message, match.body), match


def _read_file(person: str, file: str, most: int) -> Steps[FoundFile]:
    """Read the beginning of a file, unless enough was read."""
    rows: Rows = yield READ_FILE, (min(MAX_FILE_BYTES, max(most, 0)), person, file)
    name, content = rows[0] if rows else ("", None)
    return FoundFile(name, bytes(content) if content else None)


def hits_of(found: Sequence[FoundRow], words: Sequence[str]) -> SearchResult:
    """Return what was found with excerpts. It takes a while for long texts: use a thread."""
    hits = [_hit(one, words) for one in found if one.text]
    return SearchResult(hits, partial=len(hits) < len(found))


def _hit(found: FoundRow, words: Sequence[str]) -> SearchHit:
    role: Literal["user", "assistant"] | None = None
    if found.message:
        message = decode_message(found.text)
        role = "user" if isinstance(message, QuestionRecord) else "assistant"
        places = list(_texts_of(message, found.file))
    else:
        system = decode_details(found.text).system
        places = [SearchedText("title", found.title), SearchedText("system", system)]
    shown = best_text(places, words)
    excerpt = excerpt_of(shown.text, words)
    return SearchHit(
        found.conversation,
        found.title,
        found.message or None,
        role,
        shown.where,
        shown.name,
        excerpt.text,
        excerpt.matches[0] if excerpt.matches else (0, 0),
        excerpt.matches,
        found.updated,
    )


def _texts_of(message: MessageRecord, file: FoundFile | None) -> Iterator[SearchedText]:
    """Return the texts of a message: its own, the names of its files, and the text of one file."""
    yield SearchedText("text", message.text)
    if isinstance(message, QuestionRecord):
        for name in dict.fromkeys(one.name for one in message.files):
            yield SearchedText("file", name, name)
    if file and file.content:
        content = file.content.decode("utf-8", "ignore")[:MAX_FILE_CHARS]
        yield SearchedText("file", content, file.name)
    elif file:
        yield SearchedText("file", file.name, file.name)


def best_text(texts: Iterable[SearchedText], words: Sequence[str]) -> SearchedText:
    """Return the text that has most of the words; of those that have as many, the first."""

    def count(one: SearchedText) -> int:
        folded = fold(one.text)
        return sum(word in folded for word in words)

    return max(texts, key=count)
