"""What is others' work is what VENDOR.json says, has its licence, and needs no network."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

WEBUI = Path(__file__).parents[2] / "webui"
VENDOR = WEBUI / "static" / "vendor"
ABOUT: dict[str, Any] = json.loads((VENDOR / "VENDOR.json").read_text())
FREE = {"MIT", "ISC", "BSD-3-Clause", "Apache-2.0"}
UNLISTED = {"VENDOR.json"}


def test_every_file_is_the_one_that_was_built() -> None:
    for entry in ABOUT["files"]:
        data = (VENDOR / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"], entry["file"]


def test_every_file_is_listed_with_what_it_is_made_of() -> None:
    listed = {entry["file"] for entry in ABOUT["files"]}
    there = {path.name for path in VENDOR.glob("*.*")} - UNLISTED
    types = {name for name in there if name.endswith(".d.ts")}
    assert there - types == listed - {"../icons.svg"}
    assert {name.replace(".d.ts", ".js") for name in types} <= listed
    known = {package["name"] for package in ABOUT["packages"]}
    assert {name for entry in ABOUT["files"] for name in entry["packages"]} == known


def test_every_package_has_a_free_licence_and_its_text() -> None:
    for package in ABOUT["packages"]:
        assert package["license"] in FREE, package["name"]
        text = (VENDOR / "LICENSES" / f"{package['name']}.txt").read_text()
        assert "ermi" in text and "opyright" in text, package["name"]


def test_versions_and_hashes_are_those_of_the_lock_file() -> None:
    lock = json.loads((WEBUI / "vendor" / "package-lock.json").read_text())["packages"]
    asked = json.loads((WEBUI / "vendor" / "package.json").read_text())["devDependencies"]
    for package in ABOUT["packages"]:
        locked = lock[f"node_modules/{package['name']}"]
        assert (locked["version"], locked["integrity"]) == (
            package["version"],
            package["integrity"],
        )
        assert asked[package["name"]] == package["version"]
    assert all("resolved" not in entry for entry in lock.values())


def test_vendored_modules_import_nothing() -> None:
    for path in VENDOR.glob("*.js"):
        assert not re.search(r"""(?:^|[;\n])import\s*[{*"'\w]""", path.read_text()), path.name


def test_our_own_modules_import_files_that_are_there() -> None:
    for path in (WEBUI / "static" / "js").rglob("*.js"):
        for name in re.findall(r'(?:[ }]from |import |import\()"([^"]+)"', path.read_text()):
            assert name.startswith("."), f"{path.name} imports {name}"
            assert (path.parent / name).is_file(), f"{path.name} imports {name}"


def test_own_scripts_stay_readable_in_one_sitting() -> None:
    for path in (WEBUI / "static" / "js").rglob("*.js"):
        assert len(path.read_text().splitlines()) < 500, path.name
