"""The rules for scripts, style sheets and templates that can be read off their text.

Format, lint rules and types are checked by `tox -e browser-code`.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from webui.chat.chat_page import CONVERSATION_SCRIPTS, SCRIPTS

ROOT = Path(__file__).parents[2]
WEBUI = ROOT / "webui"
MAX_COLUMNS = 120
MAX_LINES = 600
MAX_FILES = 12
EXPORT = re.compile(r"^export (?:async )?(?:class|const|function|let) (\w+)", re.MULTILINE)


def own_files() -> list[Path]:
    """List our scripts, style sheets and templates."""
    static = WEBUI / "static"
    scripts, styles = (static / "js").rglob("*.js"), (static / "css").rglob("*.css")
    return sorted([*scripts, *styles, *(WEBUI / "templates").rglob("*.html")])


def long_lines(path: Path) -> Iterator[str]:
    """Find lines of more than MAX_COLUMNS characters."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if len(line) > MAX_COLUMNS:
            yield f"{path.name}:{number} has {len(line)} characters; {MAX_COLUMNS} is the most"


def long_file(path: Path) -> Iterator[str]:
    """Find a file of more than MAX_LINES lines."""
    lines = len(path.read_text().splitlines())
    if lines > MAX_LINES:
        yield f"{path.name} has {lines} lines; {MAX_LINES} is the most"


def crowded_folders(paths: Iterable[Path]) -> Iterator[str]:
    """Find folders with more than MAX_FILES files."""
    folders: dict[Path, int] = {}
    for path in paths:
        folders[path.parent] = folders.get(path.parent, 0) + 1
    for folder, files in folders.items():
        if files > MAX_FILES:
            yield f"{folder.name} has {files} files; {MAX_FILES} is the most"


CHECKS = (long_lines, long_file)


@pytest.mark.parametrize("path", own_files(), ids=lambda path: str(path.relative_to(WEBUI)))
def test_lines_and_files_are_short(path: Path) -> None:
    assert [fault for check in CHECKS for fault in check(path)] == []


def test_folders_have_at_most_twelve_files() -> None:
    assert list(crowded_folders(own_files())) == []


def test_the_checks_find_what_breaks_them(tmp_path: Path) -> None:
    (tmp_path / "wide.js").write_text(f"// {'x' * 117}\n// {'x' * 118}\n")
    (tmp_path / "tall.css").write_text("\n" * 601)
    many = [tmp_path / f"{number}.html" for number in range(13)]
    assert list(long_lines(tmp_path / "wide.js")) == [
        "wide.js:2 has 121 characters; 120 is the most"
    ]
    assert list(long_file(tmp_path / "tall.css")) == ["tall.css has 601 lines; 600 is the most"]
    assert list(crowded_folders(many)) == [f"{tmp_path.name} has 13 files; 12 is the most"]


def imported(names: Iterable[str]) -> set[str]:
    """Return scripts with everything that they import, but for what they load later."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        text = (WEBUI / "static" / name).read_text()
        for target in re.findall(r'^(?:import|\}) .*?from "(\.[^"]+)";$', text, re.MULTILINE):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
            waiting |= {path} - found
    return found


def test_pages_name_in_advance_what_their_scripts_import() -> None:
    first = imported({"js/chat/main.js"})
    assert {*SCRIPTS, "js/chat/main.js"} == first
    later = imported({"js/chat/state/answers.js", "js/chat/transcript/transcript.js"})
    assert set(CONVERSATION_SCRIPTS) == later - first


def idle_exports(scripts: Mapping[str, str], tests: str) -> Iterator[str]:
    """Find names that a script exports, and that no other script and no test mentions."""
    files = Counter(name for text in scripts.values() for name in set(re.findall(r"\w+", text)))
    tested = set(re.findall(r"\w+", tests))
    for path, text in scripts.items():
        for name in EXPORT.findall(text):
            if files[name] == 1 and name not in tested:
                yield f"{path} exports {name}, which nothing imports"


def test_every_export_is_imported() -> None:
    scripts = {str(path): path.read_text() for path in (WEBUI / "static" / "js").rglob("*.js")}
    tests = "\n".join(path.read_text() for path in (ROOT / "tests" / "web").rglob("*.py"))
    assert list(idle_exports(scripts, tests)) == []


def test_an_export_that_nothing_imports_is_found() -> None:
    scripts = {"a.js": "export const one = 1;\nexport function two() {}", "b.js": "two(ones);"}
    assert list(idle_exports(scripts, "")) == ["a.js exports one, which nothing imports"]
    assert list(idle_exports(scripts, "module.one")) == []


def test_the_tools_have_exact_versions_and_name_no_mirror() -> None:
    folder = ROOT / "tests" / "browser_code"
    asked = json.loads((folder / "package.json").read_text())["devDependencies"]
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]
    for name, version in asked.items():
        assert locked[f"node_modules/{name}"]["version"] == version
    assert all("resolved" not in entry for entry in locked.values())
    assert all("integrity" in entry for name, entry in locked.items() if name)
    pins = (folder / "requirements.lock").read_text().replace("\\\n", " ")
    lines = re.findall(r"^[a-z].*$", pins, re.MULTILINE)
    assert lines and all("==" in line and "--hash=sha256:" in line for line in lines)
