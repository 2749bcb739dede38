"""The documentation is whole, true and usable: every example runs against the server it names."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Browser, Page, expect
from support.browsing.axe import violations
from support.browsing.browser import READY, visiting
from support.browsing.clipboard import copied
from support.browsing.owner_pages import is_page
from support.fakes.upstream import (
    USAGE,
    Answer,
    FakeUpstream,
    Pause,
    Request,
    completion,
    events_of,
    refusal,
    stream_of,
    streaming,
)
from support.front_door import MODEL, OWNER, Door, bearer, front_door
from support.plain_http import ask, request
from support.visitors import Browser as Visitor
from support.waiting import PATIENCE_S

from server.api.routes import ROUTES
from server.config.settings_table import SHORT_VARIABLES, describe_settings
from server.description.error_table import error_rows
from server.description.model_fields import describe_entries
from webui.docs.parts import LANGUAGES, inline, prose
from webui.shell.texts import languages
from workers.request.chat_schema import Chat

SEES = "prices = { prompt = 1.0, completion = 2.0 }\ninput_modalities = ['text', 'image']"
SHOWN = r'<pre data-language="(\w+)"[^>]*><code>(.*?)</code></pre>'
NODE = """(key) => {
  globalThis.said = "";
  globalThis.process = {
    env: { ROXY_API_KEY: key }, stdout: { write: (text) => (globalThis.said += text) },
  };
  console.log = (...words) => (globalThis.said += words.join(" ") + "\\n");
}"""
PYTHON = """
import contextlib, io, json, sys
said = {}
for name, code in json.load(sys.stdin).items():
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(code, name, "exec"), {"__name__": "__main__"})
    except (Exception, SystemExit) as error:
        print(error, file=out)
    said[name] = out.getvalue()
json.dump(said, sys.stdout)
"""


def answer(request: Request) -> Answer:
    """Answer as a model does: with a call where there are tools, else with words."""
    if request.json.get("stream"):
        return stream_of(["Hel", "lo"], usage=USAGE)
    if request.json.get("response_format"):
        return completion('{"city": "Oslo"}')
    if request.json.get("tools") and request.json["messages"][-1]["role"] == "user":
        called = {"name": "weather", "arguments": '{"city": "Oslo"}'}
        calls = [{"id": "call_1", "type": "function", "function": called}]
        return completion(None, finish="tool_calls", message={"tool_calls": calls})
    return completion("Hello")


@contextlib.asynccontextmanager
async def documented(path: Path, **more: Any) -> AsyncIterator[Door]:
    """Run a gateway whose first available model takes pictures."""
    async with FakeUpstream() as upstream, front_door(path, upstream, prices=SEES, **more) as door:
        upstream.plan(answer)
        yield door


async def shown_examples(door: Door) -> dict[str, dict[str, str]]:
    """Read the examples off the page as a person would copy them: by id and language."""
    page = await door.client.get("/docs")
    assert page.status_code == 200, page.text
    found: dict[str, dict[str, str]] = {}
    for name, figure in re.findall(
        r'<figure class="example" id="example-([\w-]+)">(.*?)</figure>', page.text, re.DOTALL
    ):
        found[name] = {
            language: plain(code) for language, code in re.findall(SHOWN, figure, re.DOTALL)
        }
    return found


def plain(markup: str) -> str:
    """Return the text of some markup."""
    return html.unescape(re.sub(r"<[^>]+>", "", markup))


OWNERS = ("keys", "key-life", "usage", "watch")
"""Examples that need the owner key."""


async def key_for(door: Door, name: str) -> str:
    """Return the key that an example needs."""
    return OWNER if name in OWNERS else await door.mint("docs")


async def run(*command: str, key: str, cwd: Path, given: str = "") -> str:
    """Run a command that knows the key by its variable only; give what it said."""
    environ = {"PATH": os.environ["PATH"], "ROXY_API_KEY": key, "LC_ALL": "C.UTF-8"}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env=environ,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(given.encode())
    assert process.returncode == 0, err.decode()
    return out.decode()


EXPECTED = {
    "first": "Hello",
    "stream": "lo",
    "own-key": "remaining",
    "models": MODEL,
    "tools": "weather",
    "structured": "Oslo",
    "image": "Hello",
    "queue": "Hel",
    "kept": "done",
    "limits": "x-ratelimit-limit-requests",
    "errors": "404",
    "keys": "roxy_",
    "key-life": "revoked",
    "usage": MODEL,
    "watch": "finished",
}
"""What an example says, among other things."""


async def test_every_curl_example_runs_as_it_stands(tmp_path: Path) -> None:
    async with documented(tmp_path) as door:
        await door.chat()
        await door.usage_rows()
        examples = await shown_examples(door)
        assert set(examples) == {*EXPECTED, "key", "openapi"}
        assert set(examples) == languages()["en"].groups["examples"].keys()
        del examples["key"]
        for name, codes in examples.items():
            said = await run(
                "bash", "-c", codes["curl"], key=await key_for(door, name), cwd=tmp_path
            )
            assert EXPECTED.get(name, "") in said, name
            assert ('"error":{' in said) == (name == "errors"), said
        described = json.loads((tmp_path / "openapi.json").read_text())
        assert described["openapi"].startswith("3.1")


async def test_the_line_for_the_key_takes_it_from_the_keyboard(tmp_path: Path) -> None:
    async with documented(tmp_path) as door:
        code = (await shown_examples(door))["key"]["curl"]
        line = f"{code} && printenv ROXY_API_KEY"
        assert await run("bash", "-c", line, key="", cwd=tmp_path, given="k\n") == "k\n"


async def test_every_python_example_runs_as_it_stands(tmp_path: Path) -> None:
    async with documented(tmp_path) as door:
        await door.chat()
        await door.usage_rows()
        examples = await shown_examples(door)
        codes = {name: one["python"] for name, one in examples.items() if "python" in one}
        expected = EXPECTED | {"own-key": "key", "tools": "Hello", "limits": "60"}
        expected["openapi"] = "/chat/completions"
        for key, names in (
            (await door.mint("docs"), codes.keys() - set(OWNERS)),
            (OWNER, OWNERS),
        ):
            given = json.dumps({name: codes[name] for name in sorted(names)})
            said = json.loads(
                await run(sys.executable, "-c", PYTHON, key=key, cwd=tmp_path, given=given)
            )
            for name in names:
                assert expected[name] in said[name], f"{name}: {said[name]}"


async def test_every_javascript_example_runs_as_it_stands(
    chromium: Browser, tmp_path: Path
) -> None:
    async with (
        documented(tmp_path) as door,
        visiting(chromium, door, expected=("404",)) as page,
    ):
        await door.chat()
        await door.usage_rows()
        await page.goto("/docs")
        examples = await shown_examples(door)
        codes = {name: one["javascript"] for name, one in examples.items() if "javascript" in one}
        expected = EXPECTED | {"own-key": "key", "tools": "Hello", "limits": "60"}
        expected["openapi"] = "/chat/completions"
        assert codes.keys() == expected.keys()
        for name, code in codes.items():
            await page.evaluate(NODE, await key_for(door, name))
            said = await page.evaluate(f"async () => {{ {code}\n return globalThis.said; }}")
            assert expected[name] in said, f"{name}: {said}"


KEYLESS = ("openapi", "key")
"""Examples that need no key, or show how to give one."""


async def test_every_python_example_says_when_the_key_is_refused(tmp_path: Path) -> None:
    async with documented(tmp_path) as door:
        examples = await shown_examples(door)
        codes = {n: one["python"] for n, one in examples.items() if n not in KEYLESS}
        given = json.dumps(codes)
        said = json.loads(
            await run(sys.executable, "-c", PYTHON, key="roxy_wrong", cwd=tmp_path, given=given)
        )
        for name in codes:
            assert "incorrect" in said[name].lower(), f"{name}: {said[name]}"


async def test_every_javascript_example_says_when_the_key_is_refused(
    chromium: Browser, tmp_path: Path
) -> None:
    async with (
        documented(tmp_path) as door,
        visiting(chromium, door, expected=("401", "429")) as page,
    ):
        await page.goto("/docs")
        examples = await shown_examples(door)
        await page.evaluate(NODE, "roxy_wrong")
        for name in examples.keys() - set(KEYLESS):
            code = f"{examples[name]['javascript']}\n return globalThis.said;"
            said = await page.evaluate(f"(async () => {{ {code} }})().catch(String)")
            assert "incorrect" in said.lower(), f"{name}: {said}"


def everything(page: str) -> Iterator[str]:
    """List what must stand on a page, as it is written there, if it does not."""
    told = [one.path for one in describe_settings()]
    told += [one.env for one in describe_settings()]
    told += [one.doc for one in describe_settings()]
    told += [one.env for one in SHORT_VARIABLES]
    for table in describe_entries():
        told += [table.heading, *(field.name for field in table.fields)]
        told += [field.doc for field in table.fields]
    told += [row.code or row.type for row in error_rows()] + [row.cause for row in error_rows()]
    told += list(Chat.__struct_fields__)
    for route in ROUTES:
        path = f"/api/v1/{route.path}" if route.api else route.path
        methods = {"get", "post", "patch", "delete"} & set(vars(route.handler))
        told += [f"{method.upper()} {path}" for method in methods]
    return (one for one in told if " ".join(one.replace("`", "").split()) not in page)


async def test_every_route_error_setting_field_and_model_is_told(tmp_path: Path) -> None:
    async with documented(tmp_path) as door:
        page = " ".join(plain((await door.get("/docs")).text).split())
        text = (await door.get("/docs.md")).text
        assert list(everything(page)) == []
        assert list(everything(" ".join(text.replace("`", "").replace("\\|", "|").split()))) == []
        for model in door.gateway.services.catalog:
            for told in (page, text):
                assert model.id in told and model.name in told


async def test_guests_see_the_models_that_work_and_no_prices(tmp_path: Path) -> None:
    async with documented(tmp_path) as door:
        key = await door.mint()
        for path in ("/docs", "/docs.md"):
            guest, holder = (await door.get(path, None)).text, (await door.get(path, key)).text
            for text in (guest, holder):
                assert MODEL in text and "zai/glm-4.5" not in text
            assert "$2.00" in holder and "$2.00" not in guest


def test_every_field_of_a_chat_request_has_words() -> None:
    assert set(languages()["en"].groups["docs_fields"]) == set(Chat.__struct_fields__)


async def test_the_address_is_this_servers_everywhere(tmp_path: Path) -> None:
    own = '[server]\nbase_url = "https://ai.example.org/roxy"'
    async with documented(tmp_path, settings=own) as door:
        for path in ("/docs", "/docs.md"):
            text = (await door.client.get(path)).text
            assert "https://ai.example.org/roxy/api/v1/chat/completions" in text
            assert f":{door.port}" not in text
            assert not re.search(r"\bBASE_URL|MODEL_ID", text)


async def test_no_example_is_written_for_a_host_that_a_shell_would_read(tmp_path: Path) -> None:
    async with documented(tmp_path) as door:
        for host in ("a'b", 'a"b', "$(id)", "a`id`", "a;id", "a b", "<script>"):
            for path in ("/docs", "/docs.md"):
                head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                told = await door.raw(head.encode())
                assert told.startswith(b"HTTP/1.1 400") and b"curl" not in told


async def test_no_page_holds_a_secret(tmp_path: Path) -> None:
    async with documented(tmp_path) as door:
        browser = Visitor(door)
        key = await door.mint("docs")
        for secret in (key, OWNER):
            await browser.sign_in(secret)
            for path in ("/docs", "/docs.md"):
                text = (await browser.open(path)).text
                assert key not in text and OWNER not in text and "upstream-secret" not in text


async def test_a_model_is_chosen_by_the_address(tmp_path: Path) -> None:
    async with documented(tmp_path) as door:
        assert MODEL in (await shown_examples(door))["first"]["curl"]
        chosen = await door.get("/docs?model=anthropic/claude-sonnet-4")
        assert "anthropic/claude-sonnet-4</span>&quot;" in chosen.text
        wrong = await door.client.get("/docs", params={"model": "<script>alert(1)</script>"})
        assert wrong.status_code == 404 and "alert(1)" not in wrong.text
        text_only = await door.get("/docs.md?model=zai/glm-4.5")
        assert text_only.text.count(f'"{MODEL}"') == 3  # for pictures it takes another one


async def test_the_page_has_nothing_inline_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    async with documented(tmp_path) as door:
        outline = is_page(await ask(door.port, request("GET", "/docs", None, key=None)), 200)
        assert "/docs.md" in outline.links
        assert outline.tags.count("h1") == 1
        front = await door.client.get("/")
        assert front.text.count('href="/docs"') >= 2  # the navigation, without scripts


async def test_the_markdown_is_markdown_and_its_errors_are_pages(tmp_path: Path) -> None:
    async with documented(tmp_path) as door:
        told = await door.client.get("/docs.md")
        assert told.headers["content-type"] == "text/markdown; charset=utf-8"
        assert told.text.startswith("# Roxy AI") and "```python\nimport os" in told.text
        refused = await door.client.post("/docs.md")
        assert refused.status_code == 405
        assert refused.headers["content-type"].startswith("text/html")


async def test_the_language_is_remembered_by_the_server(tmp_path: Path) -> None:
    async with documented(tmp_path) as door:
        for cookie, chosen in (("python", "python"), ("<x>", "curl"), ("", "curl")):
            page = await door.client.get("/docs", headers={"Cookie": f"roxy_language={cookie}"})
            assert set(re.findall(r'value="(\w+)" checked', page.text)) == {chosen}


def test_prose_is_escaped_whatever_it_holds() -> None:
    assert inline("<b> `<i>` **<u>** [<a>](/x)") == (
        '&lt;b&gt; <code>&lt;i&gt;</code> <strong>&lt;u&gt;</strong> <a href="/x">&lt;a&gt;</a>'
    )
    assert prose("one\ntwo\n- a\n- <c>\nd") == (
        "<p>one</p>\n<p>two</p>\n<ul><li>a</li><li>&lt;c&gt;</li></ul>\n<p>d</p>"
    )


async def open_docs(page: Page, path: str = "/docs") -> None:
    """Open the page and wait until its script has begun."""
    await page.goto(path)
    await page.locator(READY).wait_for(state="attached")


async def test_one_language_and_one_model_hold_for_all_examples(
    chromium: Browser, tmp_path: Path
) -> None:
    async with (
        documented(tmp_path) as door,
        visiting(chromium, door, extra_http_headers=bearer(OWNER)) as page,
    ):
        await open_docs(page)
        python = page.locator('pre[data-language="python"]')
        await expect(python.first).to_be_hidden()
        tabs = page.get_by_role("radio", name="curl")
        await tabs.nth(3).focus()
        await page.keyboard.press("ArrowRight")
        for number in range(await python.count()):
            await expect(python.nth(number)).to_be_visible()
        await page.get_by_label("Model in all examples").select_option("meta/llama-3.3-70b")
        first = page.locator("#example-first pre:visible")
        await expect(first).to_contain_text('model="meta/llama-3.3-70b"')
        await expect(page.locator("#example-image pre:visible")).to_contain_text(MODEL)
        await page.reload()
        await expect(first).to_contain_text('model="meta/llama-3.3-70b"')


async def test_without_scripts_every_tab_can_be_reached(chromium: Browser, tmp_path: Path) -> None:
    async with (
        documented(tmp_path) as door,
        visiting(
            chromium, door, java_script_enabled=False, extra_http_headers=bearer(OWNER)
        ) as page,
    ):
        await page.goto("/docs")
        frame = page.locator("#example-first")
        for name, label in LANGUAGES.items():
            await frame.get_by_label(label, exact=True).check()
            await expect(frame.locator(f'pre[data-language="{name}"]')).to_be_visible()
            await expect(frame.locator("pre:visible")).to_have_count(1)
        await page.get_by_label("Model in all examples").select_option("zai/glm-4.5")
        await page.get_by_role("main").get_by_role("button", name="Use").click()
        await expect(frame.locator("pre:visible")).to_contain_text("zai/glm-4.5")
        await expect(page.get_by_role("button", name=re.compile("Run|^Copy .*"))).to_have_count(0)
        await page.locator("#post_keys summary").click()
        await expect(page.locator("#post_keys")).to_contain_text("limits.budget_microusd")


async def test_an_example_and_the_page_are_copied_exactly(
    chromium: Browser, tmp_path: Path
) -> None:
    async with (
        documented(tmp_path) as door,
        visiting(chromium, door, permissions=["clipboard-read", "clipboard-write"]) as page,
    ):
        await page.clock.install()
        await open_docs(page)
        await page.clock.pause_at("2100-01-01")  # the label stays until the clock goes on
        examples = await shown_examples(door)
        await page.get_by_role("button", name="Copy “First request”").click()
        await expect(page.get_by_role("status")).to_have_text("Copied")
        curl = examples["first"]["curl"]
        assert await copied(page, curl) == curl
        await page.get_by_role("link", name="Copy as Markdown").click()
        await expect(page.get_by_role("link", name="Copied")).to_be_visible()
        markdown = (await door.client.get("/docs.md")).text
        assert await copied(page, markdown) == markdown


def runner(page: Page, name: str = "chat") -> Any:
    """Find what runs an example."""
    return page.locator(f'[data-run="{name}"]')


async def test_a_guest_runs_an_example_and_reads_what_it_used(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with visiting(chromium, door) as page:
        go = asyncio.Event()
        begun, *rest = events_of(["Water"], usage=None, finish=None, done=False)
        upstream.plan(
            streaming([begun, *rest, Pause(go), *events_of([" flows."], usage=USAGE)[1:]])
        )
        await open_docs(page)
        frame = runner(page)
        await frame.get_by_role("button", name="Run").click()
        await expect(frame.locator(".answer")).to_have_text("Water")
        await expect(frame.get_by_role("button", name="Stop")).to_be_focused()
        go.set()
        await expect(frame.locator(".answer")).to_have_text("Water flows.")
        await expect(frame).to_contain_text("Complete · 11 tokens in, 7 out")
        sent = upstream.requests[0].json
        assert sent["messages"][0]["content"] == "A haiku on rivers."
        (row,) = await door.usage_rows()
        assert row.key_id == "guest"
        await runner(page, "models").get_by_role("button", name="Run").click()
        await expect(runner(page, "models").locator(".answer")).to_contain_text(f'"id": "{MODEL}"')
        await expect(runner(page, "models")).to_contain_text("200: 1 model")


async def test_stop_stops_the_upstream(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with visiting(chromium, door) as page:
        upstream.plan(streaming(events_of(["Water"], finish=None, done=False), end="hang"))
        await open_docs(page)
        frame = runner(page)
        await frame.get_by_role("button", name="Run").click()
        await expect(frame.locator(".answer")).to_have_text("Water")
        await frame.get_by_role("button", name="Stop").click()
        await expect(frame).to_contain_text("Stopped")
        async with asyncio.timeout(PATIENCE_S):
            await upstream.requests[0].left.wait()
        await expect(frame.get_by_role("button", name="Run")).to_be_focused()


async def test_leaving_the_page_stops_what_it_runs(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with visiting(chromium, door) as page:
        upstream.plan(streaming(events_of(["Water"], finish=None, done=False), end="hang"))
        await open_docs(page)
        await runner(page).get_by_role("button", name="Run").click()
        await expect(runner(page).locator(".answer")).to_have_text("Water")
        await page.goto("/login")
        async with asyncio.timeout(PATIENCE_S):
            await upstream.requests[0].left.wait()


@pytest.mark.gateway(settings="[queue]\nmax_wait_s = 1\n")
async def test_a_refusal_is_told_in_words(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with visiting(
        chromium, door, expected=("429", "503"), extra_http_headers=bearer(OWNER)
    ) as page:
        upstream.plan(refusal(429, headers={"Retry-After": "17"}))
        await open_docs(page)
        frame = runner(page)
        await frame.get_by_role("button", name="Run").click()
        await expect(frame.locator(".answer")).to_contain_text("429 rate_limit_exceeded")
        await expect(frame.locator(".answer")).to_contain_text("Try again in 17 s.")
        await page.get_by_label("Model in all examples").select_option("zai/glm-4.5")
        await frame.get_by_role("button", name="Run").click()
        await expect(frame.locator(".answer")).to_contain_text("503 no_upstream_configured")


async def test_where_guests_are_not_welcome_run_leads_to_the_sign_in(tmp_path: Path) -> None:
    async with documented(tmp_path, settings="[guests]\nenabled = false") as door:
        page = (await door.client.get("/docs")).text
        assert 'href="/login?next=/docs"' in page and 'data-part="run"' not in page
        assert "Guest access is turned off" in page
        assert "No key yet?" not in page, "there is no Run to press"
        assert "No key yet?" not in (await door.client.get("/docs.md")).text
        made = await door.mint("docs")
        signed_in = await door.client.get("/docs", headers=bearer(made))
        assert 'data-part="run"' in signed_in.text and "No key yet?" in signed_in.text


WIDTHS = {320: 568, 360: 740, 768: 1024, 1440: 900}


@pytest.mark.parametrize("width", WIDTHS)
async def test_nothing_is_wider_than_the_screen(
    chromium: Browser, tmp_path: Path, width: int
) -> None:
    size = {"width": width, "height": WIDTHS[width]}
    async with (
        documented(tmp_path) as door,
        visiting(
            chromium, door, viewport=size, screen=size, is_mobile=width < 700, has_touch=width < 700
        ) as page,
    ):
        await open_docs(page)
        await page.evaluate("""() => {
          for (const fold of document.querySelectorAll("details")) fold.open = true;
        }""")
        assert await page.evaluate("() => document.documentElement.scrollWidth") == width
        outside = await page.evaluate("""() => [...document.querySelectorAll("main *")]
          .filter((node) => !node.closest(".table, pre, .unseen, .toc")
            && node.checkVisibility() && node.getBoundingClientRect().right > screen.width + 1)
          .map((node) => node.outerHTML.slice(0, 100))""")
        assert outside == []


@pytest.mark.time_limit(240)
@pytest.mark.parametrize(
    ("width", "height", "scheme"),
    [(1280, 860, "light"), (360, 740, "dark"), (640, 430, "light")],
)
async def test_axe_finds_nothing(
    chromium: Browser, tmp_path: Path, scheme: Literal["light", "dark"], width: int, height: int
) -> None:
    size = {"width": width, "height": height}
    async with (
        documented(tmp_path) as door,
        visiting(chromium, door, color_scheme=scheme, viewport=size) as page,
    ):
        await open_docs(page)
        await page.locator("#post_keys summary").click()
        if width < 700:
            await page.locator(".toc-fold summary").click()
        await runner(page).get_by_role("button", name="Run").click()
        await expect(runner(page)).to_contain_text("Complete")
        assert await violations(page) == []
