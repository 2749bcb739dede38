"""No text that people read stands in the code of a page: it comes from the catalogue."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(str(resources.files("webui")))
SCRIPTS = ROOT / "static" / "js"
TEMPLATES = ROOT / "templates"

NOT_TEXTS = {
    "docs/chat_examples.py",  # code to copy, as the next three
    "docs/examples.py",
    "docs/owner_examples.py",
    "docs/recipes.py",
    "static/js/chat/composer/photos.js",  # marks in the files of photos
    "static/js/chat/markdown/code.js",  # names of programming languages
    "static/js/chat/markdown/entities.js",  # names of HTML entities
    "static/js/chat/markdown/lexing/emphasis.js",  # names of Unicode scripts
    "static/js/chat/state/request.js",  # what is said to the model
    "static/js/chat/turns/joint.js",  # what is said to the model
    "static/js/chat/turns/titling.js",  # what is said to the model
}
KEYS = {
    "Alt",
    "Backspace",
    "Comma",
    "Control",
    "Delete",
    "End",
    "Enter",
    "Esc",
    "Escape",
    "Home",
    "Meta",
}
KEYS |= {"Shift", "Slash", "Tab"}
"""Names of keys (UI Events)."""
PROTOCOL = {"Files", "Bearer", "Accept", "Authorization", "Exif", "Roxy", "Ignore"}
PROTOCOL |= {"Host", "Location", "Vary", "Python"}
"""Words of HTTP, of formats and of browsers."""

COMMENT = r"//[^\n]*|/\*.*?\*/"
HOLE = r"\$\{(?:[^{}`]|\{[^{}]*\}|`(?:\\.|[^`\\])*`)*\}"
TOKEN = re.compile(
    rf"(?P<comment>{COMMENT})"
    r"|(?P<string>\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*')"
    rf"|(?P<template>`(?:\\.|{HOLE}|[^`\\])*`)"
    r"|(?P<regex>(?:(?<=[=(,:!&|?\[{;\n])|(?<=return))\s*/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n*])"
    r"(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n])*/[dgimsuy]*)",
    re.DOTALL,
)
"""Enough of JavaScript to tell its literals from the rest."""
WORD = r"[A-Za-z\u2019']{2,}"
LABEL = re.compile(r"[A-Z][a-z]+…?")
BEGINNING = re.compile(r"[^A-Za-z]*[A-Z][a-z]+(?![\w-]|$)")
SENTENCE = re.compile(rf"{WORD}[,.:;]? {WORD} {WORD}")
MARKUP = re.compile(
    r"\{% block (?:body_class|skip_to) %\}\S*\{% end %\}|\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", re.DOTALL
)
SILENT = re.compile(
    r"<(script|style|svg|code|pre|kbd)\b.*?</\1>|<!--.*?-->|<!doctype[^>]*>", re.DOTALL
)
ATTRIBUTE = re.compile(r'\b(?:aria-label|title|placeholder|alt)="([^"]*)"')


def is_text(value: str) -> bool:
    """Return True if people would read this: a label, or words in a row."""
    if LABEL.fullmatch(value):
        return value not in KEYS | PROTOCOL
    if "SameSite=" in value or "Max-Age=" in value:
        return False  # a cookie
    if value == value.upper():
        return False  # names of elements
    return bool(BEGINNING.match(value) or SENTENCE.search(value))


def texts_of_script(code: str) -> Iterator[str]:
    """List the literals of a script that are texts."""
    for token in TOKEN.finditer(code):
        if code.endswith("class: ", 0, token.start()):
            continue
        if token.lastgroup in ("string", "template"):
            literal = re.sub(HOLE, "…", token[0][1:-1], flags=re.DOTALL)
            inner = re.sub(r"<[^>]*>", "\n", literal) if "</" in literal else literal
            yield from (part for part in re.split(r"\n\s*", inner) if is_text(part))


def texts_of_template(code: str) -> Iterator[str]:
    """List the texts between the tags of a template, and those in attributes."""
    plain = SILENT.sub("", MARKUP.sub("", code))
    yield from (found for found in ATTRIBUTE.findall(plain) if re.search(WORD, found))
    between = re.sub(r"<[^>]*>", "\n", plain)
    yield from (line.strip() for line in between.splitlines() if re.search(WORD, line))


def texts_of_module(code: str) -> Iterator[str]:
    """List the string constants of a Python module that are texts.

    Without docstrings, the messages of exceptions, which are the API's, and the log's: in English.
    """
    for node in ast.iter_child_nodes(ast.parse(code)):
        yield from _texts_below(node)


def _texts_below(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Raise) or _is_for_programs(node):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and is_text(node.value):
        yield node.value
    for child in ast.iter_child_nodes(node):
        yield from _texts_below(child)


def _is_for_programs(node: ast.AST) -> bool:
    """Return True for a line of the log, or a name of a type."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute):
        return isinstance(node.func.value, ast.Name) and node.func.value.id == "log"
    return isinstance(node.func, ast.Name) and node.func.id == "TypeVar"


def found_texts() -> dict[str, list[str]]:
    """Return the texts in the code of the pages, by the file's path."""
    found = {}
    for folder, ending, read in (
        (SCRIPTS, "js", texts_of_script),
        (TEMPLATES, "html", texts_of_template),
        (ROOT, "py", texts_of_module),
    ):
        for file in sorted(folder.rglob(f"*.{ending}")):
            path = str(file.relative_to(ROOT))
            if path not in NOT_TEXTS and (texts := list(read(file.read_text("utf-8")))):
                found[path] = texts
    return found


def test_no_text_stands_in_the_code_of_a_page() -> None:
    assert found_texts() == {}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('button("Copy")', ["Copy"]),
        ("alert(`Only ${n} of ${m} arrived.`)", ["Only … of … arrived."]),
        ("html`<p>Press it now</p>`", ["Press it now"]),
        ('return /"/.test(x) ? `"${x}"` : "It is done now";', ["It is done now"]),
        ('if (event.key === "Enter") el("div", { class: "file is-open" });', []),
        ('// "A comment is no text"\ncall("chat/completions");', []),
        ("text.replace(/[\"']/g, 'x'); say('It is done.')", ["It is done."]),
    ],
)
def test_the_guard_finds_texts_of_scripts(code: str, expected: list[str]) -> None:
    assert list(texts_of_script(code)) == expected


def test_the_guard_finds_texts_of_templates_and_modules() -> None:
    template = (
        '<p title="{{ name }}" aria-label="Open it">{{ texts.a.b }} of {% if x %}x{% end %}</p>'
    )
    assert list(texts_of_template(template)) == ["Open it", "of x"]
    module = (
        '"""A docstring of it."""\nshow("page.html", title="New key", path=f"/x/{y}")\n'
        'log.error("It is not there: %s", name)\n'
    )
    assert list(texts_of_module(module)) == ["New key"]
