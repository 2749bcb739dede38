"""The rules of the house that can be read off the source, each as a function that finds faults.

`test_guards.py` runs them over the project, and over samples that break them.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("migrations", "workers", "server", "webui")
FLOORS = {
    "migrations": 0,
    "workers": 1,
    "server": 2,
    "webui": 3,
    "server.app": 4,
    "server.processes": 5,
    "server.cli": 6,
}
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
Function = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name, its text and where it lies."""

    name: str
    text: str
    path: Path = Path()

    @classmethod
    def read(cls, path: Path, root: Path = ROOT) -> Module:
        """Read a file below `root`."""
        parts = path.relative_to(root).with_suffix("").parts
        return cls(".".join(parts).removesuffix(".__init__"), path.read_text(), path)

    @functools.cached_property
    def tree(self) -> ast.Module:
        """Parse the source once."""
        return ast.parse(self.text)

    @functools.cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Walk over the source once, for all guards."""
        return tuple(ast.walk(self.tree))

    @property
    def ours(self) -> bool:
        """True if this is the product, not a test."""
        return self.name.split(".")[0] in PACKAGES

    def imports(self) -> Iterator[tuple[int, str]]:
        """Return the line and dotted name of everything imported, wherever in the file."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((node.lineno, name.name) for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Return every function and method."""
        return (node for node in self.nodes if isinstance(node, Function))


def handler_imports(module: Module) -> Iterator[str]:
    """Find pages that import the API's handlers; the base and the list of routes are shared."""
    if module.name.split(".")[0] != "webui":
        return
    for line, name in module.imports():
        if name.startswith("server.api.") and name.split(".")[2] not in ("base", "routes"):
            yield f"{module.name}:{line} imports {name}; pages share domain functions with the API"


@functools.cache
def product() -> list[Module]:
    """Read the packages."""
    return [
        Module.read(path) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))
    ]


@functools.cache
def tests() -> list[Module]:
    """Read the tests and their fakes."""
    return [Module.read(path) for path in sorted((ROOT / "tests").rglob("*.py"))]


def floor(name: str) -> int | None:
    """Return the floor of a dotted name, or None outside the project's packages."""
    parts = name.split(".")
    return FLOORS.get(".".join(parts[:2]), FLOORS.get(parts[0]))


def upward_imports(module: Module) -> Iterator[str]:
    """Find imports from a higher floor; `server.app` and `server.cli` are the top."""
    own = floor(module.name)
    for line, name in module.imports():
        other = floor(name)
        if own is not None and other is not None and other > own:
            yield f"{module.name}:{line} imports {name}, which lives above it"


def foreign_doors(module: Module) -> Iterator[str]:
    """Find httpx outside the transport, and the environment read outside the configuration."""
    for line, name in module.imports():
        if name.split(".")[0] == "httpx" and module.name != "workers.transport.transport":
            yield f"{module.name}:{line} imports httpx; workers/transport/ is its only door"
        if (
            name in ("os.environ", "os.getenv", "os.environb")
            and module.name != "server.config.loading"
        ):
            yield f"{module.name}:{line} reads the environment; server/config/ does"
    for node in module.nodes:
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("environ", "environb", "getenv")
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
            and module.name != "server.config.loading"
        ):
            yield f"{module.name}:{node.lineno} reads the environment; server/config/ does"


def provider_questions(module: Module) -> Iterator[str]:
    """Find `if provider == "..."` in its forms; such knowledge belongs to workers/providers."""
    if module.name.startswith("workers.providers"):
        return
    for node in module.nodes:
        asked: list[ast.expr] = []
        if isinstance(node, ast.Compare) and any(map(_is_text, [node.left, *node.comparators])):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            asked = [node.subject]
        for side in asked:
            if getattr(side, "attr", getattr(side, "id", "")) == "provider":
                yield f"{module.name}:{side.lineno} asks which provider it is"


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return any(map(_is_text, node.elts))
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value != ""


def lost_tasks(module: Module) -> Iterator[str]:
    """Find tasks that nobody holds: only a TaskGroup may be left to itself."""
    for node in module.nodes:
        if not isinstance(node, ast.Expr | ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) != "_":
            continue
        called = ast.unparse(node.value.func)
        owner, _, name = called.rpartition(".")
        if name in ("create_task", "ensure_future") and "group" not in owner.lower():
            yield f"{module.name}:{node.lineno} starts a task that nobody holds: {called}"


def timed_waits(module: Module) -> Iterator[str]:
    """Find bounds in seconds around what must happen; `support.waiting` has the one bound.

    A bound that is short enough to be noticed fails on a busy machine. Soak and bench are apart.
    """
    if module.name.startswith(("tests.load.", "tests.bench.")):
        return
    for node in module.nodes:
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        bounds = {
            "asyncio.timeout": [*node.args, *given.values()],
            "asyncio.wait_for": [*node.args[1:], *given.values()],
            "settings": [given["deadline"]] if "deadline" in given else [],
        }.get(called, [])
        for bound in bounds:
            if isinstance(bound, ast.Constant) and isinstance(bound.value, int | float):
                yield f"{module.name}:{node.lineno} waits with a bound of its own: {called}"


def promised_waits(module: Module) -> Iterator[str]:
    """Find `wait_for_function`: it takes the promise of an asynchronous script for true.

    The scripts of bench are not asynchronous, and must not be called again and again.
    """
    if module.name.startswith("tests.bench."):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr == "wait_for_function":
            yield f"{module.name}:{node.lineno} calls wait_for_function; `becomes` does wait"


def globals_rebound(module: Module) -> Iterator[str]:
    """Find `global`."""
    for node in module.nodes:
        if isinstance(node, ast.Global):
            yield f"{module.name}:{node.lineno} rebinds global {', '.join(node.names)}"


def oversize(module: Module) -> Iterator[str]:
    """Find files and functions that have grown too long."""
    lines = module.text.count("\n")
    if lines > MAX_FILE_LINES:
        yield f"{module.name} has {lines} lines; {MAX_FILE_LINES} is the most"
    for node in module.functions():
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > MAX_FUNCTION_LINES:
            yield f"{module.name}:{node.lineno} {node.name} has {lines} lines"


def empty_names(module: Module) -> Iterator[str]:
    """Find module names that say nothing."""
    if said := BANNED_NAMES & set(module.name.split(".")[-1].split("_")):
        yield f"{module.name}: {', '.join(said)} names nothing"


def undocumented(module: Module) -> Iterator[str]:
    """Find public modules, classes, functions and methods without a docstring."""
    if not ast.get_docstring(module.tree):
        yield f"{module.name} has no docstring"
    scopes: list[tuple[str, ast.Module | ast.ClassDef]] = [(module.name, module.tree)]
    while scopes:
        where, scope = scopes.pop()
        for node in scope.body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                yield f"{where}.{node.name} has no docstring"
            if isinstance(node, ast.ClassDef):
                scopes.append((f"{where}.{node.name}", node))


def import_cycles(modules: list[Module]) -> list[str]:
    """Find circles among the modules' imports, those for type checkers alone included."""
    names = {module.name for module in modules}
    edges = {
        module.name: {
            target if target in names else target.rpartition(".")[0]
            for _, target in module.imports()
        }
        & names
        for module in modules
    }
    cycles: set[str] = set()
    for start in edges:
        _walk(start, [], edges, cycles, set())
    return sorted(cycles)


def _walk(
    name: str, path: list[str], edges: Mapping[str, set[str]], cycles: set[str], seen: set[str]
) -> None:
    if name in path:
        circle = path[path.index(name) :]
        first = circle.index(min(circle))
        cycles.add(" -> ".join([*circle[first:], *circle[:first], circle[first]]))
    elif name not in seen:
        seen.add(name)
        for target in sorted(edges[name]):
            _walk(target, [*path, name], edges, cycles, seen)


def error_codes(modules: list[Module]) -> set[str]:
    """Collect every error code that the product can send: `code = "..."` and `code="..."`."""
    codes: set[str] = set()
    for module in modules:
        for node in module.nodes:
            if isinstance(node, ast.keyword) and node.arg == "code":
                codes |= _texts(node.value)
            elif isinstance(node, ast.ClassDef):
                codes |= _class_codes(node)
    return codes


def _class_codes(node: ast.ClassDef) -> set[str]:
    """Read `code` and `CODES` in a class's body, alone or in `status, type, code = ...`."""
    found: set[str] = set()
    for line in node.body:
        for target, value in _assignments(line):
            if ast.unparse(target) == "code":
                found |= _texts(value)
            elif ast.unparse(target) == "CODES" and isinstance(value, ast.Dict):
                found.update(*map(_texts, value.values))
    return found


def _assignments(line: ast.stmt) -> list[tuple[ast.expr, ast.expr]]:
    if isinstance(line, ast.AnnAssign) and line.value is not None:
        return [(line.target, line.value)]
    if not isinstance(line, ast.Assign):
        return []
    target, value = line.targets[0], line.value
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]


def _texts(node: ast.expr) -> set[str]:
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def changed_migrations(released: Mapping[str, str], folder: Path) -> Iterator[str]:
    """Find released migrations that are gone or no longer what they were (SHA-256)."""
    for name, checksum in released.items():
        path = folder / name
        if not path.exists():
            yield f"{name} was released and is gone"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != checksum:
            yield f"{name} was released and has changed: write the next number instead"
