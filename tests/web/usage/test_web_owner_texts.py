"""The pages of usage, requests and live, read in every language: no word of English is left."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from support.builders.rows import a_row
from support.fakes.upstream import FakeUpstream
from support.front_door import OWNER, Door, bearer
from support.kept import ask, held_after

from server.store.rows import Batch
from webui.shell.texts import languages
from workers.run.job import Attempt

GROUPS = ("usage", "statement", "requests", "live")
PLACEHOLDER = re.compile(r"\{\w+\}")
FILTERS = re.compile(r'<form class="filters".*?</form>', re.DOTALL)
SHOWN = re.compile(r'(?:title|aria-label|data-label)="([^"]*)"|>([^<]+)<')


def pieces(texts: Mapping[str, Any]) -> Iterator[str]:
    """List what stands between the placeholders of texts, if it has two words or a long one."""
    for value in texts.values():
        if not isinstance(value, str):
            yield from pieces(value)
            continue
        for piece in PLACEHOLDER.split(value):
            if re.search(r"\w+ \w+|\w{5}", piece):
                yield piece.strip(" ,.:;()≈+·")


def shown(page: str) -> str:
    """Return what people read on a page, a line for each text and each attribute."""
    main = FILTERS.sub("", page.partition("<main")[2])
    found = ("".join(match) for match in SHOWN.findall(main))
    return "\n".join(" ".join(html.unescape(one).split()) for one in found)


async def fill_in(door: Door) -> str:
    """Record requests that ended in every way, some of them estimated or without a price."""
    made = await door.mint_key("Ada", limits={"budget_microusd": 5_000_000})
    endings = ("finished", "cancelled", "failed", "cut", "timed_out", "drained", "refused")
    rows = [
        a_row(n, at=time.time() - 60, status=one, key_id=made["id"], estimated=n % 2 == 0,
              cost_microusd=None if n == 3 else 900, attempts=(Attempt("a@b", 5, 40, "answered"),))
        for n, one in enumerate(endings)
    ]  # fmt: skip
    await door.gateway.services.store.record(Batch(rows=rows))
    return str(made["id"])


@pytest.mark.gateway(max_concurrency=1)
@pytest.mark.parametrize("code", ["de", "es", "ja"])
async def test_no_english_is_left_in_another_language(
    upstream: FakeUpstream, door: Door, code: str
) -> None:
    key_id = await fill_in(door)
    english, here = (languages()[one].groups for one in ("en", code))
    known = {piece for group in GROUPS for piece in pieces(here[group])}
    foreign = {piece for group in GROUPS for piece in pieces(english[group])} - known
    answer, gate = held_after(2)
    upstream.plan(answer)
    async with ask(door) as running:
        await running.read(2)
        for path, status in {
            f"/usage?by=key&key={key_id}": 200,
            "/usage?metric=cost&stack=key&by=day&days=90": 200,
            "/usage?month=last": 200,
            "/usage?range=30d": 200,  # from an old bookmark
            "/usage?start=2026-11-02&end=2026-11-01": 400,
            f"/usage/statement?key={key_id}": 200,
            "/usage/statement?key=nobody": 404,
            "/requests": 200,
            "/requests?before=1-1&range=30d": 200,
            "/requests/req_2": 200,
            "/requests/req_none": 404,
            f"/requests/{running.id}": 404,
            "/live": 200,
        }.items():
            headers = bearer(OWNER) | {"Accept-Language": f"{code}, en;q=0.5"}
            page = await door.client.get(path, headers=headers)
            assert page.status_code == status, path
            assert f'<html lang="{code}"' in page.text, path
            words = shown(page.text)
            left = [one for one in foreign if re.search(rf"(?<!\w){re.escape(one)}(?!\w)", words)]
            assert left == [], (path, words)
        gate.set()
        await running.finish()


def test_what_is_searched_for_is_found() -> None:
    page = (
        '<main><p title="Tokens in">A</p><b>No  requests yet.</b><form class="filters">Key</form>'
    )
    assert shown(page).split("\n") == ["Tokens in", "A", "No requests yet."]
    assert list(pieces({"a": "{n} requests, {m} in", "b": {"one": "Of {n}"}})) == ["requests"]
