"""Whatever several devices do, no word is lost but those that a person deleted knowingly."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some
from support.builders.conversations import changes
from support.builders.devices import Device, Words

from server.history.chat_history import ChatHistory
from server.history.history_records import AnswerRecord, MessageRecord

PEOPLE = itertools.count()
MAX_ROUNDS = 30


class Act(NamedTuple):
    """What one device does, to the message that is at `place` of those it shows."""

    device: int
    what: str
    place: int


ACTS = (
    *("ask", "read", "read", "edit", "edit", "remove", "remove", "undo", "regenerate", "stop"),
    *("count", "erase", "lose", "trash"),
)
DEVICES = (0, 1, 2)
SOME_ACTS = some.lists(
    some.builds(Act, some.sampled_from(DEVICES), some.sampled_from(ACTS), some.integers(0, 5)),
    min_size=1,
    max_size=4,
)
ROUNDS = some.lists(
    some.tuples(SOME_ACTS, some.lists(some.sampled_from(DEVICES), unique=True)), max_size=6
)
"""What the devices do without hearing of each other, and which of them then reach the server."""
BEFORE = (
    [Act(0, "ask", 0), Act(0, "read", 5), Act(0, "regenerate", 0), Act(0, "read", 2)],
    [0, 1, 2],
)
"""A question with an answer that is complete and one that is being written, on every device."""
READ_TO_ITS_END = [Act(1, "read", 3), Act(1, "read", 3)]
ANSWERED_BEFORE_THE_TRASH_IS_KNOWN = [
    ([Act(0, "trash", 0), Act(1, "regenerate", 0), *READ_TO_ITS_END], [0, 1])
]
ASKED_BEFORE_THE_TRASH_ARRIVES = [
    ([Act(0, "trash", 0), Act(1, "ask", 0)], [1]),
    ([], [0]),
]
ASKED_BEFORE_THE_TRASH_IS_KNOWN = [
    ([Act(0, "trash", 0), Act(1, "regenerate", 0)], [0, 1]),
    (READ_TO_ITS_END, [1]),
]
UNDONE_AFTER_ANOTHER_EDIT_ARRIVED = [
    ([Act(0, "edit", 1), Act(0, "remove", 0), Act(1, "edit", 1)], [0, 1]),
    ([Act(0, "ask", 0)], [0]),
    ([Act(0, "undo", 0)], []),
]


def perform(device: Device, what: str, place: int) -> None:
    """Do one of the things that people do, or that happen to them."""
    shown = [
        (chat, message)
        for chat, known in sorted(device.chats.items())
        if known.is_shown
        for _, message in sorted(known.messages.items())
    ]
    if what == "lose":
        device.loses_answer = True
    elif what == "undo":
        device.undo()
    elif not shown:
        device.ask(f"c_{next(device.words.numbers)}", None)
    elif what == "trash":
        device.trash(shown[place % len(shown)][0])
    else:
        change(device, what, *shown[place % len(shown)], place)


def change(device: Device, what: str, chat: str, message: MessageRecord, place: int) -> None:
    """Do something with a message."""
    if what == "remove":
        device.remove(chat, message)
    elif what == "erase" and place == 0:
        device.erase(chat)
    elif what == "ask":
        device.ask(chat, message)
    elif not isinstance(message, AnswerRecord):
        if what == "regenerate":
            device.regenerate(chat, message)
    elif what == "edit" and message.state != "open" and message.text:
        device.edit(chat, message)
    elif what == "count" and message.state != "open":
        device.count(chat, message)
    elif what == "read" and message.state != "done" and not device.has_edited(chat, message):
        device.read(chat, message, 1 + place)
    elif what == "stop" and message.state == "open":
        device.stop_reading(chat, message)


async def settle(devices: list[Device]) -> None:
    """Send and read with all devices until nothing is new."""
    for device in devices:
        device.loses_answer = False
    for _ in range(MAX_ROUNDS):
        before = [device.cursor for device in devices]
        for device in devices:
            await device.talk()
        if before == [one.cursor for one in devices] and not any(one.waits for one in devices):
            return
    raise AssertionError("the devices do not come to an end")


async def empty_trash(device: Device) -> None:
    """Erase what is deleted on the server, as it does after a day."""
    for one in (await changes(device.history, person=device.person)).conversations:
        if one.deleted is not None:
            await device.history.erase(device.person, one.id)


def views(device: Device) -> dict[str, dict[str, MessageRecord]]:
    return {chat: known.messages for chat, known in device.chats.items()}


def missing(owed: set[str], device: Device) -> set[str]:
    """Return the texts that a device does not show: what was read of an answer may go on."""
    texts = [message.text for view in views(device).values() for message in view.values()]
    return {text for text in owed if not any(one.startswith(text) for one in texts)}


@example(ANSWERED_BEFORE_THE_TRASH_IS_KNOWN)
@example(ASKED_BEFORE_THE_TRASH_ARRIVES)
@example(ASKED_BEFORE_THE_TRASH_IS_KNOWN)
@example(UNDONE_AFTER_ANOTHER_EDIT_ARRIVED)
@given(ROUNDS)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_no_word_is_lost_but_those_deleted_knowingly(
    history: ChatHistory, rounds: list[tuple[list[Act], list[int]]]
) -> None:
    person = f"key_{next(PEOPLE)}"  # one history for all examples, since opening one takes longer
    words = Words()
    devices = [Device(history, name, person, words) for name in DEVICES]
    for acts, online in (BEFORE, *rounds):
        for act in acts:
            perform(devices[act.device], act.what, act.place)
        for name in online:
            await devices[name].talk()
    await settle(devices)
    await empty_trash(devices[0])
    await settle(devices)
    fresh = Device(history, 3, person, words)
    await fresh.talk()
    assert [views(one) for one in devices] == [views(fresh)] * 3
    assert missing(words.owed(), fresh) == set()
    await history.erase_all(person)
