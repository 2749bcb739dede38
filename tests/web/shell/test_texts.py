"""The catalogues have the same texts in every language, and what uses them finds them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from support.builders.catalogs import load_catalog

from server.accounting.limits import PERIODS
from server.description.error_table import error_rows
from webui.shell.figures import Figures
from webui.shell.model_cards import purpose
from webui.shell.texts import choose_language, fill, languages

ROOT = Path(str(resources.files("webui")))
PLACEHOLDER = re.compile(r"\{(\w+)\}")
FORMS = {"one", "other"}
BY_PERIOD = set(PERIODS)


def leaves(texts: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """List every text with its path."""
    for name, value in texts.items():
        if isinstance(value, str):
            yield path + name, value
        else:
            yield from leaves(value, f"{path}{name}.")


ENGLISH = dict(leaves(languages()["en"].groups))


def test_there_are_four_languages_and_english_is_first() -> None:
    assert list(languages()) == ["en", "de", "es", "ja"]
    assert [one.direction for one in languages().values()] == ["ltr"] * 4


@pytest.mark.parametrize("code", [code for code in languages() if code != "en"])
def test_no_text_and_no_placeholder_is_missing_in_any_language(code: str) -> None:
    here = dict(leaves(languages()[code].groups))
    assert here.keys() == ENGLISH.keys()
    for path, text in here.items():
        assert text.strip(), path
        assert set(PLACEHOLDER.findall(text)) == set(PLACEHOLDER.findall(ENGLISH[path])), path


def test_texts_that_depend_on_a_number_or_a_period_have_all_forms() -> None:
    paths = [path.rpartition(".") for path in ENGLISH]
    forms: dict[str, set[str]] = {}
    for parent, _, name in paths:
        if parent.count("."):
            forms.setdefault(parent, set()).add(name)
    by_id = {name for name in forms if name.startswith(BY_ID)}
    assert {frozenset(found) for name, found in forms.items() if name not in by_id} == {
        frozenset(FORMS),
        frozenset(BY_PERIOD),
    }


USES = re.compile(r"\btexts\.(\w+\.\w+)")


def uses() -> Iterator[tuple[str, str]]:
    """List the texts that templates, pages and scripts name, with the file."""
    for folder, ending in (("templates", "html"), ("static/js", "js"), (".", "py")):
        for file in (ROOT / folder).rglob(f"*.{ending}"):
            for path in USES.findall(file.read_text("utf-8")):
                yield path, str(file.relative_to(ROOT))


BY_ID = ("docs_fields.", "examples.", "purposes.", "recipes.")
"""Groups whose texts are read by the id of what they are about; tests of the pages count them."""


def test_every_text_that_is_used_exists_and_every_text_is_used() -> None:
    paths = {".".join(path.split(".")[:2]) for path in ENGLISH}
    known = {path for path in paths if not path.startswith(BY_ID)}
    used = dict(uses()) | {f"figures.{field}": "" for field in Figures.__struct_fields__}
    assert {(path, file) for path, file in used.items() if path not in known} == set()
    assert known - used.keys() == set()


HANDLED = {"conversation_changed", "conversation_erased", "settings_changed"}
HANDLED |= {"answer_gone", "stopped"}
"""The scripts of the chat go on after these without words."""
FOR_PROGRAMS = {"conflict", "headers_too_large", "invalid_http", "method_not_allowed"}
FOR_PROGRAMS |= {"not_found", "request_timeout"}
"""No call of the chat meets these."""


def test_the_chat_says_in_its_language_what_every_code_means() -> None:
    script = (ROOT / "static" / "js" / "chat" / "state" / "problems.js").read_text("utf-8")
    said = set(re.findall(r"^  (\w+): (?:texts\.problems|\[)", script, re.MULTILINE))
    codes = {row.code for row in error_rows() if row.code is not None}
    assert codes - said == HANDLED | FOR_PROGRAMS


def test_what_the_built_in_models_are_best_at_is_said_in_every_language() -> None:
    sentences = {model.description for model in load_catalog().models.values()}
    assert sentences == {forms["whole"] for forms in languages()["en"].groups["purposes"].values()}
    said = {purpose(one, language) for one in sentences for language in languages().values()}
    assert len(said) == len(sentences) * len(languages())


@pytest.mark.parametrize("code", languages())
def test_an_owners_description_stays_as_it_is(code: str) -> None:
    whole = "Best at our letters: short, polite."
    assert purpose(whole, languages()[code]) == (whole, "Our letters")


@pytest.mark.parametrize(
    ("chosen", "accepted", "expected"),
    [
        (None, "", "en"),
        (None, "de", "de"),
        (None, "de-AT,de;q=0.9,en;q=0.8", "de"),
        (None, "fr,es;q=0.5,de;q=0.4", "es"),
        (None, "fr", "en"),
        (None, "*", "en"),
        (None, "de;q=0, ja;q=0.1", "ja"),
        (None, "en;q=0.5, ja", "ja"),
        (None, "ES-419", "es"),
        (None, ";;,q=1,de;q=x,ja;q=0.2", "ja"),
        (None, "x," * 1000 + "de", "en"),
        ("ja", "de", "ja"),
        ("xx", "de", "de"),
        ("", "de", "de"),
    ],
)
def test_the_language_is_the_chosen_one_or_the_best_accepted(
    chosen: str | None, accepted: str, expected: str
) -> None:
    assert choose_language(chosen, accepted).code == expected


def test_values_are_filled_in_and_numbers_choose_the_form() -> None:
    english = languages()["en"]
    assert fill("{a} and {b}", a=1, b="{a}") == "1 and {a}"
    with pytest.raises(KeyError):
        fill("{a}", b=1)
    forms = english.texts.docs.match_count
    assert [english.plural(forms, n) for n in (0, 1, 2, 1200)] == [
        "0 matches",
        "1 match",
        "2 matches",
        "1,200 matches",
    ]
    assert english.for_scripts(()) == "{}"
