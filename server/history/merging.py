"""Decide what becomes of messages that several devices write, without I/O.

Nothing that a person wrote is lost: a change that was made from another version than the stored one
is a conflict, and the page keeps its text as a branch. Two devices that follow the same answer are
no conflict: the one that has read more knows better.
"""

from __future__ import annotations

from enum import Enum

from msgspec import UNSET, structs

from server.history.history_records import AnswerRecord, MessageRecord

RANK = {"open": 0, "interrupted": 1, "failed": 2, "stopped": 3, "done": 4}
"""How much a state says about an answer: one device may have seen less of its end."""


class Verdict(Enum):
    """What becomes of a message that was sent."""

    WRITE = "write"
    SAME = "same"
    OLDER = "older"
    """The stored one knows more."""
    CONFLICT = "conflict"


def plain(message: MessageRecord) -> MessageRecord:
    """Return a message without what belongs to its transfer."""
    return structs.replace(message, version=0, base=UNSET, conversation=UNSET)


def judge(stored: MessageRecord, sent: MessageRecord) -> Verdict:
    """Compare a sent message with the stored one of the same id."""
    if plain(stored) == plain(sent):
        return Verdict.SAME
    if isinstance(stored, AnswerRecord) and isinstance(sent, AnswerRecord):
        verdict = _judge_answers(stored, sent)
        if verdict is not None:
            return verdict
    return Verdict.WRITE if sent.base == stored.version else Verdict.CONFLICT


def _judge_answers(stored: AnswerRecord, sent: AnswerRecord) -> Verdict | None:
    """Decide by what was read of the answer; None: by the version."""
    if sent.state == "open":
        newer = stored.state == "open" and sent.seq > stored.seq
        return Verdict.WRITE if newer else Verdict.OLDER
    if stored.state == "open":
        return Verdict.WRITE
    if sent.base == stored.version or sent.job != stored.job:
        return None
    known, read = (stored.seq, RANK[stored.state]), (sent.seq, RANK[sent.state])
    if known == read and stored.text != sent.text:
        return None  # a person has changed the text
    return Verdict.WRITE if read > known else Verdict.OLDER
