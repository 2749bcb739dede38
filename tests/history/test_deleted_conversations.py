"""What becomes of a deleted conversation that another device goes on with."""

from __future__ import annotations

import pytest
from msgspec import structs
from support.builders.conversations import (
    LONG_AGO,
    QUOTA,
    answer,
    change_of,
    question,
    save,
    texts,
)

from server.history.chat_history import ChatHistory
from server.history.history_records import (
    ChatDraft,
    ConversationChange,
)
from workers.errors import ConversationChanged


async def test_who_writes_in_a_deleted_conversation_brings_it_back(history: ChatHistory) -> None:
    await save(history, question(1), answer(2, state="open"))
    await save(history, deleted=LONG_AGO)
    version = (await save(history, answer(2), choices={"m_1": "m_2"})).conversation.version
    assert (await history.conversation("owner", "c_1")).conversation.deleted is not None
    saved = await save(history, question(3, parent="m_2", text="and more"))
    assert saved.conversation.deleted is None
    with pytest.raises(ConversationChanged):
        await history.erase("owner", "c_1", version)
    assert await history.erase("owner", "c_1", saved.conversation.version) == 1


async def test_words_that_were_not_in_a_deleted_conversation_bring_it_back(
    history: ChatHistory,
) -> None:
    await save(history, question(1), answer(2, state="open", text=""), system="Be brief.")
    draft = ConversationChange(draft=ChatDraft("typed elsewhere"), draft_base=0)
    nothing = ConversationChange(draft=ChatDraft(" "), draft_base=1)
    for change, is_back in (
        (change_of(answer(3, job="job-2")), True),
        (change_of(answer(4, job="job-3", text="", state="open")), True),
        (change_of(answer(5, job="job-4", text="", state="failed")), False),
        (change_of(answer(2, seq=9)), False),  # its owner knew that it was being written
        (change_of(question(6), deleted=LONG_AGO), False),
        (draft, True),
        (nothing, False),
        (change_of(system=""), False),
        (change_of(system="Be long."), True),
        (change_of(title="Apples"), False),
    ):
        await save(history, deleted=LONG_AGO)
        saved = await history.save("owner", "c_1", change, QUOTA)
        assert (saved.conversation.deleted is None) is is_back, change


async def test_a_conversation_that_was_changed_since_it_was_seen_is_not_deleted(
    history: ChatHistory,
) -> None:
    seen = (await save(history, question())).conversation.version
    written = await save(history, question(2, parent="m_1"))
    trash = structs.replace(change_of(question(3), deleted=LONG_AGO), deleted_base=seen)
    kept = await history.save("owner", "c_1", trash, QUOTA)
    assert kept.conversation.deleted is None
    assert set(await texts(history)) == {"m_1", "m_2", "m_3"}
    known = structs.replace(trash, deleted_base=kept.conversation.version)
    assert (await history.save("owner", "c_1", known, QUOTA)).conversation.deleted is not None
    # Sent again, since the answer was lost: it stays deleted.
    again = await history.save("owner", "c_1", known, QUOTA)
    assert again.conversation.deleted is not None
    assert written.conversation.version == seen + 1
