"""Notes, search and sort in the list of keys, and many keys from a pasted list."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import expect
from support.browsing.axe import violations
from support.browsing.browser import visiting
from support.browsing.owner_pages import sign_in
from support.builders.rows import a_key
from support.front_door import Door
from support.visitors import Browser

SECRET = re.compile(r"roxy_[0-9A-Za-z]{38}")


async def names(door: Door) -> list[str]:
    """Return the names of all keys."""
    return [key.name for key in await door.gateway.services.keys.list()]


def listed(page: str) -> list[str]:
    """Return the names in the list, in their order."""
    return re.findall(r'class="clip" href="/keys/key_[^"]*"\s+title="([^"]*)"', page)


async def test_a_note_is_searched_and_seen_by_the_owner_alone(door: Door, owner: Browser) -> None:
    made = await door.mint_key("ci", note="belongs to Ada")
    await door.mint_key("app")
    assert listed((await owner.open("/keys?search=ADA")).text) == ["ci"]
    own = await door.get("/api/v1/key", made["key"])
    assert "belongs to Ada" not in own.text
    answer = await owner.submit(f"/keys/{made['id']}", name="ci", note="on loan\r\nto Grace")
    assert answer.status_code == 303
    assert (await door.gateway.services.keys.get(made["id"])).note == "on loan\nto Grace"
    for note, problem in (("x" * 1001, "Enter up to 1,000"), ("bell \x07", "Enter up to 1,000")):
        answer = await owner.submit(f"/keys/{made['id']}", name="ci", note=note)
        assert answer.status_code == 400 and problem in answer.text


async def test_the_list_is_sorted_by_its_headings(door: Door, owner: Browser) -> None:
    keys = [
        a_key(1, name="beta", last_used_at=10),
        a_key(2, name="Alpha", last_used_at=30),
        a_key(3, name="gamma"),
    ]
    await door.gateway.services.store.add_keys(keys)
    for sort, order in (
        ("newest", ["gamma", "Alpha", "beta"]),
        ("name", ["Alpha", "beta", "gamma"]),
        ("used", ["Alpha", "beta", "gamma"]),
        ("unused", ["gamma", "beta", "Alpha"]),
    ):
        page = await owner.open(f"/keys?sort={sort}")
        assert listed(page.text) == order, sort
        assert page.text.count("aria-sort=") == 1
    assert "/keys?sort=name-down" in (await owner.open("/keys?sort=name")).text
    assert (await owner.open("/keys?sort=cost")).status_code == 400


async def test_many_keys_are_created_after_a_preview_all_or_none(
    door: Door, owner: Browser
) -> None:
    await door.mint_key("Ada")
    rules = {"makes": "secrets", "requests_per_minute": "7", "models": "shown"}
    pasted = "Ada\nGrace\tCompilers\n\n  Alan \ngrace\n" + "n" * 101
    pasted += '\n"Doe, Jane",Chemistry'
    preview = await owner.submit("/keys/many", None, names=pasted, **rules)
    assert preview.status_code == 200
    for said in (
        "A key with this name exists", "Already in this list", "ust have 1 to 100", "3 names ready",
        "<bdi>Doe, Jane</bdi>", 'title="Chemistry"', "Doe, Jane&quot;\tChemistry"
    ):  # fmt: skip
        assert said in preview.text, said
    assert await names(door) == ["Ada"], "a preview creates nothing"
    picks = {"pick:1": "Grace\tCompilers", "pick:2": "Alan"}
    bad = await owner.submit(
        "/keys/many", None, confirmed="yes", **rules, **picks, **{"pick:5": "n" * 101}
    )
    assert bad.status_code == 200 and await names(door) == ["Ada"], "all or none"
    made = await owner.submit("/keys/many", None, confirmed="yes", **rules, **picks)
    assert made.status_code == 201
    secrets = list(dict.fromkeys(SECRET.findall(made.text)))
    assert len(secrets) == 2
    assert sorted(await names(door)) == ["Ada", "Alan", "Grace"]
    grace = next(key for key in await door.gateway.services.keys.list() if key.name == "Grace")
    assert (grace.note, grace.limits.requests_per_minute) == ("Compilers", 7)
    assert (await door.chat(key=secrets[0])).status_code == 200


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"names": " \n"}, "Enter at least one name."),
        ({"names": "a\n" * 501}, "Enter up to 500 names at a time."),
        ({"names": "a", "budget": "many"}, "Enter dollars above zero"),
        ({"names": "a", "makes": "coffee"}, "Choose what to make."),
        ({"names": "a", "confirmed": "yes"}, "Tick at least one name in the preview."),
    ],
)
async def test_a_list_that_cannot_be_used_keeps_what_was_typed(
    door: Door, owner: Browser, fields: dict[str, str], problem: str
) -> None:
    answer = await owner.submit("/keys/many", None, **({"makes": "secrets"} | fields))
    assert answer.status_code == 400 and problem in answer.text
    assert await names(door) == []


async def test_a_list_becomes_invitations_and_a_csv(
    chromium: Chromium, door: Door, tmp_path: Path
) -> None:
    async with visiting(chromium, door) as page:
        await sign_in(page, "/keys/many")
        await page.get_by_label("Names").press_sequentially("Ada\n=1+1\nAda")
        await page.get_by_role("radio", name="Invitations").check()
        await page.get_by_role("button", name="Preview").click()
        await expect(page.get_by_text("2 names ready, 1 name to check")).to_be_visible()
        assert await violations(page) == []
        await page.get_by_role("button", name="Change the list").click()
        await expect(page.get_by_label("Names")).to_have_value("Ada\n=1+1\nAda")
        await page.get_by_role("button", name="Preview").click()
        await page.get_by_role("button", name="Create the ticked keys").click()
        await expect(page.get_by_role("heading", name="2 invitations created")).to_be_visible()
        assert await violations(page) == []
        await page.get_by_role("link", name="Done").click()
        await expect(page.get_by_role("alert")).to_contain_text("not saved the list yet")
        async with page.expect_download() as coming:
            await page.get_by_role("button", name="Save as CSV").click()
        file = tmp_path / "keys.csv"
        await (await coming.value).save_as(file)
        rows = list(csv.reader(io.StringIO(file.read_text("utf-8-sig"))))
        assert rows[0] == ["Name", "Invitation", "Note", "Id"]
        assert [row[0] for row in rows[1:]] == ["Ada", "'=1+1"]
        assert all(row[1].startswith(f"{door.url}/invite/") for row in rows[1:])
        await page.get_by_role("link", name="Done").click()
        await page.get_by_role("link", name="Ada", exact=True).click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("link", name="Create another").click()
        await expect(dialog.get_by_role("heading", name="New key")).to_be_visible()
