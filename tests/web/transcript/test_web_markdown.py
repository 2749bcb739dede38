"""What models write, as nodes on the page: safe, and the same however it was cut."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, Route, expect
from support.browsing.browser import PHONE, open_chat, visiting
from support.browsing.markdown_corpus import HOSTILE, READ, SAMPLES
from support.browsing.page_waiting import COPIED_MS, becomes, hold_timers
from support.fakes.upstream import FakeUpstream, stream_of
from support.front_door import Door, front_door
from support.inputs.pictures import PNG

from webui.shell.assets import packaged_assets

CLIPBOARD = ["clipboard-read", "clipboard-write"]
HELPERS = """
async (build) => {
  const at = (name) => import(`/static/${build}/js/chat/markdown/${name}`);
  const { Blocks, renderMarkdown } = await at("blocks.js");
  const { math } = await at("math.js");
  const { codeBlock } = await at("code.js");
  const stage = document.getElementById("transcript");
  stage.closest("main").classList.remove("fresh"); // an empty transcript is not shown
  const settle = async () => {
    await import(`/static/${build}/vendor/hljs.js`);
    await import(`/static/${build}/vendor/temml.js`);
    for (let n = 0; n < 5; n += 1) await new Promise((resolve) => setTimeout(resolve));
  };
  math("x", false);
  codeBlock("1", "python", true);
  await settle();
  const area = () => {
    const node = document.createElement("div");
    node.className = "md";
    stage.replaceChildren(node);
    return node;
  };
  window.markdown = {
    whole: async (text) => {
      const node = area();
      renderMarkdown(node, text);
      await settle();
      return node.innerHTML;
    },
    grown: async (text, cuts) => {
      const node = area();
      const blocks = new Blocks(node);
      for (const cut of cuts) blocks.update(text.slice(0, cut));
      blocks.finish(text);
      await settle();
      return node.innerHTML;
    },
    blocks: () => new Blocks(area()),
    settle,
  };
}
"""


@pytest.fixture
async def page(chromium: Browser, tmp_path: Path) -> AsyncIterator[Page]:
    """Return a page that makes markdown of what a test hands it."""
    async with front_door(tmp_path, demo=True) as door, visiting(chromium, door) as page:
        await open_chat(page)
        await page.evaluate(HELPERS, packaged_assets().build)
        yield page


async def whole(page: Page, text: str) -> str:
    """Show a text at once."""
    return str(await page.evaluate("(text) => markdown.whole(text)", text))


def cuttings(text: str) -> list[list[int]]:
    """Cut a text in five ways: by letter, by three, by line, at random, not at all."""
    size = len(text)
    draw = random.Random(size)
    lines = [at + 1 for at, letter in enumerate(text) if letter == "\n"]
    return [
        list(range(1, size + 1)),
        list(range(3, size + 1, 3)),
        lines,
        sorted(draw.sample(range(1, size + 1), min(size, 12))),
        [],
    ]


@pytest.mark.time_limit(240)
async def test_a_text_that_grows_ends_as_the_whole_would(page: Page) -> None:
    for text in SAMPLES:
        wanted = await whole(page, text)
        cuts = cuttings(text)
        grown = await page.evaluate(
            """async ([text, cuttings]) => {
              const all = [];
              for (const cuts of cuttings) all.push(await markdown.grown(text, cuts));
              return all;
            }""",
            [text, cuts],
        )
        for cut, html in zip(cuts, grown, strict=True):
            assert html == wanted, f"{text!r} cut at {cut}"


async def test_nothing_a_model_writes_runs(page: Page) -> None:
    for text in HOSTILE:
        await whole(page, text)
        found: Any = await page.evaluate("""() => {
          const area = document.querySelector("#transcript");
          const bad = area.querySelectorAll(
            "script, iframe, object, embed, style, form, base, link, svg:not(.icon), img, input," +
            "[onerror], [onclick]");
          const links = [...area.querySelectorAll("[href]")].map((one) => one.getAttribute("href"));
          return { hit: window.hit ?? null, bad: [...bad].map((node) => node.outerHTML), links };
        }""")
        links = [href for href in found["links"] if "icons.svg#" not in href]
        assert found["hit"] is None, text
        assert found["bad"] == [], text
        assert all(href.startswith("https://example.org") for href in links), (text, links)


async def test_finished_paragraphs_are_left_alone(page: Page) -> None:
    same = await page.evaluate("""() => {
      const blocks = markdown.blocks();
      blocks.update("First paragraph.\\n\\nSecond line\\n");
      const first = blocks.parent.firstElementChild;
      getSelection().selectAllChildren(first);
      for (const more of ["\\n- a", "\\n- b\\n\\nThird", " grows"]) {
        blocks.update("First paragraph.\\n\\nSecond line\\n" + more);
      }
      blocks.finish("First paragraph.\\n\\nSecond line\\n\\n- a\\n- b");
      return blocks.parent.firstElementChild === first && getSelection().toString();
    }""")
    assert same == "First paragraph."


async def test_blocks_inside_a_block_that_grows_are_left_alone(page: Page) -> None:
    starts = {
        "details": "<details><summary>a</summary>\n\nFirst\n\n",
        "callout": "> [!NOTE]\n> First\n>\n> ",
        "quote": "> First\n>\n> ",
        "list": "- First\n- ",
        "paragraph": "**First** and ",
    }
    for name, start in starts.items():
        same = await page.evaluate(
            """([start]) => {
              const blocks = markdown.blocks();
              blocks.update(start + "Second");
              const first = document.evaluate(".//text()[contains(., 'First')]", blocks.parent,
                null, XPathResult.FIRST_ORDERED_NODE_TYPE).singleNodeValue;
              for (const more of ["Second grows", "Second grows on"]) blocks.update(start + more);
              blocks.finish(start + "Second grows on.");
              return [first.isConnected, blocks.parent.textContent.includes("grows on.")];
            }""",
            [start],
        )
        assert same == [True, True], name


async def test_an_open_fence_grows_in_place(page: Page) -> None:
    told = await page.evaluate("""async () => {
      const blocks = markdown.blocks();
      blocks.update("```python\\nx = 1\\n");
      const node = blocks.parent.querySelector("code").firstChild;
      blocks.update("```python\\nx = 1\\ny = 2\\n``");
      const grown = blocks.parent.querySelector("code").firstChild === node && node.data;
      blocks.update("```python\\nx = 1\\ny = 2\\n```\\n\\nafter\\n");
      await markdown.settle();
      return [grown, blocks.parent.querySelectorAll("figure").length,
              blocks.parent.querySelectorAll("code .hljs-number").length];
    }""")
    assert told == ["x = 1\ny = 2", 1, 2]


async def test_what_models_write_is_shown_as_readers_expect(page: Page) -> None:
    for text, selector, wanted in READ:
        await whole(page, text)
        texts = await page.evaluate(
            """(selector) => {
              const area = document.querySelector("#transcript");
              const found = area.matches(selector) ? [area] : area.querySelectorAll(selector);
              return [...found].map((node) => node.textContent);
            }""",
            selector,
        )
        if wanted is None:
            assert len(texts) == 3, text
        else:
            assert texts == wanted, text


async def test_highlighting_says_what_the_library_says(page: Page) -> None:
    samples = {
        "python": "@dec\ndef f(a: int = 1) -> str:\n    return f'{a!r}'  # note",
        "javascript": "class A extends B { #x = /re/g; get y() { return `a${this.#x}`; } }",
        "bash": 'export A="$(ls -l | wc)" && if [ -f x ]; then echo $A; fi',
        "json": '{"a": [1, true, null, "x"]}',
        "sql": "SELECT count(*) AS n FROM t WHERE a = 'b' -- c",
        "rust": 'fn main() -> Result<(), E> { let x: u8 = 0xff; println!("{x}"); }',
        "xml": "<a href='x'>y &amp; z</a><script>let a = 1;</script>",
        "yaml": "a:\n  - b: 'c'\n  - !!tag d # e",
        "css": "a:hover > .b { color: #fff; margin: calc(1px + 2em) }",
    }
    for language, code in samples.items():
        told = await page.evaluate(
            """async ([build, language, code]) => {
              const { default: hljs } = await import(`/static/${build}/vendor/hljs.js`);
              const { spans } = await import(`/static/${build}/js/chat/markdown/code.js`);
              const result = hljs.highlight(code, { language });
              const node = document.createElement("code");
              node.append(...spans(result._emitter.rootNode.children));
              return [node.innerHTML.replaceAll('"', "").replaceAll("'", ""),
                result.value.replaceAll("&quot;", "").replaceAll("&#x27;", "").replaceAll('"', "")];
            }""",
            [packaged_assets().build, language, code],
        )
        assert told[0] == told[1], language


async def test_images_elsewhere_stay_where_they_are(page: Page) -> None:
    await whole(page, "![a chart](https://example.org/chart.png)")
    area = page.locator("#transcript")
    await expect(area).to_contain_text("Image “a chart” on example.org")
    await expect(area.get_by_role("button", name="Load image")).to_be_visible()
    await expect(area.locator("img")).to_have_count(0)


async def test_an_image_elsewhere_is_loaded_apart_as_is_said(page: Page) -> None:
    address = "https://example.org/chart.png"
    told: list[Route] = []

    async def serve(route: Route) -> None:
        told.append(route)
        await route.fulfill(body=PNG, content_type="image/png")

    await page.context.route("https://example.org/**", serve)
    await whole(page, f"![a chart]({address})")
    area = page.locator("#transcript")
    await expect(area).to_contain_text("It opens in a new tab, and that site")
    assert not told
    async with page.expect_popup() as opening:
        await area.get_by_role("button", name="Load image").click()
    image = await opening.value
    await image.wait_for_load_state()
    assert image.url == address
    assert await image.evaluate("() => [window.opener, document.referrer]") == [None, ""]
    assert "referer" not in await told[0].request.all_headers()
    await expect(area.locator("img")).to_have_count(0)


async def test_links_open_apart_and_say_where_they_go(page: Page) -> None:
    await whole(page, "[here](https://example.org/page)")
    link = page.get_by_role("link", name="here")
    await expect(link).to_have_attribute("rel", "noopener noreferrer")
    await expect(link).to_have_attribute("target", "_blank")
    content = "(node) => getComputedStyle(node, '::after').content"
    assert await link.evaluate(content) == "none"
    await link.hover()
    assert await link.evaluate(content) == '"example.org"'
    await page.mouse.move(0, 0)
    assert await link.evaluate(content) == "none"
    await link.focus()
    assert await link.evaluate(content) == '"example.org"'


async def test_code_is_copied_exactly_however_wide(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    code = f"def f():\n\treturn '  <&>'\n{'long_name ' * 200}\n"
    async with visiting(chromium, door, viewport=PHONE, permissions=CLIPBOARD) as page:
        upstream.plan(stream_of([f"Look:\n\n```python\n{code}```\n"]))
        await open_chat(page)
        await page.get_by_role("textbox", name="Message").fill("Hi")
        await page.keyboard.press("Enter")
        await hold_timers(page, COPIED_MS)
        await page.get_by_role("button", name="Copy code").click()
        await expect(page.get_by_role("button", name="Copied")).to_be_visible()
        copied = await page.evaluate("() => navigator.clipboard.readText()")
        assert copied == code.removesuffix("\n")
        await expect(page.locator("figure.code figcaption > span").first).to_have_text("python")
        await expect(page.locator("figure.code .hljs-keyword").first).to_be_visible()
        await page.locator("figure.code pre").hover()
        await page.mouse.wheel(5_000, 0)
        await becomes(page, "() => document.querySelector('figure.code pre').scrollLeft > 1000")
        assert await page.evaluate("""() => {
          const { scrollLeft, scrollWidth, clientWidth } = document.querySelector("#scroller");
          return scrollLeft === 0 && scrollWidth <= clientWidth;
        }""")
        assert await page.evaluate("() => document.documentElement.scrollWidth") == PHONE["width"]


COPIED = """async () => {
  const [item] = await navigator.clipboard.read();
  const read = async (type) => (item.types.includes(type) ? (await item.getType(type)).text() : "");
  return [await read("text/plain"), await read("text/html")];
}"""
ANSWER = """Look **here** at $x_1$:

| a | b |
|---|---:|
| `1` | x<br>y |

$$E = mc^2$$

```python app.py
pass
```

- one
- two"""


async def test_answers_tables_formulas_and_code_are_copied_and_saved(
    chromium: Browser, upstream: FakeUpstream, door: Door
) -> None:
    async with visiting(chromium, door, permissions=CLIPBOARD) as page:
        upstream.plan(stream_of([ANSWER]))
        await open_chat(page)
        box = page.get_by_role("textbox", name="Message")
        await box.fill("See:\n```js\nlet a = 1;\n```\n- `x` *y*\n  # z")
        await page.keyboard.press("Enter")
        answer = page.get_by_role("article", name="Assistant")
        end_held = await hold_timers(page, COPIED_MS)

        async def copied(name: str) -> list[str]:
            button = answer.get_by_role("button", name=name)
            await button.click()
            await expect(answer.get_by_role("button", name="Copied")).to_be_visible()
            texts: list[str] = await page.evaluate(COPIED)
            await end_held()
            await expect(button).to_be_visible()
            return texts

        text, html = await copied("Copy answer")
        assert text == ANSWER
        assert "<strong>here</strong> at $x_1$" in html and "$$E = mc^2$$" in html
        assert '<td align="right">' in html and "<li>one</li>" in html
        assert "class=" not in html and "<button" not in html and "Wrap" not in html
        text, html = await copied("Copy table")
        assert text == 'a\tb\n1\t"x\ny"\n'
        assert "<table>" in html.replace("<meta charset='utf-8'>", "") and "<code>1</code>" in html
        text, html = await copied("Copy LaTeX")
        assert text == "E = mc^2" and html == ""

        wrap = answer.get_by_role("button", name="Wrap")
        await expect(wrap).to_have_attribute("aria-pressed", "false")
        await wrap.press("Enter")
        await expect(wrap).to_have_attribute("aria-pressed", "true")
        await expect(answer.locator("pre")).to_have_css("white-space-collapse", "preserve")
        async with page.expect_download() as saving:
            await answer.get_by_role("button", name="Download code").click()
        saved = await saving.value
        assert saved.suggested_filename == "app.py"
        assert (await saved.path()).read_text() == "pass\n"

        await answer.locator(".md").evaluate("(node) => getSelection().selectAllChildren(node)")
        await page.keyboard.press("ControlOrMeta+c")
        text, html = await page.evaluate(COPIED)
        assert text == (
            "Look here at $x_1$:\n\na\tb\n1\tx\ny\n\n$$E = mc^2$$\n\npass\n\n- one\n- two"
        )
        assert "style=" not in html.split("</table>")[0] and "<strong>here</strong>" in html

        said = page.get_by_role("article", name="You")
        await expect(said.locator("pre")).to_have_text("let a = 1;")
        await expect(said.locator("pre .hljs-keyword")).to_have_text("let")
        assert await said.locator("p").all_inner_texts() == ["See:", "- x *y*", "  # z"]
        await said.get_by_role("button", name="Copy message").click()
        await expect(said.get_by_role("button", name="Copied")).to_be_visible()
        assert (await page.evaluate(COPIED))[0].endswith("```\n- `x` *y*\n  # z")


async def test_copying_works_on_plain_http(chromium: Browser, demo_door: Door) -> None:
    async with visiting(chromium, demo_door) as page:
        await open_chat(page, f"http://roxy.test:{demo_door.port}/")
        assert await page.evaluate("() => isSecureContext") is False
        await page.get_by_role("textbox", name="Message").fill("Hello")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status").last).to_contain_text("complete")
        await hold_timers(page, COPIED_MS)
        await page.get_by_role("button", name="Copy code").first.click()
        done = page.get_by_role("button", name="Copied").or_(page.get_by_text("Press Ctrl+C"))
        await expect(done.first).to_be_visible()


async def test_code_in_a_table_is_not_torn_and_icons_grow_with_the_text(page: Page) -> None:
    """A wide table is scrolled; the size of text is the reader's."""
    await page.set_viewport_size(PHONE)
    row = "| `demo: cut the answer short` | what it does, in some words more than fit in a line |"
    await whole(page, f"| Flag | Meaning |\n|---|---|\n{row}")
    code, table = page.get_by_role("code"), page.get_by_role("group", name="Table")
    assert await code.evaluate("(node) => node.getClientRects().length") == 1
    inner, cell = await code.bounding_box(), await code.locator("..").bounding_box()
    assert inner and cell and inner["x"] + inner["width"] <= cell["x"] + cell["width"]
    assert await page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
    icon = page.get_by_role("button", name="Copy table").locator("svg")
    before = await icon.bounding_box()
    await page.evaluate("() => { document.documentElement.style.fontSize = '200%'; }")
    after = await icon.bounding_box()
    assert before and after and after["width"] == 2 * before["width"]
    await expect(table).to_be_visible()
