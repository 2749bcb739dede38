"""Whatever two devices do at the same time, both end with the same view: no change is skipped."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from support.builders.conversations import (
    QUOTA,
    HistoryBackend,
    answer,
    change_of,
    changes,
    question,
)

from server.history.chat_history import ChatHistory
from server.history.history_records import ConversationChange, ConversationSummary, MessageRecord
from workers.errors import ConversationErased

SHOWN = "c_1"


class Device:
    """A browser: what it knows of the list, and of the conversation that it shows."""

    def __init__(
        self, history: ChatHistory, name: int, page: int = 1000, person: str = "owner"
    ) -> None:
        self.person = person
        self.history = history
        self.name = name
        self.page = page
        self.cursor = 0
        self.known: dict[str, ConversationSummary] = {}
        self.messages: dict[str, MessageRecord] = {}
        self.written = 0

    async def poll(self) -> bool:
        """Read the next page of changes; return whether there is more."""
        seen = await changes(self.history, self.cursor, SHOWN, limit=self.page, person=self.person)
        if seen.reset:
            self.known.clear()
            self.messages.clear()
        for one in seen.conversations:
            self.known[one.id] = one
        for erased in seen.erased:
            self.known.pop(erased, None)
            if erased == SHOWN:
                self.messages.clear()
        if seen.open is not None:
            self.messages |= {one.id: one for one in seen.open.messages}
            for removed in seen.open.removed:
                self.messages.pop(removed, None)
        self.cursor = seen.cursor
        return seen.more

    async def catch_up(self) -> None:
        """Read all changes."""
        while await self.poll():
            pass

    async def act(self, action: int, place: int) -> None:
        """Do one of the things that people do, with what this device knows."""
        conversation = f"c_{place % 3}"
        with contextlib.suppress(ConversationErased):
            if action == 0:
                self.written += 1
                made = question(place, id=f"m_{self.name}_{self.written}", text=f"{place}")
                await self._save(change_of(made), SHOWN)
            elif action == 1:
                await self._save(change_of(title=f"{place} by {self.name}"), conversation)
            elif action == 2 and self.messages:
                message = self._pick(place)
                await self._save(ConversationChange(remove=(message.id,)), SHOWN)
            elif action == 3 and self.messages:
                message = self._pick(place)
                below = answer(place, id=f"m_{self.name}_{place}", parent=message.id)
                await self._save(change_of(below), SHOWN)
            elif action == 4 and place == 4:
                await self.history.erase(self.person, conversation)
            else:
                await self.poll()

    def _pick(self, place: int) -> MessageRecord:
        return self.messages[sorted(self.messages)[place % len(self.messages)]]

    async def _save(self, change: ConversationChange, conversation: str) -> None:
        await self.history.save(self.person, conversation, change, QUOTA)


async def views(history: ChatHistory, *devices: Device) -> list[object]:
    """Return what the server has, and what each device knows after it has read everything."""
    fresh = Device(history, 0, person=devices[0].person)
    for device in (fresh, *devices):
        await device.catch_up()
    return [(device.known, device.messages) for device in (fresh, *devices)]


ACTIONS = some.lists(
    some.tuples(some.booleans(), some.integers(0, 5), some.integers(0, 5)), max_size=40
)
PEOPLE = itertools.count()


@given(ACTIONS, some.integers(1, 3))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_any_order_of_actions_ends_with_equal_views(
    history: ChatHistory, actions: list[tuple[bool, int, int]], page: int
) -> None:
    person = f"key_{next(PEOPLE)}"  # one history for all examples, since opening one takes longer
    devices = (Device(history, 1, page, person), Device(history, 2, page, person))
    for second, action, place in actions:
        await devices[second].act(action, place)
    server, *others = await views(history, *devices)
    assert others == [server, server]
    await history.erase_all(person)
    assert (await changes(history, person=person)).used_bytes == 0


async def test_no_change_of_two_nodes_is_skipped_while_both_write(
    history_backend: HistoryBackend,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        one = await stack.enter_async_context(history_backend())
        two = await stack.enter_async_context(history_backend())
        reader = Device(two, 9, page=2)
        writers = [Device(one, 1), Device(two, 2), Device(one, 3)]

        async def write(device: Device) -> None:
            for number in range(8):
                await device.act(0, number)
                await device.act(1, number)

        async def read(writing: asyncio.Future[list[None]]) -> None:
            while not writing.done():
                await reader.poll()

        writing = asyncio.gather(*map(write, writers))
        await read(writing)
        await writing
        server, *others = await views(one, reader, *writers)
        assert others == [server] * 4
        assert len(reader.messages) == 24
        assert (await changes(one)).cursor == 48
