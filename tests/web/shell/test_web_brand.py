"""What the owner says on the pages: name, logo and notice, in the HTML that the server sends."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect
from support.browsing.browser import PHONE, open_chat, visiting
from support.front_door import Door, front_door

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
