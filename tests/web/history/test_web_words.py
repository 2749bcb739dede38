"""No word is lost when two devices edit, delete and erase the same, one of them offline."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Response, expect
from support.browsing.browser import open_chat, say, tab
from support.browsing.chat_page import (
    answers,
    edit_answer,
    entries,
    more,
    numbered,
    stop_button,
    talk,
    text_of_answer,
)
from support.browsing.chatting import chatting
from support.browsing.devices import come_back, leave_network, two_devices
from support.browsing.page_waiting import becomes, hold_timers, stores
from support.browsing.signing_in import enter_key, sign_out
from support.fakes.upstream import USAGE, Pause, chunk, event, events_of, streaming
from support.front_door import bearer

from webui.shell.assets import packaged_assets

SETTINGS = "Control+Shift+Comma"
AWAY = ("ERR_FAILED", "ERR_INTERNET_DISCONNECTED", "409", "410")


async def delete_answer(page: Page, place: int) -> None:
    """Delete an answer, the last one."""
    await answers(page).nth(place).get_by_role("button", name="More").click()
    await page.get_by_role("menuitem", name="Delete", exact=True).click()
    await expect(answers(page)).to_have_count(place)


async def rename(page: Page, title: str) -> None:
    """Rename the only chat."""
    await more(page, await entries(page).get_by_role("link").inner_text(), "Rename")
    await page.get_by_role("textbox", name="New title").press_sequentially(title)
    await page.keyboard.press("Enter")
    await expect(entries(page)).to_have_text([title])


async def instruct(page: Page, words: str) -> None:
    """Type a system prompt for the open chat."""
    await page.keyboard.press(SETTINGS)
    await page.get_by_label("System prompt").press_sequentially(words)
    await page.get_by_role("button", name="Done").click()


def saved(page: Page, words: str) -> AbstractAsyncContextManager[object]:
    """Return what waits until a page has saved a change with these words."""

    def is_saved(one: Response) -> bool:
        sent = one.request.post_data or ""
        return "/history/conversations/" in one.url and words in sent and one.ok

    return page.expect_response(is_saved)


async def test_an_edit_outlives_a_removal_that_did_not_know_it(
    chromium: Browser, tmp_path: Path
) -> None:
    async with two_devices(chromium, tmp_path, expected=AWAY) as (upstream, door, one, other, key):
        upstream.plan(*numbered())
        await talk(one, "about apples", "and pears")
        await entries(other).get_by_role("link", name="about apples").click()
        await expect(text_of_answer(other)).to_have_text(["Answer 1.", "Answer 2."])
        # Removed first, then the edit arrives.
        await leave_network(one)
        await edit_answer(one, 1, " Edited.")
        async with saved(other, '"remove":[{"id"'):
            await delete_answer(other, 1)
        await come_back(one)
        for page in (other, one):
            await expect(text_of_answer(page)).to_have_text(["Answer 1.", "Answer 2. Edited."])
        # Edited first, then the removal arrives.
        await leave_network(other)
        await delete_answer(other, 1)
        async with saved(one, "Again."):
            await edit_answer(one, 1, " Again.")
        await come_back(other)
        for page in (other, one):
            await expect(text_of_answer(page)).to_have_text(
                ["Answer 1.", "Answer 2. Edited. Again."]
            )
        # Renamed and given a system prompt on both: no word is replaced without a question.
        await leave_network(one)
        await rename(one, "Ones")
        await instruct(one, "Be brief.")
        async with saved(other, '"title":"Others"'):
            await rename(other, "Others")
        async with saved(other, "Be kind."):
            await instruct(other, "Be kind.")
        await come_back(one)
        alert = one.get_by_role("alert")
        await expect(alert).to_contain_text("“Ones”. Another device has named it “Others”")
        await alert.get_by_role("button", name="Use my name").click()
        for page in (other, one):
            await expect(entries(page)).to_have_text(["Ones"])
        await one.keyboard.press(SETTINGS)
        await expect(one.get_by_label("System prompt")).to_have_value("Be kind.\n\nBe brief.")
        await one.get_by_role("button", name="Done").click()
        await rename(one, "about apples")
        # Erased for good, then the edit arrives: in a copy.
        await leave_network(one)
        await edit_answer(one, 0, " Mine.")
        identity = one.url.rpartition("/")[2]
        path = f"/api/v1/history/conversations/{identity}"
        assert (await door.client.delete(path, headers=bearer(key))).json() == {"erased": 1}
        await expect(entries(other)).to_have_count(0)
        await come_back(one)
        await expect(one.get_by_role("alert")).to_contain_text("deleted on another device")
        await entries(other).get_by_role("link", name="about apples").click()
        kept = ["Answer 1. Mine.", "Answer 2. Edited. Again."]
        await expect(text_of_answer(other)).to_have_text(kept)
        await entries(one).get_by_role("link", name="about apples").click()
        await expect(text_of_answer(one)).to_have_text(kept)


async def test_undo_leaves_what_another_device_has_made_of_it_meanwhile(
    chromium: Browser, tmp_path: Path
) -> None:
    async with two_devices(chromium, tmp_path, expected=AWAY) as (upstream, _, one, other, _):
        upstream.plan(*numbered())
        await talk(one, "about apples", "and pears")
        await entries(other).get_by_role("link", name="about apples").click()
        await expect(text_of_answer(other)).to_have_text(["Answer 1.", "Answer 2."])
        await leave_network(other)
        await edit_answer(other, 1, " Theirs.")
        async with saved(one, "Answer 2. Mine."):
            await edit_answer(one, 1, " Mine.")
        async with saved(one, '"remove"'):
            await delete_answer(one, 1)
        await come_back(other)
        await expect(text_of_answer(one)).to_have_text(["Answer 1.", "Answer 2. Theirs."])
        async with saved(one, "Answer 2. Mine."):
            await one.get_by_role("button", name="Undo").click()
        for page in (one, other):
            versions = answers(page).nth(1).locator(".versions")
            await expect(versions).to_contain_text("2")
            await page.reload()
            await expect(versions).to_contain_text("2")
        shown = {await text_of_answer(one).nth(1).inner_text()}
        await answers(one).nth(1).locator(".versions button:enabled").first.click()
        shown.add(await text_of_answer(one).nth(1).inner_text())
        assert shown == {"Answer 2. Mine.", "Answer 2. Theirs."}


async def test_a_chat_is_not_erased_with_words_that_came_after_its_deletion(
    chromium: Browser, tmp_path: Path
) -> None:
    async with two_devices(chromium, tmp_path, expected=AWAY) as (upstream, _, one, other, _):
        upstream.plan(*numbered())
        await talk(one, "about apples")
        await expect(entries(other)).to_have_text(["about apples"])
        await other.clock.install()
        await leave_network(other)
        await more(other, "about apples", "Delete")
        await expect(entries(other)).to_have_count(0)
        await other.clock.fast_forward(20_000)
        await expect(other.get_by_role("button", name="Undo")).to_have_count(0)
        async with saved(one, "Answer 2."):
            await talk(one, "and pears")
        await come_back(other)
        await other.clock.fast_forward(5_000)
        await expect(other.get_by_role("alert")).to_contain_text("“about apples” was changed")
        await entries(other).get_by_role("link", name="about apples").click()
        await expect(text_of_answer(other)).to_have_text(["Answer 1.", "Answer 2."])
        await expect(text_of_answer(one)).to_have_text(["Answer 1.", "Answer 2."])
        # Deleted without the network, which is back while it can be undone.
        await leave_network(other)
        async with saved(one, "Answer 3."):
            await talk(one, "and plums")
        await more(other, "about apples", "Delete")
        await expect(entries(other)).to_have_count(0)
        undo = other.get_by_role("button", name="Undo")
        await expect(undo).to_be_visible()
        await come_back(other)
        await other.clock.fast_forward(5_000)
        await expect(entries(other)).to_have_text(["about apples"])
        await expect(undo).to_have_count(0)
        await expect(other.get_by_role("alert")).to_contain_text("“about apples” was changed")
        await other.clock.fast_forward(20_000)
        await entries(other).get_by_role("link", name="about apples").click()
        await expect(text_of_answer(other)).to_have_text(["Answer 1.", "Answer 2.", "Answer 3."])


ORPHAN = """() => new Promise((resolve, reject) => {
  const request = indexedDB.open("roxy");
  request.onerror = reject;
  request.onsuccess = () => {
    const change = request.result.transaction("messages", "readwrite");
    change.objectStore("messages").put({
      id: "m_left", conversation: "c_gone", parent: "m_gone", role: "assistant", model: "",
      text: "Left behind.", job: "", seq: 1, state: "done", created: 1700000000000, reasoning: "",
    });
    change.oncomplete = () => { request.result.close(); resolve(); };
  };
})"""
LEFT = """() => new Promise((resolve) => {
  const request = indexedDB.open("roxy");
  request.onsuccess = () => {
    const db = request.result;
    const all = db.transaction("messages").objectStore("messages").getAll();
    all.onsuccess = () => { db.close(); resolve(all.result); };
  };
})"""
SAVE_MS = 1000
"""How long a page waits before it stores what has come of an answer."""


@pytest.mark.parametrize("moved", ["Begun", ""], ids=["stored", "not stored yet"])
async def test_what_a_guest_tab_writes_in_a_moved_chat_follows_it(
    chromium: Browser, tmp_path: Path, moved: str
) -> None:
    async with chatting(chromium, tmp_path, expected=("401",)) as (upstream, door, guest):
        begin, go = asyncio.Event(), asyncio.Event()
        rest = events_of([" and done."], usage=USAGE)
        pieces: list[bytes | Pause] = [event(chunk({"role": "assistant", "content": ""}))]
        pieces += [Pause(begin), event(chunk("Begun")), Pause(go), *rest]
        upstream.plan(streaming(pieces))
        await open_chat(guest)
        if not moved:
            await hold_timers(guest, SAVE_MS)
        await say(guest, "about apples")
        await becomes(guest, f"async () => (await ({LEFT})()).some((one) => one.accepted)")
        begin.set()
        await expect(text_of_answer(guest)).to_have_text(["Begun"])
        await expect(stop_button(guest)).to_be_visible()
        if moved:
            await stores(guest, moved)
        async with tab(guest.context, door) as signed_in:
            await signed_in.goto("/login?next=/")
            await enter_key(signed_in, await door.mint("Ada"))
            await signed_in.get_by_role("button", name="Move it").click()
            await entries(signed_in).get_by_role("link", name="about apples").click()
            await expect(text_of_answer(signed_in)).to_have_text([moved])
            go.set()
            for page in (guest, signed_in):
                await expect(text_of_answer(page)).to_have_text(["Begun and done."])
            await edit_answer(guest, 0, " Mine.")
            for page in (signed_in, guest):
                await expect(text_of_answer(page)).to_have_text(["Begun and done. Mine."])
            await becomes(signed_in, f"async () => !(await ({LEFT})()).length")
            await signed_in.evaluate(ORPHAN)
            await sign_out(signed_in)
            await entries(signed_in).get_by_role("link", name="Left behind.").click()
            await expect(text_of_answer(signed_in)).to_have_text(["Left behind."])


MODULES = """async (build) => {
  const at = (name) => import(`/static/${build}/js/chat/${name}.js`);
  const [{ merged, nothing, Outbox }, { rooted }, { inParts }, { Database }] = await Promise.all(
    ["history/outbox", "history/rooted", "history/upload", "state/store"].map(at));
  const { joinTexts, keepEdited } = await at("state/records");
  const { joinSettings } = await at("history/server_settings");
  const prompt = (name, text) => ({ name, text });
  const seen = prompt("N", "t");
  const settings = [
    ["prompt-1", prompt("N", "theirs"), prompt("N", "mine"), seen],
    ["prompt-1", prompt("Theirs", "t"), prompt("N", "mine"), seen],
    ["prompt-1", null, prompt("N", "mine"), seen],
    ["prompt-1", prompt("N", "theirs"), null, seen],
    ["prompt-1", prompt("N", "theirs"), seen, seen],
    ["instructions", "theirs", "mine", ""],
    ["enter", "send", "newline", "auto"],
  ].map((one) => joinSettings(...one));
  const unsent = (changes) => ({ ...nothing("c"), ...changes });
  const text = (id, text = "") => ({ role: "user", id, parent: null, text });
  const whole = { role: "assistant", id: "a", job: "j", seq: 3, state: "done" };
  const answer = (more) => ({ ...whole, ...more });
  const kept = (copy, before) => {
    const made = answer({ text: "as read", stats: 7, ...copy });
    keepEdited(made, answer({ text: "mine", edited: true, stats: null, ...before }));
    return [made.text, made.stats];
  };
  const first = unsent({ messages: { m: text("m", "1"), n: text("n") }, bases: { m: 4 } });
  const again = merged(first, unsent({ messages: { m: text("m", "2") }, bases: { m: 5 } }));
  const removed = merged(again, unsent({ remove: { m: { base: 5, seq: 0 } } }));
  const undone = merged(removed, unsent({ messages: { m: text("m", "3") } }));
  const erased = merged(undone, unsent({ erase: true, version: 8 }));
  const deleted = merged(first, unsent({ set: { deleted: 1 }, version: 6 }));
  const old = { conversation: "c", set: {}, draft: null, messages: {}, remove: ["m"], files: [] };
  const records = [{ id: "outbox:t1:c", value: old }];
  const outbox = new Outbox({ all: async () => records, putAll() {}, remove() {} }, "t2");
  await outbox.adopt(new Set());
  const tree = { a: null, b: "a", c: "gone", d: "e", e: "d", f: "e", g: "g" };
  const cut = rooted(Object.entries(tree).map(([id, parent]) => ({ id, parent })));
  const chat = { id: "c", title: "T", system: "", choices: { root: "a" }, draft: null };
  const [one, other, memory] = ["tabs", "tabs", "memory"].map((name) => new Database(name));
  await memory.close();
  const written = [];
  for (const [here, there] of [[one, other], [memory, memory]]) {
    const edit = answer({ text: "mine", edited: true });
    await here.putAll({ conversations: [chat], messages: [answer({ text: "as read" })] });
    await there.putAll({ messages: [edit] });
    await there.change("c", { title: "Theirs", choices: { root: "a", a: "b" } });
    await here.putAll({ messages: [answer({ text: "as read", stats: 7 })] });
    const now = { ...chat, system: "Mine", choices: { root: "c" } };
    await here.putAll({ conversations: [now], seen: [chat] });
    await here.putAll({ conversations: [now], seen: [now] });
    const stored = await there.find("messages", "a");
    written.push([await there.find("conversations", "c"), stored.text, stored.stats]);
  }
  return {
    written,
    again: [again.bases, again.messages.m.text],
    removed: [Object.keys(removed.messages), removed.remove],
    undone: [undone.bases, Object.keys(undone.remove)],
    erased: [erased.version, Object.keys(erased.messages)],
    joined: [["X", "a"], ["X", "X a"], ["X\\n\\na", "ab", "a"], ["a", "ab", "a"], ["X", ""],
      ["", "a"]].map((texts) => joinTexts(...texts)),
    settings: settings.map(({ value, second }) => [value, second ?? null].map((one) =>
      one?.name ? [one.name, one.text] : one)),
    was: merged(unsent({ was: { title: "1" } }), unsent({ was: { title: "2", system: "3" } })).was,
    deleted: [merged(deleted, undone).version, inParts(deleted)[0].deleted_base],
    adopted: outbox.of("c").remove,
    roots: cut.filter((one) => !one.parent).map(({ id }) => id),
    kept: [{}, { state: "interrupted" }, { job: "x" }, { seq: 2 }].map((one) => kept({}, one)),
  };
}"""


TYPISTS = """async ([build, texts, seeds]) => {
  const { joinTexts } = await import(`/static/${build}/js/chat/state/records.js`);
  const faults = [];
  for (let seed = 1; seed <= seeds; seed += 1) {
    let state = seed;
    const random = (below) => {
      state = (state * 1664525 + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const server = { text: "", version: 0 };
    const made = (_, number) => ({
      whole: `${texts[random(texts.length)]} ${number}`,
      box: "", boxed: null, draft: "", seen: "", version: 0,
    });
    const devices = Array.from({ length: 2 + random(2) }, made);
    const save = (one) => {
      one.draft = joinTexts(one.draft, one.box, one.boxed ?? one.draft);
      one.boxed = one.draft === one.box ? null : one.box;
    };
    const sync = (one) => {
      if (one.draft !== one.seen && one.version === server.version) {
        Object.assign(server, { text: one.draft, version: server.version + 1 });
      } else if (one.version !== server.version) {
        one.boxed ??= one.draft;
        const isMine = one.draft !== one.seen;
        one.draft = isMine ? joinTexts(server.text, one.draft, one.seen) : server.text;
      }
      Object.assign(one, { seen: server.text, version: server.version });
    };
    while (devices.some(({ box, whole }) => box !== whole)) {
      const one = devices[random(devices.length)];
      one.box = one.whole.slice(0, one.box.length + 1 + random(3));
      if (random(3)) save(one);
      if (random(2)) sync(one);
    }
    for (let round = 0; round < 8; round += 1)
      for (const one of devices) { save(one); sync(one); }
    const [{ draft }] = devices;
    const isWhole = ({ whole }) => draft.split(whole).length === 2;
    const areAlike = devices.every((one) => one.draft === draft);
    if (!areAlike || !devices.every(isWhole))
      faults.push([seed, ...devices.map((one) => one.draft)]);
  }
  return faults;
}"""
"""Type texts on two or three devices at once, in random orders, each in its own box. Returns where
a text is not whole and once in the draft at the end, or the drafts differ."""
TEXTS = [
    "Please write the report",
    "Oh and buy some milk",
    "Hello",
    "Hello there",
    "I",
    "I think so",
]


async def test_changes_are_joined_with_the_versions_that_they_were_made_from(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path) as (_, _, page):
        await open_chat(page)
        found = await page.evaluate(MODULES, packaged_assets().build)
        record = {"id": "c", "title": "Theirs", "system": "Mine", "draft": None}
        both = [record | {"choices": {"root": "c", "a": "b"}}, "mine", 7]
        assert found == {
            "written": [both, both],
            "again": [{"m": 4, "n": None}, "2"],
            "removed": [["n"], {"m": {"base": 5, "seq": 0}}],
            "undone": [{"m": None, "n": None}, []],
            "erased": [8, []],
            "joined": ["X\n\na", "X a", "X\n\nab", "ab", "X", "a"],
            "settings": [
                [["N", "theirs"], ["N (2)", "mine"]],
                [["Theirs", "mine"], None],
                [["N", "mine"], None],
                [["N", "theirs"], None],
                [["N", "theirs"], None],
                ["theirs\n\nmine", None],
                ["newline", None],
            ],
            "was": {"title": "1", "system": "3"},
            "deleted": [6, 6],
            "adopted": {"m": {"base": None, "seq": 0}},
            "roots": ["a", "c", "d", "g"],
            "kept": [["mine", 7], ["as read", 7], ["as read", 7], ["as read", 7]],
        }
        build = packaged_assets().build
        assert await page.evaluate(TYPISTS, [build, TEXTS, 500]) == []
