"""The owner's page of keys, without its script: every step as a plain form."""

from __future__ import annotations

import html
import json
import re
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import structs
from support.builders.key_exports import exported_keys
from support.builders.rows import a_key, a_row
from support.front_door import MODEL, Door
from support.visitors import Browser
from support.waiting import eventually

from server.store.key import Limits
from server.store.rows import Batch

SECRET = re.compile(r"roxy_[0-9A-Za-z]{38}")
HOSTILE = (
    "<script>alert(1)</script>\"'",
    "{{ 7 * 7 }}{% end %}",
    "=cmd|' /C calc'!A0",
    "نص عربي 🦊",
)
LONG = "a name of a hundred characters " * 3 + "to here"


async def key_of(door: Door, name: str) -> Any:
    """Find a key by its name."""
    (key,) = [key for key in await door.gateway.services.keys.list() if key.name == name]
    return key


def text(answer: httpx.Response) -> str:
    """Return what a page says, without its tags."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def value_of(answer: httpx.Response, name: str) -> str:
    """Return what stands in a field."""
    found = re.search(rf'<input id="[\w-]+" name="{name}" value="([^"]*)"', answer.text)
    assert found, name
    return html.unescape(found[1])


async def create(owner: Browser, **fields: str) -> str:
    """Make a key with the form and give its secret."""
    answer = await owner.submit("/keys", None, **fields)
    assert answer.status_code == 201, text(answer)
    found = SECRET.search(answer.text)
    assert found
    return found[0]


async def test_a_key_is_made_by_a_plain_form_and_its_secret_shown_once(
    door: Door, owner: Browser
) -> None:
    answer = await owner.submit(
        "/keys",
        None,
        name="ci",
        requests_per_minute="60",
        tokens_per_minute="20000",
        concurrent_requests="2",
        budget="5.25",
        budget_period="week",
        **{"expires": "2030-01-31", "models": "shown", f"model:{MODEL}": "on"},
    )
    assert answer.status_code == 201 and answer.headers["cache-control"] == "no-store"
    secret = SECRET.findall(answer.text)[0]
    said = text(answer)
    assert "Shown once." in said
    assert f"OPENAI_API_KEY={secret}" in said and f"OPENAI_BASE_URL={door.url}/api/v1" in said
    assert f"Authorization: Bearer {secret}" in said and f"curl {door.url}/api/v1/chat" in said
    key = await key_of(door, "ci")
    limits = key.limits
    assert (limits.requests_per_minute, limits.tokens_per_minute) == (60, 20_000)
    assert (limits.concurrent_requests, limits.budget_microusd) == (2, 5_250_000)
    assert (limits.budget_period, key.models) == ("week", (MODEL,))
    assert datetime.fromtimestamp(key.expires_at, UTC).isoformat() == "2030-01-31T23:59:59+00:00"
    assert (await door.chat(key=secret)).status_code == 200
    for path in ("/keys", f"/keys/{key.id}", "/keys/export", "/keys/new"):
        assert secret not in (await owner.open(path)).text, path


async def test_the_list_tells_a_key_in_words(door: Door, owner: Browser) -> None:
    assert "There are no keys yet." in text(await owner.open("/keys"))
    await door.mint_key(
        "app",
        limits={
            "requests_per_minute": 60,
            "tokens_per_minute": 20_000,
            "concurrent_requests": 2,
            "budget_microusd": 5_000_000,
        },
        models=["zai/glm-4.5", MODEL],
    )
    await door.mint_key("free", limits=None)
    said = text(await owner.open("/keys"))
    assert "60 req/min · 20K tokens/min · 2 concurrent · $5.00 a month 2 models" in said
    assert "no limits all models" in said
    assert "$0 of $5.00 this month" in said
    assert (await key_of(door, "app")).redacted in said
    assert said.count("never used never $0") == 2
    assert said.count("No requests in 30 days") == 2


async def test_use_shows_in_last_used_spend_and_sparkline(door: Door, owner: Browser) -> None:
    made = await door.mint_key("app", limits={"budget_microusd": 5_000_000})
    for _ in range(2):
        assert (await door.chat(key=made["key"], max_tokens=9)).status_code == 200
    rows = await door.usage_rows(2)
    answer = await owner.open("/keys")
    said = text(answer)
    today = datetime.fromtimestamp(rows[0].at, UTC).date()
    assert "never used" not in said and written_day(today) in said
    spent = sum(row.cost_microusd for row in rows)
    assert spent > 0 and f'title="${spent / 1e6:.6f}'.rstrip("0") in answer.text
    assert f'value="{spent}"' in answer.text  # the meter of the budget
    busiest = f"{today.day} {today:%b}"
    assert f"<title>2 requests in 30 days, 2 on the busiest, {busiest}</title>" in answer.text


@pytest.mark.parametrize("name", [*HOSTILE, LONG])
async def test_a_name_is_never_markup(door: Door, owner: Browser, name: str) -> None:
    await create(owner, name=name)
    key = await key_of(door, name.strip())
    for path in ("/keys", f"/keys/{key.id}", f"/keys/{key.id}/rotate", f"/keys/{key.id}/revoke"):
        answer = await owner.open(path)
        assert answer.status_code == 200
        assert key.name in html.unescape(answer.text) and "<script>alert" not in answer.text, path


async def test_what_is_wrong_stands_beside_each_field_and_what_was_typed_stays(
    door: Door, owner: Browser
) -> None:
    typed = {
        "name": "  ",
        "requests_per_minute": "many",
        "tokens_per_minute": "1.5",
        "concurrent_requests": "-1",
        "budget": "5,00",
        "expires": "2001-01-01",
    }
    answer = await owner.submit(
        "/keys", None, **typed, **{"model:test/gone": "on", "models": "shown"}
    )
    assert answer.status_code == 400
    for name, value in typed.items():
        assert value_of(answer, name) == value
        assert f'id="key-{name}-problem"' in answer.text, name
    assert answer.text.count('aria-invalid="true"') == len(typed)
    assert "untick it" in text(answer) and 'name="model:test/gone" checked' in answer.text
    assert await door.gateway.services.keys.list() == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "x" * 101),
        ("name", "a\x00b"),
        ("requests_per_minute", "0"),
        ("requests_per_minute", "9" * 30),
        ("requests_per_minute", "١٢"),
        ("tokens_per_minute", "1e5"),
        ("budget", "0"),
        ("budget", "0.0000001"),
        ("budget", "NaN"),
        ("budget", "9" * 20),
        ("budget_period", "year"),
        ("expires", "2027-02-30"),
        ("expires", "tomorrow"),
        ("weight", "101"),
        ("weight", ""),
    ],
)
async def test_a_bad_value_makes_no_key(door: Door, owner: Browser, field: str, value: str) -> None:
    answer = await owner.submit("/keys", None, **({"name": "x", field: value}))
    assert answer.status_code == 400
    assert f"key-{field}-problem" in answer.text or 'role="alert"' in answer.text
    assert await door.gateway.services.keys.list() == ()


@pytest.mark.parametrize(
    ("typed", "microusd"), [("5", 5_000_000), ("$0.50", 500_000), ("0.000001", 1), ("", None)]
)
async def test_dollars_are_micro_dollars_exactly(
    door: Door, owner: Browser, typed: str, microusd: int | None
) -> None:
    await create(owner, name="x", budget=typed)
    key = await key_of(door, "x")
    assert key.limits.budget_microusd == microusd
    shown = value_of(await owner.open(f"/keys/{key.id}"), "budget")
    assert shown == typed.removeprefix("$")


async def test_presets_fill_the_form(owner: Browser) -> None:
    answer = await owner.open("/keys/new")
    assert value_of(answer, "requests_per_minute") == "60"
    answer = await owner.open("/keys/new?preset=trial")
    week = (datetime.now(UTC) + timedelta(days=7)).date().isoformat()
    shown = [value_of(answer, name) for name in ("requests_per_minute", "budget", "expires")]
    assert shown == ["5", "1", week]
    assert '<option value="total" selected>' in answer.text
    for query in ("/keys/new?preset=nope", "/keys?show=all", "/keys?page=0", "/keys?page=%F0"):
        assert (await owner.open(query)).status_code == 400, query


@pytest.mark.parametrize("path", ["/keys/new", "/keys/many"])
async def test_models_that_are_served_are_offered_first(owner: Browser, path: str) -> None:
    offered = re.findall(r'name="model:([^"]+)"', (await owner.open(path)).text)
    assert offered[0] == MODEL and len(offered) == 5


async def test_a_key_is_changed(door: Door, owner: Browser) -> None:
    made = await door.mint_key("old", limits={"budget_microusd": 1_500_000}, models=[MODEL])
    form = await owner.open(f"/keys/{made['id']}")
    assert value_of(form, "budget") == "1.50" and f'"model:{MODEL}" checked' in form.text
    answer = await owner.submit(
        f"/keys/{made['id']}",
        name="new",
        requests_per_minute="",
        tokens_per_minute="7",
        budget="2",
        budget_period="day",
        expires="2030-01-01",
        weight="3",
        models="shown",
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/keys")
    key = await key_of(door, "new")
    assert (key.limits.requests_per_minute, key.limits.tokens_per_minute) == (None, 7)
    assert (key.limits.budget_microusd, key.limits.budget_period) == (2_000_000, "day")
    assert (key.models, key.weight) == (None, 3)
    answer = await owner.submit(f"/keys/{made['id']}", name="new", weight="0")
    assert answer.status_code == 400 and value_of(answer, "weight") == "0"


async def test_a_form_leaves_alone_what_it_does_not_name(door: Door, owner: Browser) -> None:
    expires_at = int(time.time()) + 5000
    made = await door.mint_key("a", expires_at=expires_at, models=[MODEL], weight=4)
    day = value_of(await owner.open(f"/keys/{made['id']}"), "expires")
    answer = await owner.submit(f"/keys/{made['id']}", name="b", expires=day)
    assert answer.status_code == 303
    key = await key_of(door, "b")
    assert (key.expires_at, key.models, key.weight) == (expires_at, (MODEL,), 4)


async def test_disabling_is_one_step_and_reversible(door: Door, owner: Browser) -> None:
    made = await door.mint_key("app")
    for step, status in (("disable", 401), ("enable", 200)):
        answer = await owner.submit(f"/keys/{made['id']}/{step}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/keys")
        assert (await door.chat(key=made["key"])).status_code == status


async def test_rotating_gives_a_new_secret_and_the_old_one_its_grace(
    door: Door, owner: Browser
) -> None:
    made = await door.mint_key("app")
    secrets = [made["key"]]
    for grace, status in (("3600", 200), ("0", 401)):
        answer = await owner.submit(f"/keys/{made['id']}/rotate", grace_s=grace)
        assert answer.status_code == 200
        secrets.append(SECRET.findall(answer.text)[0])
        assert ("The old secret is valid until" in text(answer)) is (grace == "3600")
        assert (await door.chat(key=secrets[-1])).status_code == 200
        assert (await door.chat(key=secrets[-2])).status_code == status
    for bad in ("", "-1", "soon", "99999999"):
        answer = await owner.submit(f"/keys/{made['id']}/rotate", grace_s=bad)
        assert answer.status_code == 400, bad
        assert SECRET.search(answer.text) is None


async def test_revoking_takes_the_name_and_is_final(door: Door, owner: Browser) -> None:
    made = await door.mint_key("the  app")
    path = f"/keys/{made['id']}/revoke"
    answer = await owner.submit(path, name="the apps")
    assert answer.status_code == 400 and value_of(answer, "name") == "the apps"
    assert (await door.chat(key=made["key"])).status_code == 200
    answer = await owner.submit(path, name=" the app ")
    assert (answer.status_code, answer.headers["location"]) == (303, "/keys")
    assert (await door.chat(key=made["key"])).status_code == 401
    assert made["id"] not in (await owner.open("/keys")).text
    assert made["id"] in (await owner.open("/keys?show=revoked")).text
    assert "revoked permanently" in text(await owner.open(f"/keys/{made['id']}"))
    for step in ("enable", "disable", "rotate"):
        answer = await owner.submit(f"/keys/{made['id']}/{step}", grace_s="0")
        assert answer.status_code == 409 and "<h1>Changed in the meantime</h1>" in answer.text


async def test_a_long_list_comes_in_pages(door: Door, owner: Browser) -> None:
    made = [a_key(number, name=f"key number {number}") for number in range(101)]
    await door.gateway.services.store.add_keys(made)
    pages = [await owner.open(path) for path in ("/keys", "/keys?page=2", "/keys?page=3")]
    assert [page.text.count("<tr data-key") for page in pages] == [50, 50, 1]
    assert "Page 2 of 3" in text(pages[1])
    shown = re.findall(r'<tr data-key="(\w+)"', "".join(page.text for page in pages))
    assert shown == [key.id for key in reversed(made)]
    assert (await owner.open("/keys?page=4")).status_code == 400


async def test_a_search_lists_what_matches_in_pages_of_its_own(door: Door, owner: Browser) -> None:
    keys = [
        a_key(
            number,
            name=f"{'shop' if number % 2 else 'lab'} {number}",
            status="revoked" if number % 10 == 0 else "active",
        )
        for number in range(1, 251)
    ]
    await door.gateway.services.store.add_keys(keys)
    for path, rows, words in (
        ("/keys?search=SHOP", 50, "125 matches"),
        ("/keys?search=SHOP&page=3", 25, "125 matches"),
        ("/keys?search=lab+100&show=revoked", 1, "1 match"),
        ("/keys?search=lab+100", 0, "No key in use matches lab 100"),
        (f"/keys?search={a_key(7).id}", 1, "1 match"),
        ("/keys?search=%3Cb%3E", 0, "No key in use matches <b>"),
    ):
        answer = await owner.open(path)
        assert answer.text.count("<tr data-key") == rows, path
        assert words in text(answer), path
    second = await owner.open("/keys?search=shop&page=2")
    assert "/keys?search=shop&amp;page=3" in second.text
    assert (await owner.open("/keys?search=shop&page=4")).status_code == 400


async def test_the_statement_of_a_key_is_of_a_month_that_it_has_seen(
    door: Door, owner: Browser
) -> None:
    new, old = await door.mint_key("new"), a_key(1, created_at=5)
    await door.gateway.services.store.add_keys([old])
    listed = (await owner.open("/keys")).text
    assert f"/usage/statement?key={new['id']}&amp;month=this" in listed
    assert f"/usage/statement?key={old.id}&amp;month=last" in listed


async def test_the_largest_page_of_keys_is_below_300_kilobytes(door: Door, owner: Browser) -> None:
    services, today = door.gateway.services, time.time()
    wide = [
        a_key(
            number,
            name="\N{GRINNING FACE}" * 100,
            models=tuple(f"model/{one}" for one in range(9)),
            limits=Limits(10**9, 10**9, 10**9, 10**15, "month"),
            last_used_at=5,
            expires_at=6,
        )
        for number in range(60)
    ]
    await services.store.add_keys(wide)
    rows = [
        a_row(at=today - day * 86_400, key_id=key.id, cost_microusd=None)
        for key in wide
        for day in range(30)
    ]
    await services.store.record(Batch(rows))
    answer = await owner.open("/keys")
    assert answer.text.count("<tr data-key") == 50
    assert len(answer.content) < 300_000


async def test_the_export_is_what_the_file_holds(door: Door, owner: Browser) -> None:
    made = await door.mint_key("app")
    answer = await owner.open("/keys/export")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == 'attachment; filename="api-keys.json"'
    assert answer.headers["cache-control"] == "no-store"
    (key,) = answer.json()["keys"]
    assert key["id"] == made["id"] and made["key"] not in answer.text
    file = Path(door.gateway.services.config.server.data_dir) / "api-keys.json"
    await eventually(lambda: made["id"] in exported_keys(file))
    assert json.loads(file.read_text())["keys"] == [key]
    written = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    assert f"last written {written_day(written)}" in text(await owner.open("/keys"))


def written_day(day: date) -> str:
    return f"{day.day} {day:%b %Y}"


PAGES = ("", "/new", "/export", "/ID", "/ID/rotate", "/ID/revoke")
FORMS = ("", "/ID", "/ID/disable", "/ID/enable", "/ID/rotate", "/ID/revoke")


async def test_only_the_owner_comes_in(door: Door) -> None:
    made, own = await door.mint_key("other"), await door.mint_key("holder")
    holder, guest = Browser(door), Browser(door)
    await holder.sign_in(own["key"])
    await guest.open("/")
    for part in PAGES:
        path = f"/keys{part}".replace("ID", made["id"])
        answer = await guest.open(path)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/login?next={path}")
        answer = await holder.open(path)
        rest = answer.text.replace(f'name="next" value="{path}"', "")  # of the choice of a language
        rest = rest.replace(f'href="/login?next={path}"', "")  # to come back with another key
        assert answer.status_code == 403 and made["id"] not in rest
        assert 'href="/keys"' not in answer.text
    for part in FORMS:
        path = f"/keys{part}".replace("ID", made["id"])
        for browser, status in ((guest, 401), (holder, 403)):
            answer = await browser.submit(path, name="holder", grace_s="0")
            assert answer.status_code == status, path
    key = await door.gateway.services.keys.get(made["id"])
    assert (key.status, key.redacted) == ("active", made["redacted"])


async def test_a_form_without_its_token_or_from_elsewhere_does_nothing(
    door: Door, owner: Browser
) -> None:
    made = await door.mint_key("app")
    for part in FORMS:
        path = f"/keys{part}".replace("ID", made["id"])
        fields = {"name": "app", "grace_s": "0"}
        for token in ("", "0" * 64):
            answer = await owner.submit(path, None, **fields, xsrf=token)
            assert answer.status_code == 403 and "<h1>Not allowed</h1>" in answer.text, path
        answer = await owner.submit(path, {"Sec-Fetch-Site": "cross-site"}, **fields)
        assert answer.status_code == 403, path
    (key,) = await door.gateway.services.keys.list()
    assert (key.status, key.redacted) == ("active", made["redacted"])


async def test_an_unknown_key_is_a_page_that_says_so(owner: Browser) -> None:
    unknown = "key_" + "0" * 16
    for part in PAGES[3:]:
        answer = await owner.open(f"/keys{part}".replace("ID", unknown))
        assert answer.status_code == 404 and "There is no such key." in answer.text
    for part in FORMS[1:]:
        answer = await owner.submit(f"/keys{part}".replace("ID", unknown), name="x", grace_s="0")
        assert answer.status_code == 404 and "There is no such key." in answer.text
    for path in ("/keys/x", f"/keys/{unknown}/nope", f"/keys/{unknown}%00"):
        assert (await owner.open(path)).status_code == 404


async def test_a_model_that_left_the_catalog_stays_until_it_is_unticked(
    door: Door, owner: Browser
) -> None:
    made, ring = await door.mint_key("app"), door.gateway.services.keys
    gone = structs.replace(
        await ring.get(made["id"]), id="key_" + "a" * 16, digest=bytes(32), models=("test/gone",)
    )
    await ring.import_keys([gone])
    path = f"/keys/{gone.id}"
    fields = {"name": "renamed", "models": "shown", "model:test/gone": "on"}
    assert 'name="model:test/gone" checked' in (await owner.open(path)).text
    assert (await owner.submit(path, None, **fields)).status_code == 303
    assert (await ring.get(gone.id)).models == ("test/gone",)
    assert (await owner.submit(path, None, **fields, **{f"model:{MODEL}": "on"})).status_code == 400


async def test_an_expired_key_is_called_so_and_can_be_renewed(door: Door, owner: Browser) -> None:
    made, ring = await door.mint_key("app"), door.gateway.services.keys
    old = structs.replace(
        await ring.get(made["id"]), id="key_" + "b" * 16, digest=bytes(32), name="old", expires_at=1
    )
    await ring.import_keys([old])
    said = text(await owner.open("/keys"))
    assert said.count(" active ") == 1 and said.count(" expired ") == 1
    form = {"name": "old", "expires": "1970-01-01"}
    assert (await owner.submit(f"/keys/{old.id}", None, **form)).status_code == 303
    form["expires"] = "2030-01-01"
    assert (await owner.submit(f"/keys/{old.id}", None, **form)).status_code == 303
    assert text(await owner.open("/keys")).count(" active ") == 2
