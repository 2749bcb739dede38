"""Conversations, messages and changes as the page makes them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

from msgspec import structs

from server.history.chat_history import ChatHistory
from server.history.history_records import (
    AnswerRecord,
    ConversationChange,
    ConversationSaved,
    ConversationSet,
    HistoryChanges,
    MessageRecord,
    QuestionRecord,
)

HistoryBackend: TypeAlias = Callable[[], AbstractAsyncContextManager[ChatHistory]]
"""Opens one and the same history again and again, as restarts and other nodes do."""
QUOTA = 10_000_000
LONG_AGO = 1_700_000_000_000


def question(number: int = 1, text: str = "What is it?", **fields: Any) -> QuestionRecord:
    """Make a question; every number has its own id and time."""
    made = QuestionRecord(id=f"m_{number}", text=text, created=LONG_AGO + number)
    return structs.replace(made, **fields)


def answer(number: int = 2, text: str = "It is this.", **fields: Any) -> AnswerRecord:
    """Make an answer that is complete."""
    made = AnswerRecord(
        id=f"m_{number}",
        parent="m_1",
        job=f"job-{number}",
        model="test/one",
        text=text,
        created=LONG_AGO + number,
        seq=5,
        state="done",
        accepted=True,
    )
    return structs.replace(made, **fields)


def change_of(*messages: MessageRecord, **members: Any) -> ConversationChange:
    """Make a change with messages and members to set."""
    return ConversationChange(set=ConversationSet(**members), messages=messages)


async def save(
    history: ChatHistory,
    *messages: MessageRecord,
    person: str = "owner",
    conversation: str = "c_1",
    **members: Any,
) -> ConversationSaved:
    """Save messages and members of a conversation."""
    return await history.save(person, conversation, change_of(*messages, **members), QUOTA)


async def changes(
    history: ChatHistory,
    since: int = 0,
    opened: str | None = None,
    *,
    person: str = "owner",
    limit: int = 1000,
) -> HistoryChanges:
    """Read what has changed."""
    return await history.changes(person, since, opened, limit)


async def texts(history: ChatHistory, conversation: str = "c_1") -> dict[str, str]:
    """Return the texts of the owner's conversation by the ids of its messages."""
    whole = await history.conversation("owner", conversation)
    return {message.id: message.text for message in whole.messages}
