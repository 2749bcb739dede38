"""Documents, photos and long texts in the chat: what is attached, shown, sent and kept."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, FilePayload, Locator, Page, expect
from support.browsing.axe import violations
from support.browsing.browser import open_chat, say, visiting
from support.browsing.chat_page import answers, box, send_button
from support.browsing.chatting import chatting
from support.browsing.signing_in import sign_in
from support.builders.catalogs import second_model
from support.fakes.answers import refusal
from support.fakes.upstream import USAGE, FakeUpstream, stream_of
from support.inputs.office_files import paragraph as line
from support.inputs.office_files import pdf_file, sheet_file, word_file, zipped

REFUSED = ("400 (Bad Request)",)
"""What the browser notes on its console when a document is refused."""

CAMERA = """async ([name, width, height, type]) => {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  for (let at = 0; at < 400; at++) {
    context.fillStyle = `hsl(${at} 70% 50%)`;
    context.fillRect((at * 97) % width, (at * 61) % height, width / 9, height / 9);
  }
  const made = new Uint8Array(await (await canvas.convertToBlob({ type })).arrayBuffer());
  const note = new TextEncoder().encode("Exif\\0\\0 GPS 59.91 10.75");
  const head = new Uint8Array([0xff, 0xe1, 0, note.length + 2, ...note]);
  const parts = type === "image/jpeg" ? [made.slice(0, 2), head, made.slice(2)] : [made];
  const data = new DataTransfer();
  data.items.add(new File(parts, name, { type }));
  const input = document.querySelector('form input[type="file"]');
  input.files = data.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
}"""
SIZE_OF = """async (url) => {
  const image = await createImageBitmap(new Blob([Uint8Array.from(atob(url.split(",")[1]),
    (letter) => letter.charCodeAt(0))]));
  return [image.width, image.height];
}"""
LEFT_OUT = """async (many) => {
  const main = document.querySelector('script[src$="js/chat/main.js"]').src;
  const module = main.replace("main.js", "state/records.js");
  const { bytesOfTurns, imagesLeftOut } = await import(module);
  const image = (id, size) => ({ text: "", files: [{ id, size, kind: "image", name: id }] });
  const turns = Array.from({ length: many }, (_, at) => image(`i${at}`, 1000));
  const large = [image("a", 8e6), image("b", 8e6), { text: "And now?", files: [] }];
  return {
    many: [...imagesLeftOut(turns)],
    large: [...imagesLeftOut(large)],
    last: [...imagesLeftOut([{ text: "", files: turns.flatMap(({ files }) => files) }])],
    isSmaller: bytesOfTurns(large) < 8e6 * 1.5,
  };
}"""
PASTE = """([text]) => {
  const data = new DataTransfer();
  data.setData("text/plain", text);
  document.getElementById("message").dispatchEvent(
    new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
}"""


def picker(page: Page) -> Locator:
    return page.locator('form input[type="file"]')


def file(name: str, content: bytes, kind: str = "application/octet-stream") -> FilePayload:
    return {"name": name, "mimeType": kind, "buffer": content}


def opener(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=f"Open {name}")


async def parts_of(upstream: FakeUpstream, number: int = 0) -> list[dict[str, Any]]:
    """Return the parts of the last message of a request, once the upstream has it."""
    parts: list[dict[str, Any]] = (await upstream.request(number)).json["messages"][-1]["content"]
    return parts


async def test_documents_are_sent_as_their_text_and_open(chromium: Browser, tmp_path: Path) -> None:
    document = pdf_file(["Efficient offices", "The second page"])
    async with chatting(chromium, tmp_path) as (upstream, _, page):
        await open_chat(page)
        await picker(page).set_input_files(
            [
                file("report.pdf", document, "application/pdf"),
                file("letter.docx", word_file(line("Dear Ann"))),
                file("sums.xlsx", sheet_file({"May": "<row><c><v>12</v></c></row>"})),
                file("names.csv", "Name;Straße\nMüller;Köln".encode("cp1252"), "text/csv"),
                file("notes.txt", "Größe: 5 €".encode("utf-16"), "text/plain"),
            ]
        )
        cards = page.locator(".box .file")
        await expect(opener(page, "notes.txt")).to_be_visible()
        await expect(cards).to_have_count(5)
        await expect(cards.first).to_contain_text(re.compile(r"text, 2 pages, about \d+ tokens"))
        await opener(page, "report.pdf").focus()
        await page.keyboard.press("Enter")
        shown = page.get_by_role("dialog", name="report.pdf")
        await expect(shown).to_contain_text("[Page 2]\nThe second page")
        assert await violations(page) == []
        async with page.expect_download() as download:
            await shown.get_by_role("link", name="Save the document").click()
        saved = await (await download.value).path()
        assert saved.read_bytes() == document
        await page.keyboard.press("Escape")
        await expect(opener(page, "report.pdf")).to_be_focused()
        await page.get_by_role("button", name="Remove sums.xlsx").press("Enter")
        await expect(page.get_by_text(re.compile("tokens, .* left in the context"))).to_be_visible()
        await say(page, "Summarise")
        texts = [part["text"] for part in await parts_of(upstream)]
        pages = "[Page 1]\nEfficient offices\n\n[Page 2]\nThe second page"
        assert texts == [
            f"File “report.pdf”:\n\n```\n{pages}\n```",
            "File “letter.docx”:\n\n```\nDear Ann\n```",
            "File “names.csv”:\n\n```\nName;Straße\nMüller;Köln\n```",
            "File “notes.txt”:\n\n```\nGröße: 5 €\n```",
            "Summarise",
        ]
        await expect(answers(page).get_by_role("button", name="Regenerate")).to_be_visible()
        await page.reload()
        turn = page.get_by_role("article", name="You")
        await expect(turn.locator(".file")).to_have_count(3 + 1)
        await turn.get_by_role("button", name="Open report.pdf").click()
        await expect(shown).to_contain_text("Efficient offices")
        await expect(shown.get_by_role("link", name="Save the document")).to_be_visible()


async def test_a_document_that_cannot_be_read_is_named_with_what_to_do(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path, expected=REFUSED) as (upstream, _, page):
        await open_chat(page)
        await picker(page).set_input_files(
            [
                file("locked.pdf", pdf_file(["x"], locked=True)),
                file("scan.pdf", pdf_file(["", ""])),
                file("IMG_1.HEIC", b"\0\0\0\x18ftypheic" + bytes(64), "image/heic"),
                file("all.zip", zipped({"a.bin": "x"}), "application/zip"),
            ]
        )
        alert = page.get_by_role("alert")
        await expect(alert).to_contain_text("“locked.pdf” was not attached.")
        await expect(alert).to_contain_text("Remove the password")
        await expect(alert).to_contain_text("“scan.pdf” was not attached. This PDF has no text")
        await expect(alert).to_contain_text("This browser cannot read HEIC photos.")
        await expect(page.locator(".box .file")).to_have_count(1)
        await expect(page.locator(".box .file")).to_contain_text("the model only sees its name")
        await say(page, "Look")
        assert "“all.zip”" in (await parts_of(upstream))[0]["text"]


async def test_photos_are_scaled_once_and_lose_what_the_camera_notes(
    chromium: Browser, tmp_path: Path
) -> None:
    async with FakeUpstream() as second:
        settings = second_model(second, input_modalities='["text", "image"]')
        async with chatting(chromium, tmp_path, settings=settings) as (_, _, page):
            await open_chat(page)
            await page.evaluate(CAMERA, ["photo.jpg", 4000, 3000, "image/jpeg"])
            await expect(opener(page, "photo.jpg")).to_be_visible()
            await page.evaluate(CAMERA, ["small.jpg", 400, 300, "image/jpeg"])
            await expect(opener(page, "small.jpg")).to_be_visible()
            await page.evaluate(CAMERA, ["screen.png", 2600, 1300, "image/png"])
            await expect(opener(page, "screen.png")).to_be_visible()
            await opener(page, "photo.jpg").click()
            shown = page.get_by_role("dialog", name="photo.jpg")
            await expect(shown.get_by_role("img", name="photo.jpg")).to_be_visible()
            await page.keyboard.press("Escape")
            for text in ("What is this?", "And now?"):
                await say(page, text)
                await expect(
                    answers(page).last.get_by_role("button", name="Regenerate")
                ).to_be_visible()
            await second.request(1)
            first, again = (request.json["messages"][0] for request in second.requests[:2])
            assert first == again
            urls = [part["image_url"]["url"] for part in first["content"][:3]]
            sizes = [await page.evaluate(SIZE_OF, url) for url in urls]
            assert sizes == [[2048, 1536], [400, 300], [2048, 1024]]
            assert urls[2].startswith("data:image/png")
            # The oldest images beyond 20 or 14 MB are left out, but none of the last message.
            left = {"many": ["i1", "i0"], "large": ["a"], "last": [], "isSmaller": True}
            assert await page.evaluate(LEFT_OUT, 22) == left
            for url in urls:
                assert b"GPS" not in base64.b64decode(url.partition(",")[2])


async def test_a_refusal_for_size_keeps_text_and_files_for_a_new_chat(
    chromium: Browser, tmp_path: Path
) -> None:
    async with chatting(chromium, tmp_path, expected=REFUSED) as (upstream, _, page):
        await open_chat(page)
        await say(page, "Hello")
        await expect(answers(page).get_by_role("button", name="Regenerate")).to_be_visible()
        await picker(page).set_input_files([file("report.pdf", pdf_file(["Many words of it"]))])
        await expect(opener(page, "report.pdf")).to_be_visible()
        error = {"message": "maximum context length", "code": "context_length_exceeded"}
        refused = refusal(400, {"error": error | {"type": "invalid_request_error"}})
        upstream.plan(refused, stream_of(["Read."], usage=USAGE))
        await say(page, "Read this")
        alert = page.get_by_role("alert")
        await expect(alert.get_by_role("button", name="Choose another model")).to_be_visible()
        await expect(box(page)).to_have_value("Read this")
        await alert.get_by_role("button", name="Start a new chat").click()
        await expect(answers(page)).to_have_count(0)
        await expect(box(page)).to_have_value("Read this")
        await expect(opener(page, "report.pdf")).to_be_visible()
        await send_button(page).click()
        await expect(answers(page).get_by_role("button", name="Regenerate")).to_be_visible()
        parts = await parts_of(upstream, 2)
        assert "Many words of it" in parts[0]["text"] and parts[1]["text"] == "Read this"
        await page.get_by_role("link", name="Hello").click()
        await expect(page.get_by_role("article", name="You")).to_have_count(1)
        await expect(box(page)).to_have_value("")


async def test_a_long_pasted_text_is_a_file_that_can_be_put_back(
    chromium: Browser, tmp_path: Path
) -> None:
    async with FakeUpstream() as second:
        settings = second_model(second, context_window="1_000_000")
        async with chatting(chromium, tmp_path, settings=settings) as (_, _, page):
            await open_chat(page)
            await page.get_by_role("button", name="Model: ").click()
            await page.get_by_role("option", name="Test One").click()
            await box(page).press_sequentially("Read: ")
            await page.evaluate(PASTE, ["words " * 1000])
            await expect(opener(page, "pasted.txt")).to_be_visible()
            await expect(box(page)).to_have_value("Read: ")
            await page.get_by_role("button", name="Put into the message").click()
            await expect(box(page)).to_have_value("Read: " + "words " * 1000)
            await expect(page.locator(".box .file")).to_have_count(0)
            await page.evaluate(PASTE, ["words " * 100_000])
            await expect(page.get_by_text("Longer than the context of Test One")).to_be_visible()
            await page.get_by_role("button", name="Switch to Test Two").click()
            await expect(page.get_by_text("left in the context")).to_be_visible()
            await expect(send_button(page)).to_be_enabled()


async def pictures_asked(page: Page, text: str) -> list[str]:
    """Ask; return the URLs of the pictures in the request that leaves the page."""
    async with page.expect_request("**/chat/completions") as sent:
        await say(page, text)
    first = json.loads((await sent.value).post_data or "")["messages"][0]["content"]
    await expect(answers(page).last.get_by_role("button", name="Regenerate")).to_be_visible()
    return [part["image_url"]["url"] for part in first if part["type"] == "image_url"]


async def test_a_photo_on_the_server_travels_once_from_any_device(
    chromium: Browser, tmp_path: Path
) -> None:
    async with (
        FakeUpstream() as second,
        chatting(
            chromium, tmp_path, settings=second_model(second, input_modalities='["text", "image"]')
        ) as (_, door, page),
        visiting(chromium, door) as other,
    ):
        key = await door.mint("Ada")
        await sign_in(page, key)
        await page.evaluate(CAMERA, ["photo.jpg", 400, 300, "image/jpeg"])
        await expect(opener(page, "photo.jpg")).to_be_visible()
        await pictures_asked(page, "What is this?")
        await sign_in(other, key)
        await other.get_by_role("link", name="What is this?").click()
        await expect(opener(other, "photo.jpg")).to_be_visible()
        for device, n in ((other, 1), (page, 2)):
            (url,) = await pictures_asked(device, f"Question {n}")
            assert url.startswith("roxy-file:")
            (photo, _) = (await second.request(n)).json["messages"][0]["content"]
            sent = photo["image_url"]["url"]
            assert await page.evaluate(SIZE_OF, sent) == [400, 300]
