"""Define the parts of the documentation and render them as HTML and Markdown.

Prose is a subset of Markdown: paragraphs, lists of `- `, headings of `### `, `code`, **bold** and
[links](/path). Table cells are such text too. The functions here escape all text, so templates
insert their output raw.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from msgspec import Struct

LANGUAGES = {"curl": "curl", "python": "Python", "javascript": "JavaScript"}
"""The languages of an example and their labels."""
FENCES = {"curl": "sh", "python": "python", "javascript": "js"}
BASE = re.compile(r"\bBASE_URL\b")
MODEL = "MODEL_ID"
IMAGE_MODEL = "IMAGE_MODEL_ID"
CONTEXT = "CONTEXT_TOKENS"
"""Placeholders in examples: the address of this server, a model, a model that accepts images, and
the context window of the model in tokens."""

INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\(([^)\s]+)\)")
TOKENS = {
    "curl": r"(?P<comment>(?<!\S)#.*)|(?P<string>\"[^\"\n]*\"|'[^']*')|(?P<keyword>\bcurl\b)"
    r"|(?P<title>(?<=\s)--?[\w-]+)",
    "python": r"(?P<comment>(?<!\S)#.*)|(?P<string>\"[^\"\n]*\"|'[^'\n]*')"
    r"|(?P<keyword>\b(?:as|break|def|elif|else|except|for|from|if|import|in|not|print|return|try|while|with"
    r"|True|False|None)\b)|(?P<number>\b\d[\d_.]*\b)",
    "javascript": r"(?P<comment>//(?= ).*)|(?P<string>\"[^\"\n]*\"|`[^`]*`)"
    r"|(?P<keyword>\b(?:async|await|break|const|continue|else|export|for|from|function|if|import|let"
    r"|new|of|return|throw|true|false|while)\b)|(?P<number>\b\d[\d_.]*\b)",
    "sh": r"(?P<string>\"[^\"\n]*\")|(?P<keyword>\b(?:docker|export|aider)\b)"
    r"|(?P<title>(?<=\s)--?[\w-]+)",
    "yaml": r"(?P<string>\"[^\"\n]*\")|(?P<title>[\w-]+(?=:))|(?P<keyword>\b(?:true|false)\b)",
    "json": r"(?P<title>\"[^\"\n]*\"(?=:))|(?P<string>\"[^\"\n]*\")",
    "text": r"(?P<title>^[\w ]+(?=:))",
}
"""Token patterns for highlighting: comments, strings, keywords, numbers."""


class Table(Struct, frozen=True):
    """A table: `label` is its title; the first cell of a row is the row's header."""

    label: str
    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


class RouteDetails(Struct, frozen=True):
    """One operation of the API with its tables, which the page shows folded."""

    id: str
    method: str
    path: str
    who: str
    about: str
    tables: Sequence[Table]
    errors: str


class Example(Struct, frozen=True):
    """One runnable example by language. `run` is the runner that the page offers for it."""

    id: str
    title: str
    code: Mapping[str, str]
    run: str = ""


class Recipe(Struct, frozen=True):
    """How to set up one program: what to do, and the code or values to copy.

    `kind` is a key of TOKENS and the name of the Markdown fence.
    """

    id: str
    name: str
    steps: str
    kind: str
    code: str


class Section(Struct, frozen=True):
    """One section. `wide` is shown below the prose at full width."""

    id: str
    title: str
    prose: str
    examples: Sequence[Example] = ()
    wide: Sequence[Table | RouteDetails | Recipe] = ()
    owner: bool = False
    models: bool = False


class Values(Struct, frozen=True):
    """The values for the placeholders of examples."""

    base_url: str
    model: str
    image_model: str
    context: int

    def fill(self, code: str) -> str:
        """Return an example's code with all placeholders replaced."""
        code = code.replace(IMAGE_MODEL, self.image_model).replace(MODEL, self.model)
        return BASE.sub(lambda _: self.base_url, code).replace(CONTEXT, str(self.context))


@lru_cache(maxsize=4096)
def inline(text: str) -> str:
    """Return a line of prose as HTML."""
    out, at = [], 0
    for found in INLINE.finditer(text):
        out.append(html.escape(text[at : found.start()]))
        code, bold, words, target = found.groups()
        if code is not None:
            out.append(f"<code>{html.escape(code)}</code>")
        elif bold is not None:
            out.append(f"<strong>{inline(bold)}</strong>")
        else:
            out.append(f'<a href="{html.escape(target)}">{inline(words)}</a>')
        at = found.end()
    return "".join([*out, html.escape(text[at:])])


@lru_cache(maxsize=128)
def prose(text: str) -> str:
    """Return paragraphs, lists and headings as HTML."""
    return "\n".join(_block(block) for block in re.split(r"\n\s*\n", text.strip()))


def _block(block: str) -> str:
    lines = [line.strip() for line in block.splitlines()]
    text = "\n".join(lines)
    if text.startswith("### "):
        return f"<h3>{inline(text[4:])}</h3>"
    if text.startswith("- "):
        items = re.split(r"^- ", text, flags=re.MULTILINE)[1:]
        return f"<ul>{''.join(f'<li>{inline(_joined(item))}</li>' for item in items)}</ul>"
    return f"<p>{inline(_joined(text))}</p>"


def _joined(lines: str) -> str:
    return " ".join(lines.split())


@lru_cache(maxsize=512)
def highlighted(language: str, code: str, values: Values) -> str:
    """Return an example's code as highlighted HTML, with the model in elements of its own."""
    out, at = [], 0
    for found in re.finditer(TOKENS[language], code, re.MULTILINE):
        out.append(html.escape(code[at : found.start()]))
        out.append(f'<span class="{found.lastgroup}">{html.escape(found[0])}</span>')
        at = found.end()
    text = "".join([*out, html.escape(code[at:])])
    for name, kind in ((IMAGE_MODEL, "image"), (MODEL, "any"), (CONTEXT, "context")):
        text = text.replace(name, f"<span data-model='{kind}'>{{{kind}}}</span>")
    text = text.replace("{image}", html.escape(values.image_model))
    text = text.replace("{context}", str(values.context))
    text = text.replace("{any}", html.escape(values.model))
    return BASE.sub(lambda _: html.escape(values.base_url), text)


def markdown(section: Section, values: Values) -> str:
    """Return a section as Markdown, without the table of models."""
    text = "\n\n".join(
        re.sub(r"\n\s+", "\n", block.strip()) for block in re.split(r"\n\s*\n", section.prose)
    )
    title = f"{section.title} (with the owner key)" if section.owner else section.title
    parts = [f"## {title}", text.strip()]
    for example in section.examples:
        parts.append(f"### Example: {example.title}")
        parts += [
            f"```{FENCES[language]}\n{values.fill(code)}\n```"
            for language, code in example.code.items()
        ]
    for each in section.wide:
        parts += _wide(each, values)
    return "\n\n".join(part for part in parts if part)


def _wide(part: Table | RouteDetails | Recipe, values: Values) -> Iterable[str]:
    if isinstance(part, RouteDetails):
        return _route(part)
    if isinstance(part, Table):
        return [f"### {part.label}", table(part)]
    steps = "\n".join(line.strip() for line in part.steps.strip().splitlines())
    return [f"### {part.name}", steps, f"```{part.kind}\n{values.fill(part.code)}\n```"]


def _route(route: RouteDetails) -> Iterable[str]:
    yield f"### `{route.method} {route.path}`\n\n{route.about} For: {route.who}."
    for each in route.tables:
        yield f"{each.label}\n\n{table(each)}"
    yield route.errors


def table(part: Table) -> str:
    """Return a table as Markdown."""
    rows = [part.headers, ("---",) * len(part.headers), *part.rows]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
