"""The order of what several devices write: a stored answer, a sent one, and the verdict."""

from __future__ import annotations

from typing import Any

import pytest
from support.builders.conversations import answer, question

from server.history.history_records import AnswerStats
from server.history.merging import Verdict, judge

CONFLICT, OLDER, SAME, WRITE = Verdict.CONFLICT, Verdict.OLDER, Verdict.SAME, Verdict.WRITE
OPEN = {"state": "open", "seq": 3, "text": "It"}
CUT = {"state": "interrupted", "seq": 3, "text": "It"}
STOPPED = {"state": "stopped", "seq": 3, "text": "It"}
EDITED = {"text": "Mine.", "edited": True}
CUT_EDITED = CUT | EDITED
STATS = {"stats": AnswerStats(prompt=3)}
THOUGHT = {"thinking_ms": 3300.0}
KNOWN = {"base": 1}


@pytest.mark.parametrize(
    ("stored", "sent", "verdict"),
    [
        # Of one job the one that has read more counts, whatever the base.
        (OPEN, {}, WRITE),
        (OPEN | {"seq": 100}, CUT, OLDER),
        (OPEN | {"seq": 100}, CUT | KNOWN, OLDER),
        (OPEN | {"seq": 100}, STOPPED | KNOWN, OLDER),
        (CUT, OPEN | {"seq": 9, "text": "It is"}, WRITE),
        (CUT, OPEN, OLDER),
        (OPEN, CUT, WRITE),
        ({}, OPEN | {"seq": 9}, OLDER),
        ({}, CUT | {"seq": 9} | KNOWN, OLDER),
        ({}, {}, SAME),
        ({}, {"edited": False}, SAME),
        ({}, STATS | KNOWN, WRITE),
        ({}, STATS, WRITE),  # which no device has sent yet
        (STATS, {"stats": AnswerStats(prompt=4)}, OLDER),
        ({}, THOUGHT, WRITE),
        (OPEN | {"seq": 100}, CUT | THOUGHT, OLDER),
        # What a person has edited is replaced by an edit that was made from it alone.
        ({}, EDITED, WRITE),
        ({}, CUT_EDITED, CONFLICT),
        ({}, CUT_EDITED | KNOWN, CONFLICT),
        (CUT, CUT_EDITED, WRITE),
        (EDITED, {}, CONFLICT),
        (EDITED, STATS | KNOWN, CONFLICT),
        (EDITED, {"text": "Mine."} | STATS, OLDER),
        (EDITED, CUT, OLDER),
        (CUT_EDITED, {}, CONFLICT),
        (CUT_EDITED, KNOWN, CONFLICT),
        (CUT_EDITED, OPEN | {"seq": 9}, OLDER),
        (EDITED, EDITED | {"text": "Theirs."}, CONFLICT),
        (EDITED, EDITED | {"text": "Theirs."} | KNOWN, WRITE),
        (EDITED, EDITED | STATS, WRITE),
        # Older pages and programs do not mark what they have changed.
        ({}, {"text": "Mine."}, CONFLICT),
        ({}, {"text": "Mine."} | KNOWN, WRITE),
        (STOPPED, STOPPED | {"text": "Mine."}, CONFLICT),
        # Another job has written another answer.
        ({}, {"job": "other", "text": "No."}, CONFLICT),
        ({}, {"job": "other", "text": "No."} | KNOWN, WRITE),
        ({}, {"job": "other", "text": "", "state": "open"}, OLDER),
        (OPEN | {"text": ""}, {"job": "other", "text": "No."}, WRITE),
    ],
)
def test_no_word_of_an_answer_is_replaced_that_the_sender_did_not_know(
    stored: dict[str, Any], sent: dict[str, Any], verdict: Verdict
) -> None:
    assert judge(answer(**{"version": 1} | stored), answer(**sent)) is verdict


def test_a_question_is_replaced_by_a_change_that_was_made_from_it() -> None:
    stored = question(version=2)
    assert judge(stored, question()) is SAME
    assert judge(stored, question(text="otherwise", base=2)) is WRITE
    assert judge(stored, question(text="otherwise", base=1)) is CONFLICT
    assert judge(stored, question(text="otherwise")) is CONFLICT
    assert judge(stored, answer(1, base=1)) is CONFLICT
