"""Define the parts of the documentation and render them as HTML and Markdown.

Prose is a subset of Markdown: paragraphs, lists of `- `, `code`, **bold** and [links](/path). Each
line is a paragraph or an item of a list. Table cells are such text too. The functions here escape
all text, so templates insert their output raw.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import groupby

from msgspec import Struct

from webui.shell.texts import Language, fill

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
    """A table: `label` is its title; the first cell of a row is the row's header.

    `english` are the columns whose cells are in English in every language.
    """

    label: str
    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    english: tuple[int, ...] = ()


class RouteDetails(Struct, frozen=True):
    """One operation of the API with its tables, which the page shows folded.

    `about` is in English: it is the API's own description.
    """

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
    code: Mapping[str, str]
    run: str = ""


class Recipe(Struct, frozen=True):
    """The code or values to copy for one program.

    `kind` is a key of TOKENS and the name of the Markdown fence.
    """

    id: str
    name: str
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


@lru_cache(maxsize=512)
def prose(text: str) -> str:
    """Return paragraphs and lists as HTML."""
    return "\n".join(
        f"<ul>{''.join(f'<li>{inline(line[2:])}</li>' for line in lines)}</ul>"
        if is_list
        else "\n".join(f"<p>{inline(line)}</p>" for line in lines)
        for is_list, lines in _blocks(text)
    )


def _blocks(text: str) -> Iterator[tuple[bool, list[str]]]:
    for is_list, lines in groupby(text.splitlines(), lambda line: line.startswith("- ")):
        yield is_list, list(lines)


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


def markdown(section: Section, values: Values, locale: Language) -> str:
    """Return a section as Markdown, without the table of models."""
    texts, title = locale.texts, section.title
    if section.owner:
        title = fill(texts.docs_page.with_owner_key, title=title)
    parts = [f"## {title}"]
    parts += _prose(section.prose)
    for example in section.examples:
        parts.append(
            f"### {fill(texts.docs_page.example, title=locale.groups['examples'][example.id])}"
        )
        parts += [
            f"```{FENCES[language]}\n{values.fill(code)}\n```"
            for language, code in example.code.items()
        ]
    for each in section.wide:
        parts += _wide(each, values, locale)
    return "\n\n".join(part for part in parts if part)


def _prose(text: str) -> Iterator[str]:
    for is_list, lines in _blocks(text):
        yield ("\n" if is_list else "\n\n").join(lines)


def _wide(part: Table | RouteDetails | Recipe, values: Values, locale: Language) -> Iterable[str]:
    if isinstance(part, RouteDetails):
        return _route(part, locale)
    if isinstance(part, Table):
        return [f"### {part.label}", table(part)]
    steps = locale.groups["recipes"][part.id]
    return [f"### {part.name}", steps, f"```{part.kind}\n{values.fill(part.code)}\n```"]


def _route(route: RouteDetails, locale: Language) -> Iterable[str]:
    about = fill(locale.texts.docs_page.route_for, about=route.about, who=route.who)
    yield f"### `{route.method} {route.path}`\n\n{about}"
    for each in route.tables:
        yield f"{each.label}\n\n{table(each)}"
    yield route.errors


def table(part: Table) -> str:
    """Return a table as Markdown."""
    rows = [part.headers, ("---",) * len(part.headers), *part.rows]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
