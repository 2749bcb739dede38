"""Every chat history keeps what people write, apart from each other, whichever device wrote it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import msgspec
import pytest
from msgspec import structs
from support.builders.conversations import (
    LONG_AGO,
    QUOTA,
    HistoryBackend,
    answer,
    change_of,
    changes,
    question,
    save,
    texts,
)

from server.history.chat_history import ChatHistory
from server.history.history_records import (
    AnswerRecord,
    AnswerStats,
    ChatDraft,
    ConversationChange,
    ConversationTexts,
    FileRecord,
    HistorySettings,
    MessageRemoval,
    StoredFile,
)
from workers.errors import (
    ConversationErased,
    HistoryFull,
    InvalidRequest,
    NotFound,
)

FILE = StoredFile("notes.txt", "text/plain", b"some notes")


async def test_a_conversation_comes_back_as_it_was_written(
    history_backend: HistoryBackend,
) -> None:
    attached = FileRecord("f_1", "notes.txt", "text/plain", 10, "text")
    asked = question(text="Hi \0 \U0001f600 \uffff", files=(attached,), extra={"at": [1, None]})
    members: dict[str, Any] = {
        "title": "Greetings",
        "pinned": True,
        "model": "test/one",
        "system": "Be brief.",
        "parameters": {"temperature": 0.5, "stop": ["x"]},
        "choices": {"root": "m_1"},
        "created": LONG_AGO,
    }
    async with history_backend() as history:
        saved = await save(history, asked, answer(), **members)
        assert saved.versions == {"m_1": 1, "m_2": 1}
    async with history_backend() as history:
        whole = await history.conversation("owner", "c_1")
        assert whole.messages == [
            structs.replace(asked, version=1),
            structs.replace(answer(), version=1),
        ]
        kept = whole.conversation
        assert {name: getattr(kept, name) for name in members} == members
        assert kept == saved.conversation and kept.version == 1 and kept.updated > LONG_AGO


async def test_the_history_of_another_person_is_not_there(history: ChatHistory) -> None:
    await save(history, question(), title="mine")
    await history.put_file("owner", "f_1", "c_1", FILE, QUOTA)
    assert (await changes(history, person="key_1")).conversations == []
    assert (await history.search("key_1", ["it"], 10)).data == []
    for read in (history.conversation("key_1", "c_1"), history.file("key_1", "f_1")):
        with pytest.raises(NotFound):
            await read
    await save(history, question(text="theirs"), person="key_1")
    assert await history.erase("key_1", "c_1") == 1
    assert await texts(history) == {"m_1": "What is it?"}
    assert await history.erase_all("key_1") == 0


async def test_a_cursor_leads_to_what_has_changed_since(history: ChatHistory) -> None:
    await save(history, question(), conversation="c_1")
    await save(history, question(), conversation="c_2", title="two")
    first = await changes(history)
    assert [one.id for one in first.conversations] == ["c_1", "c_2"] and not first.reset
    nothing = await changes(history, first.cursor, "c_2")
    assert (nothing.conversations, nothing.open, nothing.cursor) == ([], None, first.cursor)
    await save(history, answer(state="open"), conversation="c_2")
    await history.erase("owner", "c_1")
    after = await changes(history, first.cursor, "c_2")
    assert [(one.id, one.title, one.answering) for one in after.conversations] == [
        ("c_2", "two", True)
    ]
    assert after.erased == ["c_1"]
    assert after.open is not None and [one.id for one in after.open.messages] == ["m_2"]
    await save(history, structs.replace(answer(), base=1), conversation="c_2")
    (done,) = (await changes(history, after.cursor)).conversations
    assert not done.answering


async def test_a_long_list_comes_in_pages_and_misses_nothing(history: ChatHistory) -> None:
    for number in range(7):
        await save(history, conversation=f"c_{number}")
    page = await changes(history, limit=3)
    seen = [one.id for one in page.conversations]
    await history.erase("owner", "c_1")
    await save(history, conversation="c_5", title="changed in between")
    while page.more:
        page = await changes(history, page.cursor, limit=3)
        assert not page.reset
        seen += [one.id for one in page.conversations]
        seen = [one for one in seen if one not in page.erased]
    assert sorted(set(seen)) == ["c_0", "c_2", "c_3", "c_4", "c_5", "c_6"]
    assert page.cursor == (await changes(history, page.cursor)).cursor > 0


async def test_a_cursor_of_another_history_starts_again(history: ChatHistory) -> None:
    await save(history, question())
    again = await changes(history, 99, "c_1")
    assert again.reset and [one.id for one in again.conversations] == ["c_1"]
    assert again.open is not None and again.cursor == 1


async def test_saving_the_same_again_changes_nothing(history: ChatHistory) -> None:
    first = await save(history, question(), answer(), title="t")
    again = await save(history, question(), answer(), title="t")
    assert (again.cursor, again.conflicts, again.newer) == (first.cursor, [], [])
    assert again.versions == first.versions and again.conversation == first.conversation


async def test_two_devices_that_change_one_question_lose_nothing(history: ChatHistory) -> None:
    await save(history, question())
    first = await save(history, question(text="by one", base=1))
    second = await save(history, question(text="by two", base=1))
    assert first.versions == {"m_1": 2} and first.conflicts == []
    (stored,) = second.conflicts
    assert (stored.text, stored.version) == ("by one", 2)
    unnamed = await save(history, question(text="by three"))
    assert len(unnamed.conflicts) == 1
    assert await texts(history) == {"m_1": "by one"}


@pytest.mark.parametrize(
    ("stored", "sent", "kept"),
    [
        ({"state": "open", "seq": 3, "text": "a"}, {"state": "open", "seq": 5, "text": "ab"}, "ab"),
        ({"state": "open", "seq": 5, "text": "ab"}, {"state": "open", "seq": 3, "text": "a"}, "ab"),
        ({"state": "open", "seq": 9, "text": "abc"}, {"state": "stopped", "text": "ab"}, "abc"),
        ({"state": "done", "text": "abc"}, {"state": "open", "seq": 9, "text": "ab"}, "abc"),
        ({"state": "interrupted", "seq": 3, "text": "a"}, {"state": "done", "text": "abc"}, "abc"),
        ({"state": "done", "text": "abc"}, {"state": "interrupted", "seq": 3, "text": "a"}, "abc"),
    ],
)
async def test_of_two_devices_that_follow_an_answer_the_one_that_has_read_more_counts(
    history: ChatHistory, stored: dict[str, Any], sent: dict[str, Any], kept: str
) -> None:
    await save(history, answer(**stored))
    saved = await save(history, answer(**sent))
    assert saved.conflicts == []
    assert [one.text for one in saved.newer] == ([kept] if kept != sent["text"] else [])
    assert await texts(history) == {"m_2": kept}


async def test_two_devices_that_change_the_text_of_one_answer_lose_nothing(
    history: ChatHistory,
) -> None:
    await save(history, answer(text="as it came"))
    await save(history, answer(text="changed by one", base=1))
    second = await save(history, answer(text="changed by two", base=1))
    assert [one.text for one in second.conflicts] == ["changed by one"]


async def test_another_answer_under_the_same_id_is_a_conflict(history: ChatHistory) -> None:
    await save(history, answer(text="one"))
    saved = await save(history, answer(text="two", job="another"))
    assert [one.text for one in saved.conflicts] == ["one"]


async def test_a_removed_message_stays_away_unless_it_is_brought_back(
    history: ChatHistory,
) -> None:
    await save(history, question(), answer(state="open"))
    cursor = (await changes(history)).cursor
    await history.save("owner", "c_1", ConversationChange(remove=("m_2",)), QUOTA)
    (gone,) = [(await changes(history, cursor, "c_1")).open]
    assert gone is not None and gone.removed == ["m_2"] and gone.messages == []
    late = await save(history, answer(base=1))
    assert late.removed == ["m_2"] and await texts(history) == {"m_1": "What is it?"}
    back = await save(history, answer())
    assert back.removed == [] and set(await texts(history)) == {"m_1", "m_2"}


async def test_what_was_written_below_a_removed_message_moves_up(history: ChatHistory) -> None:
    await save(history, question(1), answer(2), question(3, parent="m_2"))
    await save(history, question(4, parent="m_2", text="of another device"))
    remove = ConversationChange(remove=("m_2", "m_3"))
    await history.save("owner", "c_1", remove, QUOTA)
    await save(history, question(5, parent="m_3", text="of a third one"))
    whole = await history.conversation("owner", "c_1")
    assert {one.id: one.parent for one in whole.messages} == {
        "m_1": None,
        "m_4": "m_1",
        "m_5": "m_1",
    }


def removal(*messages: str | tuple[str, int] | tuple[str, int, int]) -> ConversationChange:
    """Make a removal of messages as they are, or as a device has seen them."""
    return ConversationChange(
        remove=tuple(one if isinstance(one, str) else MessageRemoval(*one) for one in messages)
    )


async def test_a_message_that_was_changed_since_it_was_seen_is_not_removed(
    history: ChatHistory,
) -> None:
    await save(history, question(1), answer(2), question(3, parent="m_2"))
    await save(history, answer(2, text="edited", edited=True, base=1))
    stale = removal(("m_1", 1), ("m_2", 1, 5), ("m_3", 1))
    saved = await history.save("owner", "c_1", stale, QUOTA)
    # The question stays with the answer that belongs to it.
    assert [(one.id, one.text) for one in saved.newer] == [
        ("m_1", "What is it?"),
        ("m_2", "edited"),
    ]
    assert await texts(history) == {"m_1": "What is it?", "m_2": "edited"}
    await history.save("owner", "c_1", removal(("m_2", saved.versions["m_2"])), QUOTA)
    assert await texts(history) == {"m_1": "What is it?"}


async def test_an_answer_is_removed_that_was_read_as_far_as_it_goes(history: ChatHistory) -> None:
    await save(history, question(), answer(state="open", seq=2, text="It"))
    await save(history, answer())  # to its end, as both devices have read
    kept = await history.save("owner", "c_1", removal(("m_2", 1, 2)), QUOTA)
    assert [one.text for one in kept.newer] == ["It is this."]
    await history.save("owner", "c_1", removal(("m_2", 1, 5)), QUOTA)
    assert await texts(history) == {"m_1": "What is it?"}


async def test_an_edit_of_a_removed_message_brings_it_back(history: ChatHistory) -> None:
    await save(history, question(1), answer(2), question(3, parent="m_2"), answer(4, parent="m_3"))
    await history.save("owner", "c_1", removal(("m_3", 1), ("m_4", 1, 5)), QUOTA)
    late = await save(history, answer(4, parent="m_3", stats=AnswerStats(), base=1))
    assert late.removed == ["m_4"]  # no word of it is new
    edited = answer(4, parent="m_3", text="edited", edited=True, base=1)
    back = await save(history, edited)
    assert back.removed == [] and [one.parent for one in back.newer] == ["m_2"]
    await history.save("owner", "c_1", removal("m_1"), QUOTA)
    await save(history, question(1, text="asked otherwise", base=1))
    assert await texts(history) == {"m_1": "asked otherwise", "m_2": "It is this.", "m_4": "edited"}


async def test_an_answer_that_was_removed_while_it_was_written_comes_back_complete(
    history: ChatHistory,
) -> None:
    await save(history, question(), answer(state="open", seq=2, text="It"))
    await history.save("owner", "c_1", removal(("m_2", 1, 2)), QUOTA)
    stopped = await save(history, answer(state="stopped", seq=3, text="It is", base=1))
    assert stopped.removed == ["m_2"]
    await save(history, answer(base=1))
    assert (await texts(history))["m_2"] == "It is this."


async def test_a_text_that_an_older_page_has_changed_counts_as_edited(history: ChatHistory) -> None:
    await save(history, answer())
    await save(history, answer(text="changed", base=1))
    again = await save(history, answer(stats=AnswerStats(), base=1))
    assert [one.text for one in again.conflicts] == ["changed"]
    third = await save(history, answer(text="otherwise", edited=True, base=1))
    assert [one.text for one in third.conflicts] == ["changed"]


async def test_figures_of_an_answer_stay_when_another_device_has_measured_none(
    history: ChatHistory,
) -> None:
    async def shown(sent: AnswerRecord) -> list[tuple[float | None, AnswerStats | None]]:
        """Save an answer, and return the figures that the page is given in place of its own."""
        newer = (await save(history, sent)).newer
        return [(one.thinking_ms, one.stats) for one in newer if isinstance(one, AnswerRecord)]

    first, second = AnswerStats(prompt=7), AnswerStats(prompt=9)
    assert await shown(answer(state="open", seq=2, text="It", thinking_ms=3300.0)) == []
    assert await shown(answer()) == [(3300.0, None)]
    assert await shown(answer(stats=first)) == [(3300.0, first)]
    assert await shown(answer(base=1)) == [(3300.0, first)]
    assert await shown(answer(thinking_ms=9.0, stats=second)) == [(3300.0, first)]


async def test_no_message_can_be_below_itself(history: ChatHistory) -> None:
    await save(history, question(1), answer(2), question(3, parent="m_2"))
    for place, messages in (
        (0, [question(9, parent="m_9")]),
        (0, [question(8, parent="m_9"), question(9, parent="m_8")]),
        (0, [question(1, parent="m_3", base=1)]),
        (1, [question(7), question(1, parent="m_2", base=1)]),
    ):
        with pytest.raises(InvalidRequest) as refused:
            await save(history, *messages)
        assert refused.value.param == f"messages[{place}].parent"
    await save(history, question(5, parent="m_6"))  # what is above it may come later
    with pytest.raises(InvalidRequest):
        await save(history, question(6, parent="m_5"))
    await save(history, question(6, parent="m_3"))
    assert len(await texts(history)) == 5


async def test_choices_are_merged(history: ChatHistory) -> None:
    await save(history, question(), choices={"root": "m_1", "m_1": "m_2"})
    saved = await save(history, choices={"m_1": None, "m_2": "m_3"})
    assert saved.conversation.choices == {"root": "m_1", "m_2": "m_3"}


async def test_two_drafts_are_both_kept(history: ChatHistory) -> None:
    def typed(text: str, base: int) -> ConversationChange:
        return ConversationChange(draft=ChatDraft(text), draft_base=base)

    one = await history.save("owner", "c_1", typed("of one", 0), QUOTA)
    assert one.conversation.draft_version == 1 and one.draft_conflict is None
    two = await history.save("owner", "c_1", typed("of two", 0), QUOTA)
    assert two.draft_conflict == ChatDraft("of one")
    assert two.conversation.draft == ChatDraft("of one")
    both = await history.save("owner", "c_1", typed("of one\nof two", 1), QUOTA)
    assert both.conversation.draft == ChatDraft("of one\nof two")
    again = await history.save("owner", "c_1", typed("of one\nof two", 1), QUOTA)
    assert again.draft_conflict is None and again.cursor == both.cursor


async def test_an_erased_conversation_is_gone_with_its_files(history: ChatHistory) -> None:
    await save(history, question())
    await history.put_file("owner", "f_1", "c_1", FILE, QUOTA)
    assert await history.erase("owner", "c_1") == 1
    assert (await changes(history)).used_bytes == 0
    for read in (history.conversation("owner", "c_1"), history.file("owner", "f_1")):
        with pytest.raises(NotFound):
            await read
    with pytest.raises(ConversationErased):
        await save(history, question())
    with pytest.raises(ConversationErased):
        await history.put_file("owner", "f_1", "c_1", FILE, QUOTA)
    assert await history.erase("owner", "c_1") == 0


async def test_erasing_all_leaves_nothing_but_the_settings(history: ChatHistory) -> None:
    for number in range(3):
        await save(history, question(), conversation=f"c_{number}")
        await history.put_file("owner", f"f_{number}", f"c_{number}", FILE, QUOTA)
    await history.put_file("owner", "f_draft", "c_not_yet", FILE, QUOTA)
    kept = {"enter": "send", "prompt-p_1": {"name": "Sum up", "text": "Sum up:"}}
    await history.put_settings("owner", HistorySettings(kept, 0))
    assert await history.erase_all("owner") == 3
    after = await changes(history, 1)
    assert after.conversations == [] and sorted(after.erased) == ["c_0", "c_1", "c_2"]
    left = HistorySettings({"enter": "send", "prompt-p_1": None}, 2)
    assert after.used_bytes == len(msgspec.json.encode(left.value))
    assert await history.settings("owner") == left


async def test_a_write_beyond_the_quota_is_refused_whole(history: ChatHistory) -> None:
    await save(history, question(), title="t")
    used = (await changes(history)).used_bytes
    long = change_of(question(2, text="x" * 500), title="new")
    with pytest.raises(HistoryFull):
        await history.save("owner", "c_1", long, used + 400)
    with pytest.raises(HistoryFull):
        await history.put_file("owner", "f_1", "c_1", FILE, used + 9)
    whole = await history.conversation("owner", "c_1")
    assert (whole.conversation.title, len(whole.messages)) == ("t", 1)
    smaller = ConversationChange(set=change_of(deleted=LONG_AGO).set, remove=("m_1",))
    await history.save("owner", "c_1", smaller, 10)  # room can be made when there is none
    await history.put_file("owner", "f_1", "c_1", FILE, QUOTA)
    await history.put_file("owner", "f_1", "c_1", FILE, QUOTA)
    full = await changes(history)
    await history.erase("owner", "c_1")
    assert full.used_bytes > 10 and (await changes(history)).used_bytes == 0


async def test_everything_that_a_person_can_choose_counts(history: ChatHistory) -> None:
    async def grown_by(length: int, *writes: Awaitable[object]) -> None:
        before = (await changes(history)).used_bytes
        for write in writes:
            await write
        assert (await changes(history)).used_bytes - before >= length

    await grown_by(1500, save(history, title="t" * 500, model="m" * 1000))
    empty = StoredFile("n" * 1000, "t" * 1000, b"")
    await grown_by(2000, history.put_file("owner", "f_1", "c_1", empty, QUOTA))
    await grown_by(50, save(history, question(1, id="m" * 50, text="")))
    await history.save("owner", "c_1", removal("m" * 50), QUOTA)
    await grown_by(300, *(save(history, conversation="c" * 60 + str(n)) for n in range(5)))
    await history.erase_all("owner")
    assert (await changes(history)).used_bytes == 0


async def test_a_file_is_not_taken_away_from_where_it_is_used(history: ChatHistory) -> None:
    record = FileRecord("f_1", "notes.txt", "text/plain", 10, "text")
    await history.put_file("owner", "f_1", "c_1", FILE, QUOTA)
    await history.put_file("owner", "f_1", "c_2", FILE, QUOTA)  # no message names it yet
    await history.put_file("owner", "f_1", "c_1", FILE, QUOTA)
    await save(history, question(files=(record,)))
    with pytest.raises(InvalidRequest):
        await history.put_file("owner", "f_1", "c_2", FILE, QUOTA)
    typed = ConversationChange(draft=ChatDraft("", (structs.replace(record, id="f_2"),)))
    await history.put_file("owner", "f_2", "c_1", FILE, QUOTA)
    await history.save("owner", "c_1", typed, QUOTA)
    with pytest.raises(InvalidRequest):
        await history.put_file("owner", "f_2", "c_2", FILE, QUOTA)
    await history.put_file("key_1", "f_1", "c_2", FILE, QUOTA)  # another person's
    assert await history.file("owner", "f_1") == FILE == await history.file("owner", "f_2")


async def test_a_title_and_a_system_prompt_replace_only_what_was_seen(history: ChatHistory) -> None:
    async def set_from(seen: str, **members: str) -> dict[str, str]:
        base = ConversationTexts(**dict.fromkeys(members, seen))
        change = structs.replace(change_of(**members), set_base=base)
        saved = await history.save("owner", "c_1", change, QUOTA)
        conflicts: dict[str, str] = msgspec.to_builtins(saved.set_conflicts)
        assert not (conflicts and saved.written)
        return conflicts

    assert await set_from("", title="First", system="First") == {}
    assert await set_from("First", title="Second") == {}
    assert await set_from("First", system="Second") == {}
    both = {"title": "Second", "system": "Second"}
    assert await set_from("First", title="Late", system="Late") == both
    assert await set_from("First", **both) == {}  # sent again, since the answer was lost
    known = (await history.conversation("owner", "c_1")).conversation
    assert (known.title, known.system) == ("Second", "Second")
    await save(history, title="Last", system="Last")
    known = (await history.conversation("owner", "c_1")).conversation
    assert (known.title, known.system) == ("Last", "Last")


async def test_settings_are_replaced_from_the_version_that_is_known(history: ChatHistory) -> None:
    assert await history.settings("owner") == HistorySettings({}, 0)
    assert (await history.put_settings("owner", HistorySettings({"a": 1}, 0)))[0]
    done, stored = await history.put_settings("owner", HistorySettings({"a": 2}, 0))
    assert not done and stored == HistorySettings({"a": 1}, 1)
    seen = await changes(history)
    assert seen.settings == stored
    assert (await changes(history, seen.cursor)).settings is None


async def test_the_search_finds_words_wherever_they_are(history: ChatHistory) -> None:
    file = FileRecord("f_1", "Protokoll.pdf", "application/pdf", 3)
    first = question(text="Straße und 東京都", files=(file,))
    second = answer(text="x" * 300 + " 100% _sure_ Needle here")
    await save(history, first, conversation="c_1", created=1, updated=1)
    await save(history, second, conversation="c_2", created=1, updated=2)
    await save(
        history, conversation="c_3", created=1, updated=3, title="Needle work", system="tailor"
    )

    async def found(*words: str) -> list[tuple[str, str | None, str]]:
        hits = (await history.search("owner", list(words), 10)).data
        return [(hit.conversation, hit.message, hit.where) for hit in hits]

    assert await found("needle") == [("c_3", None, "title"), ("c_2", "m_2", "text")]
    assert await found("needle", "here") == [("c_2", "m_2", "text")]
    assert await found("strasse") == [("c_1", "m_1", "text")]
    assert await found("京") == [("c_1", "m_1", "text")]
    assert await found("protokoll") == [("c_1", "m_1", "file")]
    assert await found("tailor") == [("c_3", None, "system")]
    assert await found("0%", "_sure_") == [("c_2", "m_2", "text")]
    assert await found("100_") == [] == await found("missing")
    await save(history, conversation="c_2", deleted=LONG_AGO)
    assert await found("needle") == [("c_3", None, "title")]


async def test_a_search_says_that_there_is_more(history: ChatHistory) -> None:
    for number in range(3):
        await save(history, question(), conversation=f"c_{number}", title="apples")
    for limit, count, partial in ((2, 2, True), (3, 3, False), (9, 3, False)):
        result = await history.search("owner", ["apples"], limit)
        assert (len(result.data), result.partial) == (count, partial)


async def test_the_search_reads_the_texts_of_files(history: ChatHistory) -> None:
    document = FileRecord("f_doc", "Report.pdf", "application/pdf", 4, "other")
    read = FileRecord("f_text", "Report.pdf", "text/plain", 9, "text")
    picture = FileRecord("f_pic", "needle.svg", "image/svg+xml", 9, "image")
    first = question(1, text="Summarise this", files=(document, read, picture))
    contents = {
        "f_doc": StoredFile("Report.pdf", "application/pdf", b"%PDF-1.4 endobj lies"),
        "f_text": StoredFile("Report.pdf", "text/plain", ("x " * 500 + "The Nädel lies.").encode()),
        "f_pic": StoredFile("needle.svg", "image/svg+xml", b"<svg>hidden</svg>"),
        "f_draft": StoredFile("draft.txt", "text/plain", "nädel of a draft".encode()),
    }
    for name, file in contents.items():
        await history.put_file("owner", name, "c_1", file, QUOTA)
    await save(history, first, answer(2, text="It is short."), title="Files")

    async def found(query: str) -> list[tuple[str | None, str, str | None, str]]:
        hits = (await history.search("owner", query.split(), 10)).data
        return [(hit.message, hit.where, hit.file, hit.excerpt) for hit in hits]

    inside = ("m_1", "file", "Report.pdf", "…x x x x x x The Nädel lies.")
    assert await found("nädel") == [inside]
    assert await found("nädel lies summarise") == [inside]  # one word in the message, two in a file
    assert await found("report nädel lies") == [inside]
    assert await found("endobj") == []  # the bytes of a document, though they are ASCII
    assert await found("hidden") == [] == await found("nädel short")
    assert await found("needle") == [("m_1", "file", "needle.svg", "needle.svg")]
    (hit,) = (await history.search("owner", ["the", "lies"], 10)).data
    assert [hit.excerpt[start:end] for start, end in hit.matches] == ["The", "lies"]
    assert hit.match == hit.matches[0]
    await history.put_file("owner", "f_text", "c_1", StoredFile("", "text/plain", b"other"), QUOTA)
    assert await found("nädel") == []
    await history.erase("owner", "c_1")
    await save(history, first, conversation="c_2")
    assert await found("other") == []  # erased with its file


async def test_a_link_shows_what_was_there_when_it_was_made(history: ChatHistory) -> None:
    picture = FileRecord("f_1", "cat.png", "image/png", 4, "image")
    page = FileRecord("f_2", "page.html", "text/html", 4, "other")
    await history.put_file("owner", "f_1", "c_1", StoredFile("", "image/png", b"\x89PNG"), QUOTA)
    await history.put_file("owner", "f_2", "c_1", StoredFile("", "text/html", b"<b>"), QUOTA)
    asked = question(1, files=(picture, page))
    await save(history, asked, answer(2), answer(3, text="Another."), title="Cats")
    await save(history, choices={"m_1": "m_2"})
    used = (await changes(history)).used_bytes
    link = await history.share("owner", "c_1", None, QUOTA)
    one = await history.share("owner", "c_1", "m_3", QUOTA)
    await save(history, question(4, parent="m_2", text="later"))
    shown = await history.shared(link.token)
    assert shown is not None and shown[0] == "owner" and shown[1].title == "Cats"
    assert [message.text for message in shown[1].messages] == ["What is it?", "It is this."]
    assert [file.picture for file in shown[1].messages[0].files] == [True, False]
    single = await history.shared(one.token)
    assert single is not None
    assert [message.text for message in single[1].messages] == ["What is it?", "Another."]
    seen = await history.shared_file(link.token, "f_1")
    assert seen == StoredFile("", "image/png", b"\x89PNG")
    assert await history.shared_file(link.token, "f_2") is None
    await save(history, deleted=LONG_AGO)  # its links are dead meanwhile
    assert await history.shared(link.token) is None is await history.shared(one.token)
    assert await history.shared_file(link.token, "f_1") is None
    with pytest.raises(NotFound):
        await history.share("owner", "c_1", None, QUOTA)
    await save(history, deleted=None)
    assert await history.shared(link.token) == shown
    assert {each.id for each in await history.shares("owner")} == {link.id, one.id}
    assert await history.shares("key_1") == [] and len(link.token) >= 22 and link.id != link.token
    assert not await history.unshare("key_1", link.id)
    assert await history.unshare("owner", link.id) and not await history.unshare("owner", link.id)
    assert await history.shared(link.token) is None
    assert await history.shared_file(link.token, "f_1") is None
    assert (await changes(history)).used_bytes > used
    await history.erase("owner", "c_1")
    assert await history.shared(one.token) is None
    assert (await changes(history)).used_bytes == 0
    with pytest.raises(NotFound):
        await history.share("owner", "c_1", None, QUOTA)


async def test_a_link_must_fit_into_the_quota(history: ChatHistory) -> None:
    await save(history, question(text="x" * 1000))
    used = (await changes(history)).used_bytes
    with pytest.raises(HistoryFull):
        await history.share("owner", "c_1", None, used + 900)
    assert await history.shares("owner") == []
