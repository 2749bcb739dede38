"""The rooms of the house: their order, their size and what their `__init__` says.

A room is a package inside a floor, or a module that lies directly in the floor. `test_rooms.py`
runs these guards over the project and over samples that break them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from house.guards import PACKAGES, ROOT, Module

ROOMS = (
    "workers.units",
    "workers.errors",
    "workers.money",
    "workers.base_url",
    "workers.upstream_route",
    "workers.type_words",
    "workers.request",
    "workers.catalog",
    "workers.providers",
    "workers.transport",
    "workers.run",
    "server.version",
    "server.log",
    "server.demo",
    "server.config",
    "server.documents",
    "server.store",
    "server.keys",
    "server.history",
    "server.http",
    "server.identity",
    "server.accounting",
    "server.answers",
    "server.services",
    "server.shapes",
    "server.data",
    "server.nodes",
    "server.api",
    "server.description",
    "webui.shell",
    "webui.sign_in",
    "webui.share",
    "webui.chat",
    "webui.keys",
    "webui.usage",
    "webui.requests",
    "webui.live",
    "webui.models",
    "webui.docs",
    "webui.page_routes",
    "server.app",
    "server.processes",
    "server.cli",
)
"""All rooms, the lowest first. A room imports only rooms that stand before it."""
OUTSIDE = ("server.demo",)
"""Rooms that are no part of the gateway: they import no other room."""
MAX_MODULES = 12
FLOORS = {
    "workers": "The engine: it carries admitted requests upstream.",
    "server": "The door: it admits requests and keeps the accounts.",
    "webui": "The face: the pages.",
}


def room_of(name: str) -> str | None:
    """Return the room of a dotted module name, or None outside all rooms."""
    room = ".".join(name.split(".")[:2])
    return room if room in ROOMS else None


def unlisted(modules: Iterable[Module]) -> Iterator[str]:
    """Find modules that lie in no room of the list, and rooms that are not there."""
    names = {module.name for module in modules}
    for name in sorted(names):
        if name not in PACKAGES and room_of(name) is None:
            yield f"{name} lies in no room; list its room in tests/house/rooms.py"
    for room in ROOMS:
        if room not in names:
            yield f"{room} is listed as a room and does not exist"


def wrong_way(module: Module) -> Iterator[str]:
    """Find imports of a room that stands above the module's own, or that may not be imported."""
    own = room_of(module.name)
    for line, name in module.imports():
        other = room_of(name)
        if own is None or other is None or own == other:
            continue
        if ROOMS.index(other) > ROOMS.index(own):
            yield f"{module.name}:{line} imports {name}, whose room stands above {own}"
        elif own in OUTSIDE:
            yield f"{module.name}:{line} imports {name}; {own} imports nothing of the gateway"


def crowded(files: Iterable[Path]) -> Iterator[str]:
    """Find folders with more than `MAX_MODULES` modules; `__init__` and `__main__` do not count."""
    folders: dict[Path, int] = {}
    for file in files:
        if not file.stem.startswith("__"):
            folders[file.parent] = folders.get(file.parent, 0) + 1
    for folder, count in sorted(folders.items()):
        if count > MAX_MODULES:
            yield f"{folder} holds {count} modules; {MAX_MODULES} is the most"


def undescribed(module: Module) -> Iterator[str]:
    """Find rooms whose `__init__` is not just the three lines: what it does, In, Out."""
    lines = description(module)
    if len(lines) != 3 or not lines[1].startswith("In: ") or not lines[2].startswith("Out: "):
        yield f"{module.name}: its docstring must say what it does, `In: ...` and `Out: ...`"
    if [node for node in module.tree.body if not isinstance(node, ast.Expr)]:
        yield f"{module.name}: its `__init__` must hold nothing but the docstring"


def description(module: Module) -> list[str]:
    """Return the lines of a room's docstring, without blank ones."""
    return [line for line in (ast.get_docstring(module.tree) or "").splitlines() if line]


def packages(modules: Iterable[Module]) -> list[Module]:
    """Return the rooms that are packages, in the order of the list, inner packages after theirs."""
    found = [each for each in modules if each.path.name == "__init__.py" and "." in each.name]
    return sorted(found, key=lambda each: (ROOMS.index(room_of(each.name) or ""), each.name))


def room_map(modules: Iterable[Module]) -> str:
    """Return the map of all rooms as Markdown, a table per floor, the highest room first."""
    rooms = packages(modules)
    parts = []
    for floor, purpose in reversed(FLOORS.items()):
        parts += [
            f"### `{floor}/`",
            "",
            purpose,
            "",
            "| room | does | in | out |",
            "|---|---|---|---|",
        ]
        for room in reversed([each for each in rooms if each.name.split(".")[0] == floor]):
            does, taken, given = description(room)
            cells = [does, taken.removeprefix("In: "), given.removeprefix("Out: ")]
            path = room.name.removeprefix(f"{floor}.").replace(".", "/")
            parts.append(f"| `{path}/` | {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts)


def source_files() -> list[Path]:
    """Return every Python file of the product and the tests."""
    return [path for top in (*PACKAGES, "tests") for path in (ROOT / top).rglob("*.py")]
