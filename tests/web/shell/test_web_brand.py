"""What the owner says on the pages: name, logo and notice, in the HTML that the server sends."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from support.browsing.browser import PHONE, open_chat, visiting
from support.front_door import Door, front_door

from server.config.web_settings import Logo
from webui.shell.brand import logo_size

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 300, 200)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
NOTICE = """[web]
name = "Example <AI>"
notice = "Closed on Sunday."
notice_link = "/docs"
"""


@pytest.mark.gateway(settings=NOTICE)
@pytest.mark.parametrize("path", ["/", "/login", "/docs", "/nope"])
async def test_every_page_has_the_owners_name(bare_door: Door, path: str) -> None:
    page = await bare_door.client.get(path, headers={"Accept": "text/html"})
    (title,) = re.findall("<title>(.*)</title>", page.text)
    assert title.endswith("Example &lt;AI&gt;") and "Roxy" not in title
    assert "Roxy" not in re.findall("<header.*?</header>", page.text, re.DOTALL)[0]
    manifest = (await bare_door.client.get("/manifest.webmanifest")).json()
    assert manifest["name"] == manifest["short_name"] == "Example <AI>"


@pytest.mark.parametrize(
    ("name", "data", "sizes", "kind"),
    [("a.png", PNG, "300x200", "image/png"), ("a.svg", SVG, "any", "image/svg+xml")],
)
async def test_the_owners_logo_is_an_image_and_nothing_else(
    tmp_path: Path, name: str, data: bytes, sizes: str, kind: str
) -> None:
    file = tmp_path / name
    file.write_bytes(data)
    async with front_door(tmp_path, settings=f"[web]\nlogo = '{file}'\n") as door:
        page = await door.client.get("/")
        (path,) = re.findall(r'<img src="(/logo/[^"]+)" alt=""', page.text)
        assert f'<link rel="icon" href="{path}">' in page.text
        assert data.decode("latin-1") not in page.text
        logo = await door.client.get(path)
        assert logo.content == data and logo.headers["content-type"] == kind
        assert "immutable" in logo.headers["cache-control"]
        assert "sandbox" in logo.headers["content-security-policy"]
        assert logo.headers["x-content-type-options"] == "nosniff"
        other = path.replace(path.split("/")[2][:12], "0" * 12)
        assert (await door.client.get(other)).status_code == 404
        (icon,) = (await door.client.get("/manifest.webmanifest")).json()["icons"]
        assert icon == {"src": path, "sizes": sizes, "type": kind}


SIZES = [
    (PNG, "png", (300, 200)),
    (PNG[:18], "png", None),
    (b'<?xml version="1.0"?><svg viewBox="0 0 200 40">', "svg", (20_000, 4_000)),
    (b"<svg viewBox='-1,-1 2.5, 1'>", "svg", (250, 100)),
    (b'<svg width="200px" height="40"><rect width="9" height="9"/>', "svg", (20_000, 4_000)),
    (b'<svg stroke-width="2" height="40"><rect width="9"/>', "svg", None),
    (b'<svg width="100%" height="100%">', "svg", None),
    (b'<svg viewBox="0 0 0 40">', "svg", None),
    (b"RIFF____WEBPVP8X" + bytes(8) + bytes((199, 0, 0, 39, 0, 0)), "webp", (200, 40)),
    (b"RIFF____WEBPVP8L" + bytes(5) + struct.pack("<I", 39 << 14 | 199), "webp", (200, 40)),
    (b"RIFF____WEBPVP8 " + bytes(10) + struct.pack("<HH", 200, 40), "webp", (200, 40)),
    (b"RIFF____WEBP", "webp", None),
]


@pytest.mark.parametrize(("data", "ending", "size"), SIZES)
def test_the_size_of_a_logo_is_read(data: bytes, ending: str, size: tuple[int, int] | None) -> None:
    assert logo_size(Logo(data, ending)) == size


async def test_a_wide_logo_is_shown_wide_beside_the_name(chromium: Browser, tmp_path: Path) -> None:
    file = tmp_path / "wide.svg"
    file.write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 40"/>')
    settings = f"[web]\nname = 'A {'long ' * 6}name'\nlogo = '{file}'\n"
    async with front_door(tmp_path, settings=settings) as door:
        for size in (PHONE, {"width": 1280, "height": 800}):
            async with visiting(chromium, door, viewport=size) as page:
                await page.goto("/login")
                brand = page.get_by_role("banner").get_by_role("link", name=re.compile("long"))
                box = await brand.get_by_role("presentation").bounding_box()
                assert box is not None and (box["width"], box["height"]) == (110, 22)
                width = await page.evaluate("() => document.documentElement.scrollWidth")
                assert width == size["width"]


@pytest.mark.gateway(settings=NOTICE)
async def test_a_notice_is_closed_once(chromium: Browser, demo_door: Door) -> None:
    async with visiting(chromium, demo_door, viewport=PHONE) as page:
        await open_chat(page)
        notice = page.get_by_role("complementary", name="Notice")
        await expect(notice).to_contain_text("Closed on Sunday.")
        link = notice.get_by_role("link", name="Details")
        await expect(link).to_have_attribute("href", "/docs")
        await notice.get_by_role("button", name="Close the notice").click()
        await expect(notice).to_have_count(0)
        for path in ("/login", "/"):
            answer = await page.goto(path)
            assert answer is not None and "Closed on Sunday." not in await answer.text()
