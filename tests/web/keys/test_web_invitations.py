"""Invitations: a link that signs in once, listed, revocable, and unharmed by link previews."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import Dialog as Question
from playwright.async_api import expect
from support.browsing.browser import visiting
from support.browsing.clipboard import copied
from support.browsing.owner_pages import sign_in
from support.front_door import OWNER, Door, bearer, front_door
from support.visitors import Browser

from server.keys.key_requests import INVITATION_S

LINK = re.compile(r"http://[\w.:]+(/invite/[\w-]+)")
SECRET = re.compile(r"roxy_[0-9A-Za-z]{38}")


def today() -> str:
    day = datetime.now(UTC)
    return f"{day.day} {day:%b %Y}"


async def invited(owner: Browser, key_id: str, gives: str = "key") -> str:
    """Make an invitation with the form and give the path of its link."""
    answer = await owner.submit(f"/keys/{key_id}/invite", days="7", gives=gives)
    assert answer.status_code == 201, answer.text
    assert "works only on this computer" in answer.text, "it begins with 127.0.0.1"
    found = LINK.search(answer.text)
    assert found is not None
    return found[1]


async def test_a_link_signs_in_once_and_shows_a_new_secret(door: Door, owner: Browser) -> None:
    made = await door.mint_key("Ada")
    path = await invited(owner, made["id"])
    stored = await door.gateway.services.store.list_invitations()
    assert path.encode() not in repr(stored).encode()
    person = Browser(door)
    for _ in range(3):  # as the link preview of a chat program does
        page = await person.open(path)
        assert page.status_code == 200 and "Ada" in page.text
        assert not SECRET.search(page.text)
        assert page.headers["referrer-policy"] == "no-referrer"
    answer = await person.submit(path)
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    secret = SECRET.findall(answer.text)[0]
    assert f"OPENAI_BASE_URL={door.url}/api/v1" in answer.text
    assert (await door.chat(key=secret)).status_code == 200
    assert (await door.chat(key=made["key"])).status_code == 401, "the old secret has ended"
    assert 'title="Ada"' in (await person.open("/")).text
    again = Browser(door)
    for answer in (await again.open(path), await again.submit(path)):
        assert answer.status_code == 404
        assert "no longer valid" in answer.text
    assert f"Used {today()}" in (await owner.open("/keys/invitations")).text


async def test_a_disabled_key_gets_no_invitation(door: Door, owner: Browser) -> None:
    made = await door.mint_key("Ada")
    change = {"status": "disabled"}
    path = f"/api/v1/keys/{made['id']}"
    await door.client.patch(path, json=change, headers=bearer(OWNER))
    answer = await owner.submit(f"/keys/{made['id']}/invite", days="7", gives="key")
    assert answer.status_code == 409
    assert "Enable the key first" in answer.text


async def test_a_sign_in_alone_leaves_the_secret_as_it_is(door: Door, owner: Browser) -> None:
    made = await door.mint_key("Ada")
    path = await invited(owner, made["id"], gives="session")
    person = Browser(door)
    await person.open(path)
    answer = await person.submit(path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert 'title="Ada"' in (await person.open("/")).text
    assert (await door.chat(key=made["key"])).status_code == 200


async def test_a_revoked_one_an_expired_one_and_one_of_a_disabled_key_do_not_sign_in(
    door: Door, owner: Browser
) -> None:
    services = door.gateway.services
    made = await door.mint_key("Ada")
    revoked = await invited(owner, made["id"])
    (row,) = await services.store.list_invitations()
    await owner.submit(f"/keys/invitations/{row.id}/revoke")
    (old,) = await services.invitations.invite([made["id"]], lasts_s=-1, gives_key=True)
    disabled = await invited(owner, made["id"])
    await owner.submit(f"/keys/{made['id']}/disable")
    person = Browser(door)
    for path in (revoked, f"/invite/{old.token}", disabled, "/invite/no-such-token"):
        for answer in (await person.open(path), await person.submit(path)):
            assert answer.status_code == 404, path
    listed = (await owner.open("/keys/invitations")).text
    assert f"Revoked {today()}" in listed and "Expired" in listed
    assert "Cannot be used: the key is disabled" in listed
    assert (await door.chat(key=made["key"])).status_code == 401, "disabled"
    await owner.submit(f"/keys/{made['id']}/enable")
    assert (await door.chat(key=made["key"])).status_code == 200, "no secret was replaced"


async def test_the_form_refuses_what_is_no_choice(door: Door, owner: Browser) -> None:
    made = await door.mint_key("Ada")
    path = f"/keys/{made['id']}/invite"
    answer = await owner.submit(path, days="9000", gives="all")
    assert answer.status_code == 400
    assert "Choose how long the link works." in answer.text
    assert "Choose what the link gives." in answer.text
    assert not await door.gateway.services.store.list_invitations()
    assert (await Browser(door).submit(path, days="7", gives="key")).status_code in (401, 403)


async def test_the_token_is_not_in_the_access_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with front_door(tmp_path) as door:
        owner = Browser(door)
        await owner.sign_in(OWNER)
        path = await invited(owner, (await door.mint_key("Ada"))["id"])
        await Browser(door).open(path)
    written = capsys.readouterr()  # all of the log is written by the end of the gateway
    assert " 200 GET /invite/" in written.out
    assert path.rpartition("/")[2] not in written.out + written.err
    assert INVITATION_S == 7 * 24 * 3600


async def test_create_and_invite_then_continue_in_another_browser(
    chromium: Chromium, door: Door
) -> None:
    async with visiting(chromium, door, permissions=["clipboard-read", "clipboard-write"]) as page:
        await sign_in(page, "/keys")
        await page.get_by_role("link", name="Create a key").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Name", exact=True).press_sequentially("Grace")
        await dialog.get_by_label("Note").press_sequentially("Compiler team")
        await dialog.get_by_role("button", name="Create and invite").click()
        await expect(dialog).to_contain_text("Invitation for Grace")
        await dialog.get_by_role("button", name="Copy").first.click()
        sent = await copied(page, f"{door.url}/api/v1")
        assert f"{door.url}/docs" in sent
        assert not SECRET.search(await dialog.inner_text())
        await dialog.get_by_role("link", name="Done").click()
        row = page.get_by_role("row").filter(has_text="Grace")
        await expect(row).to_contain_text("Compiler team")
        async with visiting(chromium, door, permissions=["clipboard-write"]) as other:
            found = LINK.search(sent)
            assert found is not None
            await other.clock.install()
            await other.goto(found[1])
            await other.get_by_role("button", name="Continue").click()
            await expect(other.get_by_role("heading", name="Welcome, Grace")).to_be_visible()
            secret = await other.get_by_role("group", name="Your key").inner_text()
            assert SECRET.fullmatch(secret)
            await other.get_by_role("button", name="Sign out").click()
            await expect(other.get_by_role("alert")).to_contain_text("not copied the key yet")
            await expect(other.get_by_role("button", name="Copy").first).to_be_focused()
            await expect(other.get_by_role("group", name="Your key")).to_have_text(secret)
            await other.clock.pause_at("2100-01-01")  # the label stays until the clock goes on
            await other.keyboard.press("Enter")
            await expect(other.get_by_role("button", name="Copied")).to_be_visible()
            await other.clock.resume()
            await other.get_by_role("button", name="Sign out").click()
            await expect(
                other.get_by_role("banner").get_by_role("link", name="Sign in")
            ).to_be_visible()
            await other.goto("/login")
            await other.get_by_label("Key", exact=True).fill(secret)
            await other.keyboard.press("Enter")
            await expect(other.get_by_title("Grace", exact=True)).to_be_visible()


async def test_a_link_that_was_not_copied_and_a_key_are_not_left_without_a_question(
    chromium: Chromium, door: Door
) -> None:
    made = await door.mint_key("Ada")
    async with visiting(chromium, door) as page:
        await sign_in(page, "/keys")
        await page.get_by_role("link", name="Invite with Ada").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("radio", name="Sign-in and the key").check()
        await dialog.get_by_role("button", name="Create link").click()
        await expect(dialog).to_contain_text("Invitation for Ada")
        await dialog.get_by_role("link", name="Create another key like this").click()
        await expect(dialog.get_by_role("alert")).to_contain_text("not copied the link yet")
        link = await dialog.get_by_role("group", name="Link", exact=True).inner_text()
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()
        await page.goto(link)
        await page.get_by_role("button", name="Continue").click()
        await expect(page.get_by_role("heading", name="Welcome, Ada")).to_be_visible()
        asked = asyncio.Future[str]()

        async def stay(question: Question) -> None:
            await question.dismiss()
            asked.set_result(question.type)

        page.once("dialog", stay)
        await page.evaluate("() => { location.reload(); }")
        assert await asked == "beforeunload"
        await page.get_by_role("link", name="Start chatting").click()
        await expect(page.get_by_role("alert")).to_contain_text("not copied the key yet")
        secret = await page.get_by_role("group", name="Your key").inner_text()
        await page.get_by_role("link", name="Start chatting").click()
        await expect(page.get_by_role("textbox", name="Message")).to_be_visible()
        assert (await door.chat(key=secret)).status_code == 200
        assert (await door.chat(key=made["key"])).status_code == 401
