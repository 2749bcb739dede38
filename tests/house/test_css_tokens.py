"""Every pair of colours that meet on a page has the contrast that WCAG asks for."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

TOKENS = (Path(__file__).parents[2] / "webui/static/css/tokens.css").read_text()
COLOUR = re.compile(r"--([\w-]+): light-dark\(oklch\(([^)]*)\), oklch\(([^)]*)\)\);")
PLAIN = re.compile(r"--([\w-]+): oklch\(([^)]*)\);")
GROUNDS = ("ground", "panel", "raised", "hover", "accent-soft")
TEXT_PAIRS = (
    [(text, ground) for text in ("text", "quiet") for ground in GROUNDS]
    + [("accent", ground) for ground in ("ground", "panel", "raised", "hover")]
    + [("accent-hover", ground) for ground in ("ground", "panel", "raised")]
    + [("on-accent", "accent"), ("on-accent", "accent-hover"), ("text", "selection")]
    + [
        (tone, ground)
        for tone in ("bad", "warn", "good")
        for ground in ("ground", "panel", "raised")
    ]
    + [("bad", "bad-soft"), ("warn", "warn-soft"), ("text", "bad-soft"), ("text", "warn-soft")]
    + [
        (f"code-{kind}", "panel")
        for kind in ("comment", "keyword", "string", "number", "title", "type")
    ]
)
BORDER_PAIRS = [
    (border, ground)
    for border in ("border", "accent", "bad", "warn")
    for ground in ("ground", "panel", "raised")
]


def luminance(oklch: str) -> float:
    """Return WCAG's relative luminance of an oklch colour (CSS Color 4, sample code)."""
    lightness, chroma, hue = (float(part) for part in oklch.split())
    a = chroma * math.cos(math.radians(hue))
    b = chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    red = 4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short
    green = -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short
    blue = -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short
    red, green, blue = (min(max(part, 0.0), 1.0) for part in (red, green, blue))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(scheme: int, one: str, other: str) -> float:
    """Return the contrast of two tokens in a scheme, 0 light and 1 dark."""
    colours = {name: (light, dark) for name, light, dark in COLOUR.findall(TOKENS)}
    values = sorted(luminance(colours[name][scheme]) for name in (one, other))
    return (values[1] + 0.05) / (values[0] + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_can_be_read(scheme: int) -> None:
    poor = {pair: round(contrast(scheme, *pair), 2) for pair in TEXT_PAIRS}
    assert {pair: ratio for pair, ratio in poor.items() if ratio < 4.5} == {}


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_borders_of_controls_can_be_seen(scheme: int) -> None:
    poor = {pair: round(contrast(scheme, *pair), 2) for pair in BORDER_PAIRS}
    assert {pair: ratio for pair, ratio in poor.items() if ratio < 3} == {}


def test_browsers_without_light_dark_get_the_light_colours() -> None:
    light = {name: colour for name, colour, _ in COLOUR.findall(TOKENS)}
    assert len(light) > 20 and dict(PLAIN.findall(TOKENS)) == light


def test_every_colour_has_a_plain_one_for_browsers_without_light_dark() -> None:
    _, _, plain = TOKENS.partition("@supports not (color: light-dark(")
    fallbacks = dict(re.findall(r"--([\w-]+): (#[\da-f]{6});", plain))
    assert set(fallbacks) == {name for name, _, _ in COLOUR.findall(TOKENS)}
    for name, light, _ in COLOUR.findall(TOKENS):
        parts = [int(fallbacks[name][n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        shade = sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
        assert abs(shade - luminance(light)) < 0.01, name


STYLES = Path(__file__).parents[2] / "webui/static/css"
IN_PIXELS = re.compile(r"(?:font|font-size|line-height): [^;(]*\d+px[^;]*;")


def test_text_is_sized_by_the_setting_of_the_browser() -> None:
    found = {
        f"{path.name}: {size}"
        for path in STYLES.rglob("*.css")
        for size in IN_PIXELS.findall(path.read_text())
    }
    assert not found, "sizes in rem follow the size that a reader has set"
