"""Every class and file has a name of its own, and all text is plain technical English."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from house import guards, names
from house.guards import ROOT, Module

Guard = Callable[[Module], Iterator[str]]


def test_no_two_public_classes_have_one_name() -> None:
    faults = names.doubled_classes(guards.product())
    assert not faults, "\n".join(faults)


def test_no_two_files_have_one_name() -> None:
    faults = names.doubled_files(guards.product())
    assert not faults, "\n".join(faults)


def test_two_classes_of_one_name_are_found() -> None:
    modules = [
        Module("server.store.key", "class Key: ...\nclass _Row: ..."),
        Module("server.description.shapes", "class Key: ...\nclass _Row: ..."),
        Module("webui.keys.form", "class KeyForm: ..."),
    ]
    found = ["Key exists in server.description.shapes, server.store.key"]
    assert names.doubled_classes(modules) == found
    assert names.doubled_classes(modules[1:]) == []


def test_two_files_of_one_name_are_found() -> None:
    modules = [
        Module(name, "", Path(name.replace(".", "/") + ending))
        for name, ending in (
            ("server.api.usage", ".py"),
            ("webui.usage", "/__init__.py"),
            ("webui.pages.usage", ".py"),
            ("server.__main__", ".py"),
            ("workers.__main__", ".py"),
        )
    ]
    assert names.doubled_files(modules) == ["usage exists in server.api.usage, webui.pages.usage"]


def test_bounds_begin_with_max_or_min() -> None:
    modules = [*guards.product(), *guards.tests()]
    texts = [(module.name, module.text) for module in modules]
    texts += [(path.name, path.read_text()) for path in (ROOT / "webui" / "static").rglob("*.js")]
    faults = [fault for name, text in texts for fault in names.misnamed_bounds(name, text)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("line", "misnamed"),
    [
        ("LONGEST_PAUSE_S = 5.0", "LONGEST_PAUSE_S"),
        ("_LEAST: Final = -9999.0", "_LEAST"),
        ("MOST_CARDS, MOST_HINTS = 4, 8", "MOST_CARDS"),
        ("const MOST = 12;", "MOST"),
        ("export const SHORTEST_TEXT = 8;", "SHORTEST_TEXT"),
        ("MAX_PAUSE_S = 5.0", None),
        ("ALMOST_MOST = 1", None),
        ("MOST_USED_FIRST", None),
        ("longest = max(lengths)", None),
    ],
)
def test_a_misnamed_bound_is_found(line: str, misnamed: str | None) -> None:
    faults = list(names.misnamed_bounds("a", f"x = 1\n{line}\n"))
    assert [fault.split()[1] for fault in faults] == ([] if misnamed is None else [misnamed])


def test_the_product_and_the_tests_speak_plainly() -> None:
    faults = [fault for module in guards.product() for fault in names.old_messages(module)]
    for module in [*guards.product(), *guards.tests()]:
        if not module.name.startswith("tests.house."):  # their samples hold the phrases
            faults += names.old_voice(module)
    assert not faults, "\n".join(faults)


def test_pages_and_documents_speak_plainly() -> None:
    found: list[str] = []
    for pattern in ("webui/templates/**/*.html", "docs/*.md", "*.md"):
        for path in sorted(ROOT.glob(pattern)):
            found += names.old_page_text(str(path.relative_to(ROOT)), path.read_text())
    for path in sorted((ROOT / "webui" / "static").rglob("*.js")):
        found += names.old_script_text(str(path.relative_to(ROOT)), path.read_text())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("guard", "text"),
    [
        (names.old_voice, 'def f():\n    """Tell who asks."""'),
        (names.old_voice, 'class A:\n    """Give bytes."""'),
        (names.old_voice, '"""Refuse a parameter that there is not."""'),
        (names.old_voice, 'def f():\n    """Return it.\n\n    Nobody waits for it.\n    """'),
        (names.old_voice, "x = 1  # an error of ours"),
        (names.old_messages, 'raise Refused("Guests are not welcome here.")'),
        (names.old_messages, 'x = f"The price is not told by {name}."'),
    ],
)
def test_the_old_voice_is_found(guard: Guard, text: str) -> None:
    assert len(list(guard(Module("server.sample", text)))) == 1


def test_plain_words_pass() -> None:
    text = '"""Return names.\n\nNamed so."""\ntold = "told"  # a name, not a text\n'
    assert [*names.old_voice(Module("a", text)), *names.old_messages(Module("a", text))] == []


def test_the_old_voice_is_found_in_pages() -> None:
    page = "{% set told = 1 %}<p>{{ told }}</p>\n<p>Nobody waits.</p>"
    assert [fault[:6] for fault in names.old_page_text("a", page)] == ["a:2 sa"]


def test_the_old_voice_is_found_in_scripts() -> None:
    code = 'const told = read(); // of ours\nshow("Nobody waits."); /* told\n by */'
    assert len(list(names.old_script_text("a", code))) == 2
    assert list(names.old_script_text("a", "const told = nobody(told);")) == []
