"""Read the texts of the pages from `webui/texts`, and choose a visitor's language.

A catalogue is JSON: groups of texts. `{name}` in a text stands for a value. A text that depends on
a number is an object with the forms `one` and `other` (CLDR's names of plural categories; the
languages here need no others for whole numbers). Scripts get the groups that their page needs as
JSON in the page, so that they need no request of their own (`js/shell/texts.js`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from types import SimpleNamespace
from typing import Any

from msgspec import Struct

DEFAULT = "en"
LONGEST_HEADER = 200
"""Accept-Language headers of browsers are shorter; the rest of a longer one is not read."""


class Language(Struct, frozen=True):
    """One language: `code` as in BCP 47, its own name, and all texts.

    `texts` has the groups as attributes and the texts as attributes of these.
    """

    code: str
    name: str
    direction: str
    texts: Any
    groups: Mapping[str, Mapping[str, Any]]

    def plural(self, forms: SimpleNamespace, number: int) -> str:
        """Return the form of a text for a number, with `{count}` filled in."""
        form = forms.one if number == 1 else forms.other
        return fill(form, count=f"{number:,}")

    def for_scripts(self, groups: Sequence[str]) -> str:
        """Return some groups as JSON."""
        chosen = {name: self.groups[name] for name in groups}
        return json.dumps(chosen, ensure_ascii=False, separators=(",", ":"))


def fill(text: str, **values: object) -> str:
    """Return a text with its placeholders replaced. Raises KeyError for one without a value."""
    return text.format_map(values)


@cache
def languages() -> dict[str, Language]:
    """Return all languages by code: English first, the others by code."""
    read = [
        _language(entry.read_text("utf-8"))
        for entry in (resources.files("webui") / "texts").iterdir()
        if entry.name.endswith(".json")
    ]
    read.sort(key=lambda one: (one.code != DEFAULT, one.code))
    return {one.code: one for one in read}


def _language(text: str) -> Language:
    groups = json.loads(text)
    about = groups.pop("language")
    texts = json.loads(json.dumps(groups), object_hook=lambda found: SimpleNamespace(**found))
    return Language(about["code"], about["name"], about["direction"], texts, groups)


def choose_language(chosen: str | None, accepted: str) -> Language:
    """Return the language of a visitor: the chosen one, else the best of Accept-Language.

    `accepted` is the header's value (RFC 9110, section 12.5.4); a language matches whatever its
    region is, as in `de-AT`.
    """
    known = languages()
    if chosen in known:
        return known[chosen]
    wanted: list[tuple[float, str]] = []
    for part in accepted[:LONGEST_HEADER].split(","):
        tag, _, weight = part.partition(";")
        try:
            quality = float(weight.replace(" ", "").removeprefix("q=") or 1)
        except ValueError:
            continue
        wanted.append((-quality, tag.strip().lower().partition("-")[0]))
    for quality, code in sorted(wanted, key=lambda one: one[0]):
        if quality < 0 and code in known:
            return known[code]
    return known[DEFAULT]
