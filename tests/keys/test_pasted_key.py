"""A key is found in whatever it was copied from."""

from __future__ import annotations

import pytest

from server.keys.pasted_key import keys_in, looks_cut
from server.keys.secret import well_formed

KEY = "roxy_Ab3Ab3Ab3Ab3Ab3Ab3Ab3Ab3Ab3Ab3xY224rmF"
"""Not a random one: the processes that share the tests collect the same names."""
PASTED = [
    "{}",
    "  {}\n",
    "Bearer {}",
    "Authorization: Bearer {}",
    "x-api-key: {}",
    '"{}"',
    "'{}'",
    "`{}`",
    "\u201c{}\u201d",
    "\u201e{}\u201c",
    "\u00ab\u00a0{}\u00a0\u00bb",
    "\u300c{}\u300d",
    "ROXY_API_KEY={}",
    'export ROXY_API_KEY="{}"',
    'export X="{}";',
    "set OPENAI_API_KEY={}",
    '$env:OPENAI_API_KEY = "{}"',
    "OPENAI_API_KEY: {}",
    '  "OPENAI_API_KEY": "{}",',
    "\ufeff\u200b{}\u200b\u2060",
]


@pytest.mark.parametrize("pasted", PASTED)
@pytest.mark.parametrize("key", [KEY, "the-owner's own key = this:one"])
def test_a_key_is_found_in_what_was_pasted(pasted: str, key: str) -> None:
    found = keys_in(pasted.format(key))
    assert key in found and len(found) < 12
    assert not looks_cut(pasted.format(key))


@pytest.mark.parametrize(
    "pasted",
    [
        f"{KEY[:20]}\r\n{KEY[20:]}",
        f"{KEY[:20]}\u200b{KEY[20:]}",
        " ".join(KEY),
        f"Your key is {KEY}. Keep it in a safe place.",
        f"OPENAI_BASE_URL=https://ai.example/api/v1\nOPENAI_API_KEY={KEY}\n",
        "".join(chr(ord(one) + 0xFEE0) for one in KEY),
    ],
)
def test_a_key_of_this_server_is_found_in_any_text(pasted: str) -> None:
    assert keys_in(pasted)[0] == KEY


def test_a_key_that_was_cut_is_recognized() -> None:
    assert well_formed(KEY)
    assert looks_cut(f"Bearer {KEY[:-1]}")
    assert looks_cut(KEY[:-1] + ("A" if KEY[-1] != "A" else "B"))
    assert not looks_cut("some other text")
