"""The rules of the house hold, and each guard can tell when one does not."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from house import guards
from house.guards import ROOT, Module

from server.api.routes import ROUTES
from server.config.settings_table import SHORT_VARIABLES, describe_settings
from server.description.model_fields import describe_entries

RELEASED_MIGRATIONS: dict[str, str] = {}
"""File -> SHA-256, added when a version is released; nothing is released yet."""

Guard = Callable[[Module], Iterator[str]]

LONG_FUNCTION = "def f():\n" + "    pass\n" * 60
BREACHES: list[tuple[Guard, str, str]] = [
    (guards.upward_imports, "workers.run.pool", "from server.store.key import Key"),
    (guards.upward_imports, "workers.run.pool", "def f():\n    import server"),
    (guards.upward_imports, "server.identity.authentication", "import webui.shell.pages"),
    (guards.upward_imports, "webui.shell.pages", "from server import app"),
    (guards.upward_imports, "server.api.completions", "from server.app import gateway"),
    (guards.upward_imports, "server.app", "from server.cli.command_line import main"),
    (guards.handler_imports, "webui.live.live_page", "from server.api.jobs import JobHandler"),
    (guards.handler_imports, "webui.shell.pages", "import server.api.keys"),
    (guards.foreign_doors, "workers.run.pool", "import httpx"),
    (guards.foreign_doors, "server.log", "import os\nDEBUG = os.environ['DEBUG']"),
    (guards.foreign_doors, "server.log", "from os import getenv"),
    (guards.provider_questions, "workers.run.pool", "x = deployment.provider == 'openai'"),
    (guards.provider_questions, "server.app", "x = provider in ('google', 'anthropic')"),
    (guards.provider_questions, "server.app", "match d.provider:\n    case 'google': pass"),
    (guards.lost_tasks, "server.app", "asyncio.create_task(f())"),
    (guards.lost_tasks, "server.app", "_ = asyncio.ensure_future(f())"),
    (guards.lost_tasks, "server.app", "asyncio.get_running_loop().create_task(f())"),
    (guards.timed_waits, "tests.run.test_pool", "asyncio.timeout(5)"),
    (guards.timed_waits, "tests.run.test_pool", "asyncio.wait_for(event.wait(), timeout=0.5)"),
    (guards.timed_waits, "tests.run.test_pool", "@settings(deadline=400)\ndef f(): 0"),
    (guards.promised_waits, "tests.web.test_page", "await page.wait_for_function(SCRIPT)"),
    (guards.globals_rebound, "server.app", "def f():\n    global x\n    x = 1"),
    (guards.oversize, "server.app", LONG_FUNCTION),
    (guards.oversize, "server.app", "x = 1\n" * 601),
    (guards.empty_names, "server.utils", ""),
    (guards.empty_names, "workers.key_manager", ""),
    (guards.undocumented, "server.app", "x = 1"),
    (guards.undocumented, "server.app", '"""Doc."""\ndef f(): pass'),
    (guards.undocumented, "server.app", '"""Doc."""\nclass A:\n    """Doc."""\n    def f(self): 0'),
]
GOOD = '''"""Build things."""

import asyncio
import os.path
from workers.run.job import Job

class Public:
    """Hold a task."""

    def start(self, group):
        """Start it."""
        self._task = asyncio.get_running_loop().create_task(f())
        group.create_task(f())

    def _private(self):
        return deployment.provider in TRANSLATORS
'''
OF_ALL: list[Guard] = [guards.lost_tasks, guards.globals_rebound, guards.oversize]
OF_THE_PRODUCT: list[Guard] = [
    guards.upward_imports,
    guards.handler_imports,
    guards.foreign_doors,
    guards.provider_questions,
    guards.empty_names,
    guards.undocumented,
]


@pytest.mark.parametrize("guard", [*OF_THE_PRODUCT, *OF_ALL], ids=lambda guard: guard.__name__)
def test_the_product_keeps_the_rule(guard: Guard) -> None:
    faults = [fault for module in guards.product() for fault in guard(module)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "guard",
    [*OF_ALL, guards.empty_names, guards.timed_waits, guards.promised_waits],
    ids=lambda guard: guard.__name__,
)
def test_the_tests_keep_the_rule(guard: Guard) -> None:
    faults = [fault for module in guards.tests() for fault in guard(module)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("breach", range(len(BREACHES)))
def test_a_guard_finds_a_breach(breach: int) -> None:
    guard, name, text = BREACHES[breach]
    assert list(guard(Module(name, text))), f"{guard.__name__} does not see:\n{text}"


@pytest.mark.parametrize("guard", [*OF_THE_PRODUCT, *OF_ALL], ids=lambda guard: guard.__name__)
def test_a_guard_lets_good_code_pass(guard: Guard) -> None:
    assert list(guard(Module("server.builder", GOOD))) == []


def test_imports_form_no_circle() -> None:
    assert guards.import_cycles(guards.product()) == []


def test_a_circle_of_imports_is_found_once() -> None:
    modules = [
        Module("workers.a", "from workers.b import x"),
        Module("workers.b", "from workers import c"),
        Module("workers.c", "import workers.a"),
        Module("workers.d", "import workers.a"),
    ]
    found = ["workers.a -> workers.b -> workers.c -> workers.a"]
    assert guards.import_cycles(modules) == found


def test_released_migrations_stay_as_they_were() -> None:
    assert list(guards.changed_migrations(RELEASED_MIGRATIONS, ROOT / "migrations")) == []
    released = re.search(r"^## \[\d", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert not released or RELEASED_MIGRATIONS, "a release lists its migrations here"


def test_a_changed_or_missing_migration_is_found(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("SELECT 1;")
    good = hashlib.sha256(b"SELECT 1;").hexdigest()
    assert list(guards.changed_migrations({"0001_a.sql": good}, tmp_path)) == []
    for bad in ({"0001_a.sql": "0" * 64}, {"0002_b.sql": good}):
        assert len(list(guards.changed_migrations(bad, tmp_path))) == 1


def test_every_setting_is_in_the_reference_as_it_is_in_the_code() -> None:
    rows = [
        f"| `{each.path}` | `{each.env}` | {shown(each.default)} | {each.doc} |"
        for each in describe_settings()
    ]
    rows += [f"| `{variable.env}` | {variable.doc} |" for variable in SHORT_VARIABLES]
    missing = [row for row in rows if row not in reference()]
    assert not missing, "put these rows into docs/reference.md:\n" + "\n".join(missing)


def test_every_field_of_a_model_is_in_the_reference_as_it_is_in_the_code() -> None:
    rows = []
    for table in describe_entries():
        rows += [f"### `{table.heading}`", table.about]
        rows += [
            f"| `{one.name}` | {one.kind} | {one.default} | {one.doc} |" for one in table.fields
        ]
    missing = [row for row in rows if f"\n{row}\n" not in reference()]
    assert not missing, "put these rows into docs/reference.md:\n" + "\n".join(missing)


def shown(default: object) -> str:
    """Write a default as `roxy.toml` would have it; nothing for an empty text or an unset one."""
    return "" if default in ("", None) else f"`{json.dumps(default)}`"


def test_every_route_is_in_the_reference() -> None:
    routes = []
    for route in ROUTES:
        shown = f"/api/v1/{route.path}" if route.api else route.path
        methods = {"get", "post", "put", "patch", "delete"} & set(vars(route.handler))
        assert methods, f"{shown} answers nothing"
        routes += [f"{method.upper()} {shown}" for method in sorted(methods)]
    assert missing_in_reference(routes) == []


def test_every_error_code_is_in_the_reference() -> None:
    codes = guards.error_codes(guards.product())
    assert {"model_not_found", "upstream_gap_timeout", "model_not_allowed"} <= codes
    assert missing_in_reference(sorted(codes)) == []


def missing_in_reference(names: list[str]) -> list[str]:
    """Return those that `docs/reference.md` does not name as `code`."""
    return [name for name in names if f"`{name}`" not in reference()]


def reference() -> str:
    """Read the reference."""
    return (ROOT / "docs" / "reference.md").read_text()


def test_the_project_names_no_machine_and_no_package_host() -> None:
    # Put together here, because this file is searched too.
    told = [f"/{folder}/" for folder in ("work", "root", "tmp/v", "opt/pypi")]
    told += ["pypi" + ".org", "python" + "hosted", "npm" + "js", "deb.debian" + ".org"]
    faults = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in project_files()
        for name in told
        if name.encode() in path.read_bytes()
    ]
    assert not faults, "\n".join(faults)


def project_files() -> list[Path]:
    """Return the files that belong to the project, not those that tools leave behind."""
    top = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]  # a worktree
    folders = [*guards.PACKAGES, "docs", "tests", ".ci"]
    below = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    leftovers = {"__pycache__", "node_modules"}
    return [path for path in top + below if not leftovers & set(path.parts)]


def test_the_readme_runs_what_ci_runs() -> None:
    command = (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert command in (ROOT / "README.md").read_text()


def test_the_catalog_and_the_licences_are_here() -> None:
    catalog = tomllib.loads((ROOT / "workers" / "catalog" / "catalog.toml").read_text())
    assert [model["id"] for model in catalog["models"]] == [
        "zai/glm-4.5",
        "google/gemini-2.5-pro",
        "meta/llama-3.3-70b",
        "anthropic/claude-sonnet-4",
    ]
    for licence in (ROOT / "LICENSE", ROOT / "tests" / "support" / "openai_schemas" / "LICENSE"):
        assert "Permission is hereby granted" in licence.read_text()


def test_the_lock_files_hold_hashes_for_every_package() -> None:
    for name in ("requirements.lock", "requirements-nodes.lock", "requirements-test.lock"):
        lock = (ROOT / name).read_text().replace("\\\n", " ")
        pins = re.findall(r"^[a-z].*$", lock, re.MULTILINE)
        assert len(pins) > 10
        assert [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []


def test_every_file_that_the_guide_names_is_there() -> None:
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", (ROOT / "CONTRIBUTING.md").read_text())
    mine = [
        name
        for name in named
        if "NAME" not in name
        and not name.startswith((".tox/", "server/dialects", "tests/dialects"))
    ]
    assert len(mine) > 20
    assert [name for name in mine if not (ROOT / name).exists()] == []
