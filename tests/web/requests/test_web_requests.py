"""The request log for the owner: newest first, filtered by its address, each request in full."""

from __future__ import annotations

import re
import time

from msgspec import structs
from playwright.async_api import Browser, expect
from support.browsing.axe import violations_in_all_looks
from support.browsing.browser import visiting
from support.browsing.owner_pages import EVIL, combo, opened, sign_in
from support.browsing.page_tables import number
from support.builders.rows import a_row
from support.fakes.upstream import USAGE, FakeUpstream, completion, refusal, stream_of
from support.front_door import MODEL, Door
from support.kept import ask, held_after

from server.store.rows import Batch
from webui.shell.figures import exact_moment
from workers.money import exactly
from workers.run.job import Attempt


async def test_the_list_tells_what_the_database_holds(upstream: FakeUpstream, door: Door) -> None:
    made = await door.mint_key(EVIL)
    await door.chat(key=made["key"])
    upstream.plan(completion(usage=None), refusal(500))
    await door.chat()
    await door.chat()
    rows = await door.usage_rows(3)
    page = await opened(door, "/requests")
    (shown,) = page.tables
    failed, estimated, plain = shown[1:]
    assert failed[1:4] == ["Owner", MODEL, f"Failed {rows[0].http_status}"]
    assert failed[4:6] == ["\N{EN DASH}"] * 2
    assert estimated[4].startswith("≈") and number(estimated[4]) == rows[1].prompt_tokens
    assert plain[1:6] == [EVIL, MODEL, "Finished", "11", "7"]
    assert plain[6] == "<$0.0001"
    assert f"/requests/{rows[2].request_id}" in (await door.get("/requests")).text


async def test_filters_and_older_pages_are_in_the_address(door: Door) -> None:
    now = time.time()
    rows = [
        a_row(n, at=now - 200 + n, key_id="guest", status="failed" if n % 2 else "finished")
        for n in range(120)
    ]
    await door.gateway.services.store.record(Batch(rows=rows))
    path: str | None = "/requests?key=guest&model=zai/glm-4.5&status=failed"
    seen: list[str] = []
    while path:
        text = (await door.get(path)).text
        seen += re.findall(r'title="(req_\d+)"', text)
        assert '<option value="failed" selected>' in text
        assert '<option value="guest" selected>Guests' in text
        path = (await opened(door, path)).links.get("Older")
    assert seen == [f"req_{n}" for n in range(119, 0, -2)]
    assert "Newest" in (await opened(door, f"/requests?before={now}-50")).links
    beyond = await door.get("/requests?before=0-1")
    assert "No older requests." in beyond.text
    none = await door.get("/requests?model=no/such")
    assert "No matching requests." in none.text


async def test_one_request_is_told_in_full(upstream: FakeUpstream, door: Door) -> None:
    usage = USAGE | {
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    upstream.plan(stream_of(["Hel", "lo"], usage=usage))
    made = await door.mint_key(EVIL)
    await door.stream_text(key=made["key"])
    (row,) = await door.usage_rows()
    text = (await door.get(f"/requests/{row.request_id}")).text
    for name, value in {
        "Tokens in": "11", "Of which cached": "5", "Tokens out": "7", "Of which reasoning": "3",
        "Deployment": row.deployment, "Answer": "streamed",
        "Cost": exactly(row.cost_microusd),
    }.items():  # fmt: skip
        assert f"<dt>{name}</dt><dd>{value}</dd>" in text, name
    page = await opened(door, f"/requests/{row.request_id}")
    assert [phase[0] for phase in page.tables[0][1:]] == [
        "Queued", "First token", "Writing", "Total",
    ]  # fmt: skip
    assert page.links[EVIL] == f"/requests?key={made['id']}"
    assert page.links[MODEL] == "/requests?model=test%2Fone"
    assert "<script>" not in text


async def test_a_request_began_its_duration_before_it_ended(door: Door) -> None:
    row = a_row(1, at=1_790_000_000.0, duration_ms=90_000, key_id="key_unknown")
    await door.gateway.services.store.record(Batch(rows=[row]))
    text = (await door.get(f"/requests/{row.request_id}")).text
    begin, end = exact_moment(row.at - 90), exact_moment(row.at)
    assert re.findall(r'<time datetime="([^"]*)"', text)[:2] == [begin, end]
    assert begin != end
    assert "/requests?key=key_unknown" not in text


TRIED = (
    Attempt("zai/glm-4.5@vercel", 5, 40, "upstream_unavailable"),
    Attempt("zai/glm-4.5@deepinfra", 45, 300, "upstream_timeout"),
    Attempt("zai/glm-4.5@openrouter", 346, 554, "answered"),
)


async def test_what_was_tried_is_shown_on_the_line_of_the_whole_request(door: Door) -> None:
    evil = Attempt(EVIL, 5, 895, EVIL)
    stopped = Attempt("zai/glm-4.5@openrouter", 100, 800, "cancelled")
    await door.gateway.services.store.record(
        Batch([a_row(1, attempts=TRIED), a_row(2), a_row(3, attempts=(evil, stopped))])
    )
    page = await opened(door, "/requests/req_1")
    assert page.tables[1][1:] == [
        ["zai/glm-4.5@vercel upstream_unavailable", "", "5 ms", "40 ms"],
        ["zai/glm-4.5@deepinfra upstream_timeout", "", "45 ms", "300 ms"],
        ["zai/glm-4.5@openrouter Answered", "", "346 ms", "554 ms"],
    ]
    text = (await door.get("/requests/req_1")).text
    bars = re.findall(r'<rect class="(\w+)" x="([\d.]+)%" width="([\d.]+)%"', text)[-3:]
    assert bars == [
        ("failed", "0.56", "4.44"), ("failed", "5.00", "33.33"), ("writing", "38.44", "61.56"),
    ]  # fmt: skip
    assert len((await opened(door, "/requests/req_2")).tables) == 1, "nothing to tell"
    page = await opened(door, "/requests/req_3")
    assert [row[0] for row in page.tables[1][1:]] == [
        f"{EVIL} {EVIL}",
        "zai/glm-4.5@openrouter Stopped",
    ]
    assert "<script>" not in (await door.get("/requests/req_3")).text


async def test_a_client_may_name_requests_as_it_likes(door: Door) -> None:
    async with door.stream(headers={"X-Request-Id": "a:b..c_d-1.2"}) as response:
        await response.aread()
    await door.usage_rows()
    hostile = a_row(1, at=time.time(), request_id="../login?x=1&y#\"'<b>", status="<i>odd")
    await door.gateway.services.store.record(Batch(rows=[hostile]))
    text = (await door.get("/requests")).text
    assert "<b>" not in text and "<i>" not in text
    for path in re.findall(r'href="(/requests/[^"]+)"', text):
        answer = await door.get(path)
        assert answer.status_code == 200 and "<b>" not in answer.text, path


async def test_an_unknown_request_is_a_page_that_says_why(
    upstream: FakeUpstream, door: Door
) -> None:
    answer = await door.get("/requests/req_nope")
    assert answer.status_code == 404
    assert "Requests are kept for 90 days." in answer.text
    held, gate = held_after(2)
    upstream.plan(held)
    async with ask(door) as running:
        await running.read(2)
        answer = await door.get(f"/requests/{running.id}")
        assert answer.status_code == 404
        assert "has not ended yet" in answer.text
        gate.set()
        await running.finish()


async def test_an_empty_log_says_so(door: Door) -> None:
    text = (await door.get("/requests")).text
    assert "No requests yet." in text and "<table" not in text


async def test_from_the_filter_to_a_request_and_back_by_keyboard(
    chromium: Browser, door: Door
) -> None:
    async with visiting(chromium, door, java_script_enabled=False) as page:
        rows = [a_row(n, key_id=key_id) for n, key_id in enumerate(("owner", "guest", "owner"))]
        await door.gateway.services.store.record(Batch(rows=rows))
        await sign_in(page, "/requests")
        await combo(page, "Key").focus()
        await page.keyboard.press("G")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        links = page.get_by_role("table").get_by_role("link")
        await expect(links).to_have_count(1)
        await page.reload()
        await expect(combo(page, "Key")).to_have_value("guest")
        await links.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Request", exact=True)).to_be_visible()
        await expect(page.get_by_text("req_1", exact=True)).to_be_visible()
        await page.go_back()
        await expect(combo(page, "Key")).to_have_value("guest")
        await expect(links).to_have_count(1)


async def test_axe_finds_nothing(chromium: Browser, door: Door) -> None:
    async with visiting(chromium, door, expected=("404",)) as page:
        await sign_in(page, "/requests")
        assert await violations_in_all_looks(page) == {}, "empty"
        endings = ("finished", "cancelled", "failed", "cut", "refused")
        rows = [a_row(n, status=status, estimated=n == 1) for n, status in enumerate(endings)]
        rows[2] = structs.replace(rows[2], attempts=TRIED)
        await door.gateway.services.store.record(Batch(rows=rows))
        for path in ("/requests", "/requests/req_0", "/requests/req_2", "/requests/req_nope"):
            await page.goto(path)
            assert await violations_in_all_looks(page) == {}, path
