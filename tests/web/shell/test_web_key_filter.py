"""The filter by key where there are too many keys for a list: it finds what is typed."""

from __future__ import annotations

import html
import re
import time
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, expect
from support.browsing.axe import violations
from support.browsing.browser import visiting
from support.browsing.owner_pages import sign_in
from support.builders.rows import a_key, a_row
from support.front_door import Door

from server.store.rows import Batch
from webui.shell.filters import MAX_OPTIONS

KEYS = [
    *(a_key(number, name=f"customer {number}") for number in range(MAX_OPTIONS)),
    a_key(1001, name="twin", redacted="roxy_aaaa…1111"),
    a_key(1002, name="twin", redacted="roxy_bbbb…2222"),
    a_key(1003, name="<b>bold</b>", redacted="roxy_cccc…3333"),
]
PATHS = ("/requests", "/usage")


@pytest.fixture
async def many(door: Door) -> Door:
    store, now = door.gateway.services.store, time.time()
    await store.add_keys(KEYS)
    await store.record(Batch([a_row(n, at=now, key_id=key.id) for n, key in enumerate(KEYS)]))
    return door


async def test_few_keys_are_a_list(door: Door) -> None:
    await door.gateway.services.store.add_keys(KEYS[:MAX_OPTIONS])
    for path in PATHS:
        text = (await door.get(path)).text
        assert text.count('<option value="key_') == MAX_OPTIONS
        assert "data-complete" not in text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("customer 42", 42),
        ("customer 1", 1),
        ("CUSTOMER 99", 99),
        ("twin · roxy_bbbb…2222", 1002),
        ("roxy_aaaa...1111", 1001),
        ("1111", 1001),
        ("<b>", 1003),
        (a_key(1001).id[-6:], 1001),
    ],
)
async def test_a_text_that_means_one_key_leads_to_its_page(
    many: Door, path: str, typed: str, found: int
) -> None:
    answer = await many.get(f"{path}?model=zai/glm-4.5&key={quote(typed)}")
    assert answer.status_code == 303
    place = answer.headers["location"]
    assert f"key={a_key(found).id}" in place and "model=zai%2Fglm-4.5" in place
    shown = await many.get(place)
    assert shown.status_code == 200
    assert '<option value="key_' not in shown.text
    key = next(key for key in KEYS if key.id == a_key(found).id)
    assert f'value="{html.escape(key.name)} · {key.redacted}"' in shown.text


@pytest.mark.parametrize("path", PATHS)
async def test_a_text_that_means_several_keys_offers_them(many: Door, path: str) -> None:
    answer = await many.get(f"{path}?key=twin")
    assert answer.status_code == 200
    links = re.findall(rf'href="({path}\?key=key_[^"]*)"', answer.text)
    assert links == [f"{path}?key={a_key(n).id}" for n in (1002, 1001)], "the newest first"
    lots = await many.get(f"{path}?key=customer")
    assert len(re.findall(r'key=key_[^"]*"', lots.text)) == 20
    assert "Only the newest 20 are listed" in lots.text


@pytest.mark.parametrize("path", PATHS)
async def test_owner_and_guests_are_found_by_their_names(many: Door, path: str) -> None:
    for typed, key_id, name in (("Owner", "owner", "Owner"), ("guests", "guest", "Guests")):
        answer = await many.get(f"{path}?key={typed}")
        assert answer.headers["location"] == f"{path}?key={key_id}"
        assert f'value="{name}"' in (await many.get(f"{path}?key={key_id}")).text


async def test_a_key_that_is_called_owner_is_told_from_the_owner(door: Door) -> None:
    made = await door.mint_key("Owner")
    await door.chat(key=made["key"])
    await door.chat()
    await door.usage_rows(2)
    for path in ("/usage?by=key", "/requests"):
        text = (await door.get(path)).text
        assert f"Owner ({made['redacted']})" in text and ">Owner<" in text


@pytest.mark.parametrize("path", PATHS)
async def test_a_text_that_means_no_key_is_a_400(many: Door, path: str) -> None:
    answer = await many.get(f"{path}?key=nobody")
    assert answer.status_code == 400
    assert "There is no key with this id, name or redacted secret" in answer.text


async def test_no_page_grows_with_the_keys(many: Door) -> None:
    wide = [a_key(n, name="\N{GRINNING FACE}" * 100) for n in range(2000, 2400)]
    store, now = many.gateway.services.store, time.time()
    await store.add_keys(wide)
    rows = [
        a_row(n, at=now - n % 30 * 86_400, key_id=key.id, model=f"model/{n % 12}")
        for n, key in enumerate(wide)
    ]
    await store.record(Batch(rows))
    for path in (
        "/requests",
        "/usage?by=key",
        "/usage?days=90&by=key&metric=cost",
        "/usage?by=day",
    ):
        answer = await many.get(path)
        assert answer.status_code == 200
        assert len(answer.content) < 300_000, path
    by_key = (await many.get("/usage?by=key")).text
    assert "Only 100 are listed" in by_key
    assert by_key.count("0.2 %</meter> 0.2 %") == 100, "shares are of all keys, listed or not"


@pytest.mark.parametrize("width", [390, 1280])
async def test_the_field_completes_as_one_types(chromium: Browser, many: Door, width: int) -> None:
    viewport = {"width": width, "height": 900}
    async with visiting(chromium, many, viewport=viewport) as page:
        await sign_in(page, "/requests")
        field = page.get_by_label("Key")
        await field.press_sequentially("twin")
        names = page.locator("#matching-keys option[value^=twin]")
        await expect(names).to_have_count(2)
        await field.fill("twin · roxy_aaaa…1111")
        await page.get_by_role("button", name="Apply").click()
        await expect(page).to_have_url(re.compile(rf"key={a_key(1001).id}"))
        await expect(field).to_have_value("twin · roxy_aaaa…1111")
        assert await violations(page) == []
