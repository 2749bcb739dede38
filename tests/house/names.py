"""Guards over names and wording: one class and one file per name, and plain technical English.

`test_names.py` runs them over the project, and over samples that break them.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from house.guards import Module

UNNAMED = {"__init__", "__main__"}
"""Files whose name Python gives."""
OPENINGS = re.compile(r"(?:Tell|Give(?! (?:a \w+ (?:a|to)|\w+s to)\b)|Say|Name|Let|Make known)\b")
"""First words of docstrings that describe a function as a person. Use Return, Raise, Send, ..."""
PHRASES = re.compile(
    r"\b(?:told|nobody|of ours|that there is not|(?:is|are) to be had|honest(?:ly)?|not welcome)\b",
    re.IGNORECASE,
)
"""Literary turns. They are searched in docstrings, in comments and in texts that people read."""
SCRIPT_TEXT = re.compile(r"//.*|/\*[\s\S]*?\*/|\"[^\"\n]*\"|`[^`]*`")
"""Comments and strings of a script; the formatter writes strings in double quotes."""
PLACEHOLDER = re.compile(r"\$\{[^{}]*\}|(?<!^)\"\w+\"")
"""Code inside a text: `${...}` of a template, a quoted identifier in a comment."""
MISNAMED_BOUND = re.compile(
    r"^\s*(?:export )?(?:const )?"
    r"(_?(?:MOST|LEAST|LONGEST|SHORTEST|LARGEST|SMALLEST|FEWEST)(?:_\w+)?)\b(?=[^=\n]*=)",
    re.MULTILINE,
)
TEMPLATE_CODE = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", re.DOTALL)


def doubled_classes(modules: Iterable[Module]) -> list[str]:
    """Find public classes of one name in several modules."""
    places = defaultdict(list)
    for module in modules:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module.name)
    return _doubled(places)


def doubled_files(modules: Iterable[Module]) -> list[str]:
    """Find module files of one name in several folders."""
    places = defaultdict(list)
    for module in modules:
        if module.path.stem not in UNNAMED:
            places[module.name.rpartition(".")[2]].append(module.name)
    return _doubled(places)


def _doubled(places: dict[str, list[str]]) -> list[str]:
    return [
        f"{name} exists in {', '.join(sorted(found))}"
        for name, found in sorted(places.items())
        if len(found) > 1
    ]


def old_voice(module: Module) -> Iterator[str]:
    """Find docstrings and comments in the old voice."""
    for node in module.nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            line = getattr(node, "lineno", 1)
            if found := OPENINGS.match(text) or PHRASES.search(text):
                yield f"{module.name}:{line} says {found[0]!r}: {text.splitlines()[0]}"
    for number, line in enumerate(module.text.splitlines(), 1):
        comment = re.search(r"(?:^|\s)#\s.*", line)
        if comment and (found := PHRASES.search(comment[0])):
            yield f"{module.name}:{number} says {found[0]!r}: {line.strip()}"


def old_messages(module: Module) -> Iterator[str]:
    """Find texts for people in the old voice: string constants with a space, except docstrings."""
    described = {
        id(node.body[0].value)
        for node in module.nodes
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in module.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = PHRASES.search(node.value)
            if found and " " in node.value and id(node) not in described:
                yield f"{module.name}:{node.lineno} says {found[0]!r}"


def old_page_text(name: str, text: str) -> Iterator[str]:
    """Find the old voice in a template or a document, without template code."""
    yield from _old_lines(name, TEMPLATE_CODE.sub("", text))


def old_script_text(name: str, text: str) -> Iterator[str]:
    """Find the old voice in the comments and strings of a script; other code becomes blank."""
    kept, at = [], 0
    for found in SCRIPT_TEXT.finditer(text):
        kept.append(re.sub(r"[^\n]", " ", text[at : found.start()]))
        words = PLACEHOLDER.sub("", found[0])
        kept.append(words if " " in words else "")  # without a space it is an identifier
        at = found.end()
    yield from _old_lines(name, "".join(kept))


def misnamed_bounds(name: str, text: str) -> Iterator[str]:
    """Find constants of Python or JavaScript that are bounds and begin neither with MAX nor MIN."""
    for found in MISNAMED_BOUND.finditer(text):
        yield f"{name}: {found[1]} is a bound; its name begins with MAX_ or MIN_"


def _old_lines(name: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if found := PHRASES.search(line):
            yield f"{name}:{number} says {found[0]!r}: {line.strip()[:100]}"
