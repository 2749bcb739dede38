"""Devices of one person, as the page behaves: what they show and have not sent, and which words.

The model follows `webui/static/js/chat/history`: changes are kept with the versions that they were
made from until the server has them, also when its answer is lost, and what the server does not take
becomes a branch. `Words` knows which texts must not be lost.
"""

from __future__ import annotations

import itertools
from typing import TypeAlias

from msgspec import UNSET, Struct, field, structs
from support.builders.conversations import LONG_AGO, QUOTA, answer, changes, question

from server.history.chat_history import ChatHistory
from server.history.history_records import (
    AnswerRecord,
    AnswerStats,
    ConversationChange,
    ConversationSaved,
    ConversationSet,
    MessageRecord,
    MessageRemoval,
)
from workers.errors import ConversationChanged, ConversationErased

EVENTS = 6
"""What every job of the tests writes."""


class Words:
    """The texts that people wrote or saw complete, and those that somebody deleted knowingly."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.kept: set[str] = set()
        self.replaced: set[str] = set()
        self.deleted: dict[int, set[str]] = {}
        self.removed: dict[str, list[MessageRecord]] = {}

    def owed(self) -> set[str]:
        """Return the texts that must be somewhere."""
        return self.kept - self.replaced - set().union(*self.deleted.values())


class Chat(Struct):
    """A conversation as a device knows it. `trashed_at`: the version at which it was deleted."""

    messages: dict[str, MessageRecord] = field(default_factory=dict)
    shown: dict[str, int] = field(default_factory=dict)
    version: int = 0
    unsent: dict[str, tuple[MessageRecord, int | None]] = field(default_factory=dict)
    removed: dict[str, tuple[int | None, int]] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    is_new: bool = True
    is_erased: bool = False
    is_gone: bool = False
    trashed_at: int | None = None
    in_trash: bool = False

    @property
    def waits(self) -> bool:
        """Return whether something is to be sent."""
        return bool(self.unsent or self.removed or self.is_erased or self.is_trashed)

    @property
    def is_trashed(self) -> bool:
        """Return whether the deletion is to be sent."""
        return self.trashed_at is not None

    @property
    def is_shown(self) -> bool:
        """Return whether a person can do something in it."""
        return not (self.is_erased or self.is_trashed or self.in_trash)


Branch: TypeAlias = list[MessageRecord]


class Device:
    """A browser of a person; `name` is a number."""

    def __init__(self, history: ChatHistory, name: int, person: str, words: Words) -> None:
        self.history, self.name, self.person, self.words = history, name, person, words
        self.loses_answer = False
        self.cursor = 0
        self.chats: dict[str, Chat] = {}
        self.readings: dict[str, int] = {}
        self.undoable: tuple[str, Branch] | None = None
        words.deleted[name] = set()

    @property
    def waits(self) -> bool:
        """Return whether something is to be sent."""
        return any(chat.waits for chat in self.chats.values())

    # What people do

    def write(self, chat: str, message: MessageRecord) -> None:
        """Change or add a message: it waits to be sent, with the version that was shown."""
        known = self.chats.setdefault(chat, Chat())
        known.removed.pop(message.id, None)
        base = known.shown.get(message.id)
        if message.id in known.unsent:
            base = known.unsent[message.id][1]
        known.messages[message.id] = message
        known.unsent[message.id] = (message, base)

    def ask(self, chat: str, below: MessageRecord | None) -> None:
        """Ask, and begin to read the answer."""
        number = next(self.words.numbers)
        asked = question(number, text=f"question {number} ", created=LONG_AGO + number)
        asked = structs.replace(asked, parent=None if below is None else below.id)
        self.words.kept.add(asked.text)
        self.write(chat, asked)
        self.regenerate(chat, asked)

    def regenerate(self, chat: str, below: MessageRecord) -> None:
        """Ask for an answer."""
        number = next(self.words.numbers)
        made = answer(number, text="", state="open", seq=0, parent=below.id)
        self.write(chat, structs.replace(made, created=LONG_AGO + number))

    def read(self, chat: str, message: AnswerRecord, events: int) -> None:
        """Read on: the gateway keeps the answer, so that every device can."""
        seq = min(self.readings.get(message.id, message.seq) + events, EVENTS)
        self._note_reading(chat, message, seq, "done" if seq == EVENTS else "open")

    def stop_reading(self, chat: str, message: AnswerRecord) -> None:
        """Lose the connection to the gateway."""
        seq = self.readings.get(message.id, message.seq)
        self._note_reading(chat, message, seq, "interrupted")

    def _note_reading(self, chat: str, message: AnswerRecord, seq: int, state: str) -> None:
        self.readings[message.id] = seq
        text = _text_of(message, seq)
        made = structs.replace(message, text=text, seq=seq, state=state, edited=UNSET)
        if state == "done":
            self.words.kept.add(text)
        more = (state == "done", seq) > (message.state == "done", message.seq)
        if message.edited is not True or more:
            self.write(chat, made)

    def count(self, chat: str, message: AnswerRecord) -> None:
        """Save the figures of an answer."""
        stats = AnswerStats(prompt=float(next(self.words.numbers)))
        self.write(chat, structs.replace(message, stats=stats))

    def edit(self, chat: str, message: AnswerRecord) -> None:
        """Change the text of an answer."""
        text = f"edit {next(self.words.numbers)} "
        self.words.replaced.add(message.text)
        self.words.kept.add(text)
        self.write(chat, structs.replace(message, text=text, edited=True))

    def has_edited(self, chat: str, message: AnswerRecord) -> bool:
        """Return whether an edit waits to be sent: the page shows it, and does not read on."""
        return message.edited is True and message.id in self.chats[chat].unsent

    def remove(self, chat: str, message: MessageRecord) -> None:
        """Delete a message with all that is shown below it."""
        known = self.chats[chat]
        branch = [message]
        for one in branch:
            branch += [below for below in known.messages.values() if below.parent == one.id]
        for one in branch:
            seq = one.seq if isinstance(one, AnswerRecord) else 0
            base = known.shown.pop(one.id, known.taken.get(one.id))
            known.removed[one.id] = (base, seq)
            known.unsent.pop(one.id, None)
            if base is not None:
                known.taken[one.id] = base
            del known.messages[one.id]
            self.words.deleted[self.name].add(one.text)
        self.words.removed.setdefault(chat, []).extend(branch)
        self.undoable = (chat, branch)

    def undo(self) -> None:
        """Bring back what was deleted last."""
        if self.undoable is None:
            return
        chat, branch = self.undoable
        self.undoable = None
        if chat not in self.chats or not self.chats[chat].is_shown:
            return
        for one in branch:
            self.words.deleted[self.name].discard(one.text)
            there = self.chats[chat].messages.get(one.id)
            if there is None:
                self.write(chat, one)
            elif not there.text.startswith(one.text):
                copy = structs.replace(one, id=f"m_{next(self.words.numbers)}_{self.name}")
                self.write(chat, copy)

    def erase(self, chat: str) -> None:
        """Delete a conversation for good, as it is shown, with what is still being written."""
        known = self.chats[chat]
        self._note_deleted(chat)
        if known.is_new:
            del self.chats[chat]
            return
        self.chats[chat] = Chat(version=known.version, is_new=False, is_erased=True)

    def trash(self, chat: str) -> None:
        """Delete a conversation as it is shown, so that it can be brought back for a day."""
        known = self.chats[chat]
        self._note_deleted(chat)
        known.trashed_at = known.version

    def _note_deleted(self, chat: str) -> None:
        """Note that what is shown, or was before, goes with what is still being written of it."""
        for one in (*self.chats[chat].messages.values(), *self.words.removed.get(chat, [])):
            self.words.deleted[self.name].add(one.text)
            if isinstance(one, AnswerRecord):
                self.words.deleted[self.name].add(_text_of(one, EVENTS))

    # What the page does

    async def talk(self) -> None:
        """Send what waits and read what is new."""
        for chat in [one for one, known in self.chats.items() if known.waits]:
            await (self._send_erasure if self.chats[chat].is_erased else self._send)(chat)
        await self._poll()

    async def _send_erasure(self, chat: str) -> None:
        try:
            await self.history.erase(self.person, chat, self.chats[chat].version)
            del self.chats[chat]
        except ConversationChanged:
            await self._read_whole(chat, Chat())

    async def _send(self, chat: str) -> None:
        known = self.chats[chat]
        sent = [
            structs.replace(one, base=UNSET if base is None else base)
            for one, base in known.unsent.values()
        ]
        removed = [
            MessageRemoval(one, base or 0, seq) for one, (base, seq) in known.removed.items()
        ]
        change = ConversationChange(messages=tuple(sent), remove=tuple(removed))
        if known.trashed_at is not None:
            deletion = ConversationSet(deleted=LONG_AGO)
            change = structs.replace(change, set=deletion, deleted_base=known.trashed_at)
        try:
            saved = await self.history.save(self.person, chat, change, QUOTA)
        except ConversationErased:
            self._revive(chat)
            return
        if self.loses_answer:
            self.loses_answer = False
            return
        bases, known.unsent, known.removed = known.unsent, {}, {}
        known.trashed_at = None
        self._take_saved(chat, known, saved, bases)
        if known.is_gone and not known.waits:
            del self.chats[chat]

    def _take_saved(
        self,
        chat: str,
        known: Chat,
        saved: ConversationSaved,
        bases: dict[str, tuple[MessageRecord, int | None]],
    ) -> None:
        known.is_new, known.in_trash = False, saved.conversation.deleted is not None
        if saved.conversation.version - 1 == known.version:
            known.version = saved.conversation.version
        for one, (_, base) in bases.items():
            if known.shown.get(one) == base and one in saved.versions:
                known.shown[one] = saved.versions[one]
                known.taken.pop(one, None)
        for one in saved.removed:
            known.messages.pop(one, None)
        for stored in (*saved.newer, *saved.conflicts):
            mine = known.messages.get(stored.id)
            known.messages[stored.id] = _plain(stored)
            known.shown[stored.id] = stored.version
            if (
                stored in saved.conflicts
                and mine is not None
                and self._differs(known, mine, stored)
            ):
                branch = structs.replace(mine, id=f"m_{next(self.words.numbers)}_{self.name}")
                self.write(chat, branch)

    @staticmethod
    def _differs(known: Chat, mine: MessageRecord, stored: MessageRecord) -> bool:
        if not mine.text or mine.text == stored.text:
            return False
        if isinstance(mine, AnswerRecord) and isinstance(stored, AnswerRecord):
            is_read = (mine.state == stored.state) and mine.seq <= stored.seq
            if stored.edited is True and mine.edited is not True and is_read:
                return False
        return not any(
            one.text == mine.text and one.parent == mine.parent and one.id != mine.id
            for one in known.messages.values()
        )

    def _revive(self, chat: str) -> None:
        known = self.chats.pop(chat)
        if not any(_is_unknown(*one) for one in known.unsent.values()):
            return
        ids = {one: f"m_{next(self.words.numbers)}_{self.name}" for one in known.messages}
        copy = f"c_{next(self.words.numbers)}_{self.name}"
        for one in known.messages.values():
            parent = ids.get(one.parent or "")
            self.write(copy, structs.replace(one, id=ids[one.id], parent=parent))

    async def _poll(self) -> None:
        while True:
            seen = await changes(self.history, self.cursor, person=self.person)
            self.cursor = seen.cursor
            for erased in seen.erased:
                if erased in self.chats and self.chats[erased].waits:
                    self.chats[erased].is_gone = True
                else:
                    self.chats.pop(erased, None)
            for one in seen.conversations:
                known = self.chats.setdefault(one.id, Chat())
                if not known.is_erased:
                    await self._read_whole(one.id, known)
            if not seen.more:
                return

    async def _read_whole(self, chat: str, known: Chat) -> None:
        whole = await self.history.conversation(self.person, chat)
        messages = {one.id: one for one in whole.messages}
        versions = {one.id: one.version for one in whole.messages}
        kept = {one: message for one, (message, _) in known.unsent.items()}
        hidden = {one for one, (base, _) in known.removed.items() if base == versions.get(one)}
        known.messages = {
            one: _plain(message) for one, message in messages.items() if one not in hidden
        } | kept
        known.shown = {one: version for one, version in versions.items() if one not in hidden}
        known.version, known.is_new = whole.conversation.version, False
        known.in_trash = whole.conversation.deleted is not None
        self.chats[chat] = known


def _plain(message: MessageRecord) -> MessageRecord:
    return structs.replace(message, version=0, base=UNSET)


def _text_of(message: AnswerRecord, events: int) -> str:
    return "".join(f"{message.job} {event} " for event in range(1, events + 1))


def _is_unknown(message: MessageRecord, base: int | None) -> bool:
    """Return whether a text was not known to who erased its conversation."""
    if not isinstance(message, AnswerRecord) or message.edited is True:
        return True
    return message.state == "done" and base is None
