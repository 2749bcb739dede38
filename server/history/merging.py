"""Decide what becomes of messages that several devices write and remove, without I/O.

No word that a person wrote, or saw complete, is lost. The order, from the first rule that applies:

1. What a person has written or edited is replaced only by a change that was made from it (its
   `base` is the stored version). Another change is a conflict: the page keeps its text as a branch.
2. Of one job's answer, the device that has read more knows more: `done` counts most, then the
   number of events, then the state. This holds whatever the `base`: a page that has heard of a
   version may still be writing an older text.
3. An edited answer counts as read as far as the text that it was made from. It replaces one that
   was read no further, and one that was read further is a conflict, in both directions.
4. A message is removed as it was seen: what has changed since stays. An edit of a removed message
   brings it back.
5. A device measures what it saw itself: figures that another one has sent stay.
6. A deleted conversation comes back with words that were not in it (`is_new_to`), and one that has
   changed since the person saw it is not deleted.
"""

from __future__ import annotations

from enum import Enum

from msgspec import UNSET, structs

from server.history.history_records import AnswerRecord, MessageRecord, MessageRemoval

RANK = {"open": 0, "interrupted": 1, "failed": 2, "stopped": 3, "done": 4}
"""How much a state says about an answer: one device may have seen less of its end."""

FIGURES = ("thinking_ms", "stats")


class Verdict(Enum):
    """What becomes of a message that was sent."""

    WRITE = "write"
    SAME = "same"
    OLDER = "older"
    """The stored one knows more."""
    CONFLICT = "conflict"


def plain(message: MessageRecord) -> MessageRecord:
    """Return a message without what belongs to its transfer."""
    bare = structs.replace(message, version=0, base=UNSET, conversation=UNSET)
    if isinstance(bare, AnswerRecord) and not is_edited(bare):
        return structs.replace(bare, edited=UNSET)
    return bare


def is_edited(message: MessageRecord) -> bool:
    """Return whether a person has changed the text of an answer."""
    return isinstance(message, AnswerRecord) and message.edited is True


def is_by_person(message: MessageRecord) -> bool:
    """Return whether a person has written the text: a question, or an edited answer."""
    return not isinstance(message, AnswerRecord) or is_edited(message)


def has_other_words(stored: MessageRecord, sent: MessageRecord) -> bool:
    """Return whether two messages differ in what people read in them."""
    if isinstance(stored, AnswerRecord) or isinstance(sent, AnswerRecord):
        return type(stored) is not type(sent) or stored.text != sent.text
    return (stored.text, stored.files) != (sent.text, sent.files)


def is_new_to(stored: MessageRecord | None, sent: MessageRecord) -> bool:
    """Return whether a message that is written has words that the person cannot have known before.

    `stored`: the message as it was, None if it was not there. More of an answer that was there is
    nothing new: who deleted the conversation knew that it was being written.
    """
    if stored is not None:
        return is_by_person(sent) and has_other_words(stored, sent)
    if is_by_person(sent):
        return True
    return isinstance(sent, AnswerRecord) and (sent.state == "open" or sent.text != "")


def with_figures(stored: MessageRecord | None, sent: MessageRecord) -> MessageRecord:
    """Return a sent message with the figures of its job that it lacks and the stored one has."""
    if not isinstance(stored, AnswerRecord) or not isinstance(sent, AnswerRecord):
        return sent
    if stored.job != sent.job:
        return sent
    lacking = {name: getattr(stored, name) for name in _figures_beyond(stored, sent)}
    return structs.replace(sent, **lacking) if lacking else sent


def _figures_beyond(answer: AnswerRecord, other: AnswerRecord) -> list[str]:
    """Return the names of the figures that an answer has and another lacks."""
    return [
        name
        for name in FIGURES
        if getattr(other, name) is None and getattr(answer, name) is not None
    ]


def judge(stored: MessageRecord, sent: MessageRecord) -> Verdict:
    """Compare a sent message with the stored one of the same id."""
    if plain(stored) == plain(sent):
        return Verdict.SAME
    is_known = sent.base == stored.version
    if isinstance(stored, AnswerRecord) and isinstance(sent, AnswerRecord):
        if stored.job == sent.job:
            return _judge_one_job(stored, sent, is_known=is_known)
        if not is_known and not sent.text and not is_edited(sent):
            return Verdict.OLDER
        if stored.state == "open" and not stored.text:
            return Verdict.WRITE  # the gateway has given the job another id
    return Verdict.WRITE if is_known else Verdict.CONFLICT


def _judge_one_job(stored: AnswerRecord, sent: AnswerRecord, *, is_known: bool) -> Verdict:
    known, read = _read_of(stored), _read_of(sent)
    if is_edited(stored) and is_edited(sent):
        return Verdict.WRITE if is_known or stored.text == sent.text else Verdict.CONFLICT
    if is_edited(sent):
        return Verdict.WRITE if read >= known else Verdict.CONFLICT
    if is_edited(stored):
        # An open one is decided at its end, so that there is one branch. A page that has only read
        # as far makes none; a program may have changed the text.
        is_less = read < known or sent.state == "open" or sent.text == stored.text
        return Verdict.OLDER if is_less else Verdict.CONFLICT
    is_finished = stored.state == sent.state == "done"
    if stored.text != sent.text and (is_finished or read == known):
        return (
            Verdict.WRITE if is_known else Verdict.CONFLICT
        )  # changed by an older page or program
    has_news = is_known or (stored.text == sent.text and _figures_beyond(sent, stored))
    return Verdict.WRITE if read > known or (read == known and has_news) else Verdict.OLDER


def _read_of(answer: AnswerRecord) -> tuple[bool, int, int]:
    return answer.state == "done", answer.seq, RANK[answer.state]


def may_remove(stored: MessageRecord, removal: MessageRemoval) -> bool:
    """Return whether a message is still as it was when a person removed it."""
    if removal.base is UNSET or removal.base == stored.version:
        return True
    return not is_by_person(stored) and 0 < _seq_of(stored) <= removal.seq


def comes_back(sent: MessageRecord, seen: int | None) -> bool:
    """Return whether a message that was removed comes back, since it was not removed as it is now.

    `seen`: to which event of an answer the person had read who removed it; None: to its last one.
    """
    if sent.base is UNSET or is_by_person(sent):
        return True  # brought back, or edited without knowing of the removal
    is_finished = isinstance(sent, AnswerRecord) and sent.state == "done"
    return is_finished and seen is not None and _seq_of(sent) > seen


def _seq_of(message: MessageRecord) -> int:
    return message.seq if isinstance(message, AnswerRecord) else 0
