"""The usage page: true to the database, chosen by its address, the same as its CSV."""

from __future__ import annotations

import csv
import io
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Browser, expect
from support.browsing.axe import violations, violations_in_all_looks
from support.browsing.browser import visiting
from support.browsing.owner_pages import EVIL, combo, opened, sign_in
from support.browsing.page_tables import number
from support.browsing.page_waiting import becomes
from support.builders.rows import a_row
from support.fakes.upstream import USAGE, FakeUpstream, completion, refusal
from support.front_door import MODEL, OWNER, Door, bearer

from server.accounting.usage_sums import add_up
from server.store.rows import Batch
from server.store.usage_queries import SumsQuery
from webui.shell.texts import languages
from webui.usage.usage_table import MAX_ROWS

DAY_S = 86_400.0
words = languages()["en"].figures


async def use(door: Door, upstream: FakeUpstream) -> dict[str, Any]:
    """Ask for some answers as several people; give the key that was used."""
    made = await door.mint_key(EVIL)
    for _ in range(3):
        await door.chat(key=made["key"])
    await door.chat()
    upstream.plan(completion(usage=None), refusal(500))
    await door.chat()
    await door.chat()
    await door.usage_rows(6)
    return made


def days_ago(days: int) -> float:
    """Return an instant of an earlier day."""
    return time.time() - days * DAY_S


async def test_totals_equal_the_database(upstream: FakeUpstream, door: Door) -> None:
    await use(door, upstream)
    rows = await door.usage_rows(6)
    today = datetime.now(UTC).date()
    days = await door.gateway.services.store.usage_by(
        SumsQuery((today - timedelta(days=1)).isoformat(), today.isoformat())
    )
    (total,) = add_up(days, ())
    for by in ("model", "key", "day"):
        page = await opened(door, f"/usage?by={by}")
        chart, ranking = page.tables
        head, together = ranking[0], ranking[-1]
        first = head.index("Requests")
        assert number(together[first]) == total.requests == len(rows)
        assert number(together[first + 1]) == total.failed == 1
        assert number(together[first + 2]) == sum(row.prompt_tokens or 0 for row in rows)
        assert number(together[first + 3]) == sum(row.completion_tokens or 0 for row in rows)
        assert number(chart[-1][-1]) == len(rows)
        for column in range(first, first + 4):
            assert sum(number(row[column]) for row in ranking[1:-1]) == number(together[column])
    text = (await door.get("/usage")).text
    assert f'title="${total.cost_microusd / 1e6:.6f}"'.replace('0"', '"') in text
    assert "1 failed (17 %)" in text and "≈ 1 request estimated" in text


@pytest.mark.parametrize("by", ["model", "key", "day"])
async def test_the_csv_has_what_the_table_has(upstream: FakeUpstream, door: Door, by: str) -> None:
    made = await use(door, upstream)
    page = await opened(door, f"/usage?days=7&by={by}&key={made['id']}&model={MODEL}")
    link = page.links["CSV"]
    asked = parse_qs(urlsplit(link).query)
    assert (asked["key"], asked["model"]) == ([made["id"]], [MODEL])
    answer = await door.get(link)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    told = [
        (int(row["Requests"]), int(row["Tokens in"]), int(row["Tokens out"]))
        for row in csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig")))
    ]
    (head, *body) = page.tables[1][:-1]
    places = [head.index(name) for name in ("Requests", "Tokens in", "Tokens out")]
    shown = [tuple(number(row[place]) for place in places) for row in body]
    assert shown == told == [(3, 33, 21)]


async def test_filters_choose_and_lead_on(upstream: FakeUpstream, door: Door) -> None:
    made = await use(door, upstream)
    by_key = await opened(door, "/usage?by=key")
    assert {row[0] for row in by_key.tables[1][1:-1]} == {"Owner", EVIL}
    assert by_key.links[EVIL] == f"/requests?key={made['id']}"
    assert by_key.links["Owner"] == "/requests?key=owner"
    of_owner = await opened(door, "/usage?key=owner")
    assert number(of_owner.tables[1][-1][2]) == 3
    assert of_owner.links[MODEL] == "/requests?model=test%2Fone"
    by_day = await opened(door, "/usage?by=day&key=owner")
    day = by_day.tables[1][1][0]
    today = datetime.now(UTC).date()
    assert day == words.name_day(today)
    assert by_day.links[day] == f"/usage?start={today}&end={today}&key=owner"
    gone = await door.get("/usage?model=no/such")
    assert gone.status_code == 200 and "No matching requests" in gone.text


async def test_a_revoked_key_keeps_its_name_and_equal_names_are_told_apart(door: Door) -> None:
    one, other = await door.mint_key("twin"), await door.mint_key("twin")
    for made in (one, other):
        await door.chat(key=made["key"])
    await door.client.delete(f"/api/v1/keys/{one['id']}", headers=bearer(OWNER))
    await door.usage_rows(2)
    names = {row[0] for row in (await opened(door, "/usage?by=key")).tables[1][1:-1]}
    assert names == {f"revoked twin ({one['redacted']})", f"twin ({other['redacted']})"}


async def test_changes_are_against_the_same_number_of_days_before(door: Door) -> None:
    rows = [
        a_row(n, at=days_ago(0 if n < 12 else 10), ttft_ms=100 if n < 12 else 200)
        for n in range(12 + 8)
    ]
    await door.gateway.services.store.record(Batch(rows=rows))
    text = (await door.get("/usage?days=7")).text
    assert text.count("+50 % on the previous 7 days") == 3
    assert "\N{MINUS SIGN}50 % on the previous 7 days" in text
    assert "No data for the previous 90 days" in (await door.get("/usage?days=90")).text


async def test_the_time_to_the_first_token_is_called_what_it_is(door: Door) -> None:
    store = door.gateway.services.store
    rows = [a_row(n, at=days_ago(1), ttft_ms=n * 10) for n in range(1, 101)]
    await store.record(Batch(rows=rows))
    text = (await door.get("/usage")).text
    assert "Time to first token, p95" in text and "950 ms" in text
    await store.prune(datetime.fromtimestamp(days_ago(-2), UTC).date().isoformat())
    text = (await door.get("/usage")).text
    assert "Time to first token, mean" in text and "505 ms" in text


async def test_a_percentile_of_a_part_of_the_requests_is_not_shown(door: Door) -> None:
    store = door.gateway.services.store
    rows = [a_row(n, at=days_ago(1 + n % 2 * 3), ttft_ms=100) for n in range(20)]
    await store.record(Batch(rows=rows))
    assert "Time to first token, p95" in (await door.get("/usage")).text
    await store.prune(datetime.fromtimestamp(days_ago(2), UTC).date().isoformat())
    assert "Time to first token, mean" in (await door.get("/usage")).text


async def test_of_very_many_keys_the_largest_are_listed_and_that_is_said(door: Door) -> None:
    for count, said in ((MAX_ROWS, False), (MAX_ROWS + 1, True)):
        rows = [a_row(n, at=days_ago(0), key_id=f"key_{n}") for n in range(count)]
        await door.gateway.services.store.record(Batch(rows=rows))
        text = (await door.get("/usage?by=key")).text
        assert (f"Only {MAX_ROWS} are listed." in text) is said


async def test_a_model_that_left_the_catalog_can_be_chosen(door: Door) -> None:
    rows = [a_row(1, at=days_ago(0), model="gone/model")]
    await door.gateway.services.store.record(Batch(rows=rows))
    assert '<option value="gone/model">' in (await door.get("/usage")).text
    for path in ("/usage", "/requests"):
        assert '<option value="no/such" selected>' in (await door.get(f"{path}?model=no/such")).text


async def test_typed_days_are_no_preset(door: Door) -> None:
    assert '<a href="/usage" aria-current="true">30 days' in " ".join(
        (await door.get("/usage")).text.split()
    )
    today = datetime.now(UTC).date().isoformat()
    typed = (await door.get(f"/usage?start={today}&end={today}")).text
    assert 'aria-current="true">30 days' not in " ".join(typed.split())
    assert 'name="days"' not in typed


@pytest.mark.gateway(prices="")
async def test_what_has_no_price_is_told_beside_the_cost(door: Door) -> None:
    await door.chat()
    await door.usage_rows()
    text = (await door.get("/usage?metric=cost")).text
    assert "+ 1 request of unknown price" in text
    assert "Without 1 request of unknown price." in text


async def test_how_much_is_estimated_is_told_beside_tokens_and_cost(door: Door) -> None:
    now = days_ago(0)
    rows = [
        a_row(1, at=now, cost_microusd=900_000, prompt_tokens=80, completion_tokens=10),
        a_row(
            2, at=now, cost_microusd=100_000, prompt_tokens=8, completion_tokens=2, estimated=True
        ),
        a_row(3, at=now, key_id="key_2", cost_microusd=500_000),
    ]
    await door.gateway.services.store.record(Batch(rows=rows))
    text = (await door.get("/usage?by=key")).text
    assert "≈ 1 request estimated, 7.7 % of the tokens" in text
    assert "≈ $0.1000 estimated (6.7 %)" in text
    shown = (await opened(door, "/usage?by=key")).tables[1]
    cost = {row[0]: row[2] for row in shown[1:]}
    assert cost["key_1"] == "$1.00 ≈ 10 % estimated"
    assert cost["key_2"] == "$0.5000"
    assert cost["Total"] == "$1.50 ≈ 6.7 % estimated"
    assert 'title="1 request estimated: 10 tokens"' in text


async def test_days_without_use_are_in_the_chart(door: Door) -> None:
    await door.gateway.services.store.record(Batch(rows=[a_row(1, at=days_ago(3))]))
    chart = (await opened(door, "/usage?days=7")).tables[0]
    assert [row[-1] for row in chart[1:-1]] == [
        "0 requests", "0 requests", "0 requests", "1 request",
        "0 requests", "0 requests", "0 requests",
    ]  # fmt: skip


async def test_an_empty_database_says_so(door: Door) -> None:
    text = (await door.get("/usage")).text
    assert "No requests in these 30 days." in text and "<table" not in text
    for days in ("0001-01-01", "9999-12-31"):
        assert (await door.get(f"/usage?start={days}&end={days}")).status_code == 200


@pytest.mark.parametrize("path", ["/usage", "/requests", "/requests/req_x"])
async def test_only_the_owner_gets_in(door: Door, path: str) -> None:
    assert (await door.get(path, await door.mint())).status_code == 403
    answer = await door.get(path, None)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?next=")


async def test_names_cannot_be_markup(door: Door) -> None:
    made = await door.mint_key(EVIL)
    rows = [a_row(1, key_id=made["id"], model=EVIL, at=days_ago(0))]
    await door.gateway.services.store.record(Batch(rows=rows))
    for path in ("/usage?by=key", "/usage", f"/usage?model={EVIL}"):
        text = (await door.get(path)).text
        assert "<script>" not in text and "&lt;script&gt;" in text
        assert not re.search(r"<style|\sstyle=|\son\w+=", text)


async def test_this_and_last_month_follow_the_clock_of_the_owner(door: Door) -> None:
    today = datetime.now(UTC).date()
    first = today.replace(day=1)
    last = first - timedelta(days=1)
    noon = datetime.combine(last, datetime.min.time(), UTC).timestamp() + DAY_S / 2
    rows = [a_row(1, at=noon), a_row(2, at=noon), a_row(3, at=time.time())]
    await door.gateway.services.store.record(Batch(rows=rows))
    page = await opened(door, "/usage?month=last&by=day")
    assert [row[0] for row in page.tables[1][1:-1]] == [words.name_day(last)]
    assert number(page.tables[1][-1][2]) == 2
    assert (
        f"end={last}" in page.links["CSV"] and f"start={last.replace(day=1)}" in page.links["CSV"]
    )
    text = " ".join((await door.get("/usage?month=this")).text.split())
    assert f"{words.name_days(first, today)} ({today.day} day" in text
    assert 'aria-current="true">This month' in text
    headers = bearer(OWNER) | {"Cookie": "roxy_utc_offset=540"}
    answer = await door.client.get("/usage?month=this", headers=headers)
    assert "A UTC day begins at 09:00 your time." in " ".join(answer.text.split())


async def test_keys_show_what_is_left_and_lead_to_their_statement(
    upstream: FakeUpstream, door: Door
) -> None:
    made = await door.mint_key("Ada", limits={"budget_microusd": 5_000_000})
    await door.chat(key=made["key"])
    await door.usage_rows(1)
    page = await opened(door, "/usage?by=key&stack=key&metric=cost")
    head, row = page.tables[1][0], page.tables[1][1]
    assert len(head) == len(row) == len(page.tables[1][-1]), "headings stand over their columns"
    left = row[head.index("Budget left")]
    assert left.endswith("of $5.00 this month") and left.startswith("$5.00")
    assert page.tables[0][0][1] == "Ada"
    statement = await opened(door, page.links["Statement"])
    priced = f"{MODEL} $1.00 in, $2.00 out per million tokens"
    assert [row[0] for row in statement.tables[0]] == ["Model", priced, "Total"]
    text = " ".join((await door.get(page.links["Statement"])).text.split())
    for said in ("<bdi>Ada</bdi>", made["redacted"], "1, 0 failed", "Nothing is estimated"):
        assert said in text, said
    assert made["key"] not in text


async def test_a_statement_says_what_is_estimated_and_what_has_no_price(door: Door) -> None:
    now = time.time()
    rows = [
        a_row(1, at=now, key_id="guest", cost_microusd=750_000),
        a_row(2, at=now, key_id="guest", cost_microusd=250_000, estimated=True),
        a_row(3, at=now, key_id="guest", cost_microusd=None),
    ]
    await door.gateway.services.store.record(Batch(rows=rows))
    text = " ".join((await door.get("/usage/statement?key=guest")).text.split())
    assert "1 request estimated: $0.25 (25 % of the cost). When a provider" in text
    assert "12 cached" in text
    assert "1 request of unknown price are not" not in text
    assert "Not in the total: 1 request of unknown price." in text
    assert "<strong>$1.00</strong>" in text
    for query in ("key=nobody", "key=guest&month=next", "key=guest&start=x", "kei=guest"):
        assert (await door.get(f"/usage/statement?{query}")).status_code in (400, 404), query


async def test_a_statement_is_found_by_name_and_else_asks_for_a_key(
    upstream: FakeUpstream, door: Door
) -> None:
    made = await use(door, upstream)
    named = await door.client.get(
        "/usage/statement", params={"key": made["name"], "month": "last"}, headers=bearer(OWNER)
    )
    assert (named.status_code, named.headers["location"]) == (
        303,
        f"/usage/statement?key={made['id']}&month=last",
    )
    await door.mint(made["name"])
    several = await door.get(f"/usage/statement?key={made['name']}")
    assert several.status_code == 200 and "Which key?" in several.text
    for query, status in (("", 200), ("?key=nobody&month=last", 404)):
        page = await door.get(f"/usage/statement{query}")
        assert page.status_code == status
        assert "Choose whose statement to show." in page.text
        assert f'<option value="{made["id"]}"' in page.text
        assert ('name="month" value="last"' in page.text) is (status == 404)
        assert ("There is no such key." in page.text) is (status == 404)


async def test_the_csv_has_names_first_and_dollars(upstream: FakeUpstream, door: Door) -> None:
    made = await use(door, upstream)
    answer = await door.get("/api/v1/usage?format=csv&group_by=key,model")
    head = answer.text.splitlines()[0].split(",")
    assert head[:3] == ["key_name", "model", "requests"] and head[-1] == "key_id"
    assert not any("microusd" in name for name in head)
    rows = {row["key_id"]: row for row in csv.DictReader(io.StringIO(answer.text))}
    sums = await door.get(f"/api/v1/usage?group_by=key&key={made['id']}")
    (whole,) = sums.json()["data"]
    assert float(rows[made["id"]]["cost_usd"]) * 1_000_000 == whole["cost_microusd"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\uff1d"])
async def test_the_file_for_spreadsheets_has_names_that_people_know(door: Door, start: str) -> None:
    """Excel needs the mark for UTF-8, and in German a comma in numbers and semicolons."""
    name = f'{start}Jörg "J", 北村; x'
    made = await door.mint_key(name)
    spent = (("guest", 1_250_000), ("owner", 3), (made["id"], 2_000_000))
    rows = [
        a_row(number, at=time.time(), key_id=key_id, cost_microusd=cost)
        for number, (key_id, cost) in enumerate(spent)
    ]
    await door.gateway.services.store.record(Batch(rows=rows))
    known = {"en": (",", "Key", "Guests", "Owner", "."), "de": (";", "Schlüssel", None, None, ",")}
    for code, (delimiter, key, guests, owner, mark) in known.items():
        headers = bearer(OWNER) | {"Accept-Language": code}
        answer = await door.client.get("/usage/file?by=key&month=this", headers=headers)
        text = answer.content.decode()
        assert text.startswith(f"\ufeff{key}{delimiter}")
        head, *told = csv.reader(io.StringIO(text[1:]), delimiter=delimiter)
        assert [row[0] for row in told][:1] == [f"'{name}"]
        assert guests is None or [row[0] for row in told][1:] == [guests, owner]
        cost = next(place for place, name in enumerate(head) if "USD" in name)
        assert [row[cost] for row in told] == [f"2{mark}000000", f"1{mark}250000", f"0{mark}000003"]
        assert told[0][-1] == made["redacted"]
        assert not {"guest", "owner", made["id"]} & {cell for row in told for cell in row}
    whole = (await door.get("/api/v1/usage?format=csv&group_by=key")).text
    assert {row["key_name"] for row in csv.DictReader(io.StringIO(whole))} == {
        "Guests",
        "Owner",
        f"'{name}",
    }
    for query in ("by=hour", "month=next", "start=x", "bye=key"):
        assert (await door.get(f"/usage/file?{query}")).status_code == 400, query


async def test_the_file_of_many_keys_comes_in_pieces_and_whole(door: Door) -> None:
    rows = [a_row(number, at=time.time(), key_id=f"key_{number:016}") for number in range(1_001)]
    await door.gateway.services.store.record(Batch(rows=rows))
    text = (await door.get("/usage/file?by=key&month=this")).content.decode("utf-8-sig")
    told = [row["Key"] for row in csv.DictReader(io.StringIO(text))]
    assert told == [f"key_{number:016}" for number in range(1_001)]


# In a browser


async def test_a_page_of_a_month_is_that_of_the_browsers_clock_and_prints_on_one_page(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    await use(door, upstream)
    async with visiting(chromium, door, timezone_id="Asia/Tokyo") as page:
        await sign_in(page, "/usage?month=this")
        await becomes(page, "() => document.cookie.includes('roxy_utc_offset=540')")
        await page.goto("/usage/statement?key=owner")
        await expect(page.get_by_text("A UTC day begins at 09:00 your time.")).to_be_visible()
        await expect(page.get_by_role("button", name="Print")).to_be_visible()
        assert await violations(page) == []
        await page.emulate_media(media="print")
        await expect(page.get_by_role("navigation", name="Main")).to_be_hidden()
        await expect(page.get_by_role("button", name="Print")).to_be_hidden()
        assert (await page.pdf(format="A4")).count(b"/Type /Page\n") == 1


async def test_filters_survive_reload_and_back(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with visiting(chromium, door) as page:
        made = await use(door, upstream)
        await sign_in(page, "/usage")
        await combo(page, "Key").select_option(made["id"])
        await combo(page, "Model").select_option(MODEL)
        await page.get_by_role("button", name="Apply").click()
        figure = page.get_by_role("row", name="Total").last
        await expect(figure).to_contain_text("3 0 33 21")
        await page.get_by_role("link", name="7 days").click()
        await page.get_by_role("link", name="Tokens").click()
        await expect(
            page.get_by_role("img", name="Tokens by day, stacked by model")
        ).to_be_visible()
        await page.reload()
        await expect(combo(page, "Key")).to_have_value(made["id"])
        await expect(combo(page, "Model")).to_have_value(MODEL)
        await expect(page.get_by_role("link", name="7 days")).to_have_attribute(
            "aria-current", "true"
        )
        await expect(figure).to_contain_text("3 0 33 21")
        await page.go_back()
        await expect(page.get_by_role("img", name="Requests by day")).to_be_visible()
        await page.go_back()
        await page.go_back()
        await expect(combo(page, "Key")).to_have_value("")
        await expect(figure).to_contain_text("6 1")


async def test_days_of_ones_own_and_the_csv_by_keyboard(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door, java_script_enabled=False) as page:
        await door.gateway.services.store.record(Batch(rows=[a_row(1)]))
        await sign_in(page, "/usage")
        for name, day in (("From", "2026-11-20"), ("To", "2026-11-22")):
            await page.get_by_label(name).fill(day)
        await page.get_by_label("To").press("Enter")
        await expect(page.get_by_text("20 to 22 November 2026 (3 days, UTC)")).to_be_visible()
        await expect(page.get_by_label("From")).to_have_value("2026-11-20")
        summary = page.get_by_text("The chart as a table")
        await summary.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("rowheader", name="21 November 2026")).to_be_visible()
        link = page.get_by_role("link", name="CSV")
        await link.focus()
        async with page.expect_download() as coming:
            await page.keyboard.press("Enter")
        file = await (await coming.value).path()
        assert file.read_text().startswith("\ufeffModel,Requests,Failed,Tokens in")


async def test_axe_finds_nothing(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door, expected=("400",)) as page:
        await sign_in(page, "/usage")
        assert await violations_in_all_looks(page) == {}, "empty"
        rows = [a_row(n, at=days_ago(n), model=f"model/{n}", estimated=n == 2) for n in range(9)]
        await door.gateway.services.store.record(Batch(rows=rows))
        for path in ("/usage?metric=cost", "/usage?by=day&days=90", "/usage?days=8"):
            await page.goto(path)
            for summary in await page.locator("summary").all():
                await summary.click()
            assert await violations_in_all_looks(page) == {}, path


OUTSIDE = """() => [...document.querySelectorAll("main *")].filter((node) => {
  const { right, width } = node.getBoundingClientRect();
  return width > 0 && right > screen.width + 1 && !node.closest(".table, .unseen");
}).map((node) => node.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("widths", [(320, 360), (768, 1440)])
async def test_nothing_is_wider_than_the_screen(
    chromium: Browser, door: Door, widths: tuple[int, int]
) -> None:
    phone = widths[0] < 700
    async with visiting(chromium, door, is_mobile=phone, has_touch=phone) as page:
        made = await door.mint_key("unbroken" * 12)
        request_id = "x" * 64
        rows = [
            a_row(n, at=days_ago(n), model="maker/" + "long" * 20, request_id=request_id,
                  key_id=made["id"], prompt_tokens=10**11, cost_microusd=10**11)
            for n in range(5)
        ]  # fmt: skip
        await door.gateway.services.store.record(Batch(rows=rows))
        await sign_in(page, "/usage")
        for path in ("/usage?by=key&metric=cost", "/requests", f"/requests/{request_id}"):
            for width in widths:
                await page.set_viewport_size({"width": width, "height": 800})
                await page.goto(path)
                assert await page.evaluate("() => screen.width") == width
                assert await page.evaluate("() => document.documentElement.scrollWidth") == width
                assert await page.evaluate(OUTSIDE) == [], path


def test_the_tokens_of_the_fake_upstream_are_those_counted_on() -> None:
    assert (USAGE["prompt_tokens"], USAGE["completion_tokens"]) == (11, 7)
