"""Read the texts of the pages from `webui/texts`, and choose a visitor's language.

`webui/texts/CODE/GROUP.json` is a group of texts in one language. `{name}` in a text stands for a
value. A text that depends on a number is an object with the forms `one` and `other` (CLDR's names
of plural categories; the languages here need no others for whole numbers). A text about a budget
is an object with a form for each period of budgets. A text of several
paragraphs is a list of them, and is read as one text with a line for each. Scripts get the groups
that their page needs as JSON in the page, so that they need no request of their own (`texts` of
`js/shell/page.js`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from types import SimpleNamespace
from typing import Any

from msgspec import Struct

from server.store.key import BudgetPeriod
from webui.shell.figures import Figures

DEFAULT = "en"
MAX_HEADER_CHARS = 200
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
    figures: Figures

    def plural(self, forms: SimpleNamespace, number: int, **values: object) -> str:
        """Return the form of a text for a number, with `{count}` and other values filled in."""
        form = forms.one if number == 1 else forms.other
        return fill(form, count=self.figures.count(number), **values)

    def by_period(self, forms: SimpleNamespace, period: BudgetPeriod, **values: object) -> str:
        """Return the form of a text for the period of a budget, with values filled in."""
        return fill(getattr(forms, period), **values)

    def for_scripts(self, groups: Sequence[str]) -> str:
        """Return some groups as JSON."""
        chosen = {name: self.groups[name] for name in groups}
        return json.dumps(chosen, ensure_ascii=False, separators=(",", ":"))


def fill(text: str, **values: object) -> str:
    """Return a text with its placeholders replaced. Raises KeyError for one without a value."""
    return text.format_map(values)


def around(text: str, name: str, **values: object) -> tuple[str, str]:
    """Return what is before and after a placeholder that a page replaces with markup."""
    before, _, after = text.partition(f"{{{name}}}")
    return fill(before, **values), fill(after, **values)


@cache
def languages() -> dict[str, Language]:
    """Return all languages by code: English first, the others by code."""
    folder = resources.files("webui") / "texts"
    read = [_language(entry) for entry in folder.iterdir() if entry.is_dir()]
    read.sort(key=lambda one: (one.code != DEFAULT, one.code))
    return {one.code: one for one in read}


def _language(folder: Traversable) -> Language:
    read = {
        entry.name.removesuffix(".json"): entry.read_text("utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".json")
    }
    groups = {name: json.loads(text, object_hook=_joined) for name, text in read.items()}
    about = groups.pop("language")
    texts = SimpleNamespace(
        **{
            name: json.loads(read[name], object_hook=lambda one: SimpleNamespace(**_joined(one)))
            for name in groups
        }
    )
    figures = Figures(**groups["figures"])
    return Language(about["code"], about["name"], about["direction"], texts, groups, figures)


def _joined(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: "\n".join(value) if isinstance(value, list) else value
        for name, value in found.items()
    }


def choose_language(chosen: str | None, accepted: str) -> Language:
    """Return the language of a visitor: the chosen one, else the best of Accept-Language.

    `accepted` is the header's value (RFC 9110, section 12.5.4); a language matches whatever its
    region is, as in `de-AT`.
    """
    known = languages()
    if chosen in known:
        return known[chosen]
    wanted: list[tuple[float, str]] = []
    for part in accepted[:MAX_HEADER_CHARS].split(","):
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
