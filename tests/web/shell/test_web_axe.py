"""What axe objects to in one look of a page alone is found."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser
from support.browsing.axe import violations_in_all_looks

PAGE = """<!doctype html><html lang="en"><title>Page</title><style>
img {{ display: none; width: 24px; height: 24px; }}
body {{ color: #000; background: #fff; }}
@media (prefers-color-scheme: {scheme}) and (min-width: {width}px) {{ {style} }}
</style><main><h1>Page</h1><p>Words</p>
<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="></main>"""


@pytest.mark.parametrize(
    ("style", "rule"),
    [("p { color: #ddd; }", "color-contrast"), ("img { display: block; }", "image-alt")],
)
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_fault_of_one_look_is_found_in_it(
    chromium: Browser, scheme: str, width: int, style: str, rule: str
) -> None:
    page = await chromium.new_page()
    try:
        await page.set_content(PAGE.format(scheme=scheme, width=width, style=style))
        found = await violations_in_all_looks(page)
    finally:
        await page.close()
    assert set(found) == {f"{each} {scheme}" for each in (360, 1280) if each >= width}
    for faults in found.values():
        assert [fault.partition(":")[0] for fault in faults] == [rule]
