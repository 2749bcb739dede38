"""The wheel holds the four packages whole and nothing else, and what is installed from it serves.

Run by `tox -e wheel`, which builds the wheel and installs it into an environment of its own.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = {"migrations", "server", "webui", "workers"}
ROXY = Path(sys.executable).with_name("roxy")
START_S = 60.0
WORKSHOP = ROOT / "webui" / "vendor"
"""Builds what is under webui/static/vendor, and is of no use to who runs the gateway."""


@pytest.fixture(scope="module")
def names() -> list[str]:
    """Return the names of the files in the wheel; tox says where it is."""
    (wheel,) = [path for path in os.environ["TOX_PACKAGE"].split(os.pathsep) if path]
    return zipfile.ZipFile(wheel).namelist()


@pytest.fixture
def environment() -> dict[str, str]:
    """Return an environment that knows nothing of the source tree."""
    kept = ("PATH", "LANG", "SYSTEMROOT")
    return {name: os.environ[name] for name in kept if name in os.environ}


def test_the_top_level_is_the_four_packages(names: list[str]) -> None:
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    assert len(top) == len(PACKAGES) + 1


def test_every_file_of_the_packages_is_in_the_wheel_and_no_other(names: list[str]) -> None:
    packed = {name for name in names if ".dist-info/" not in name}
    there = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.is_relative_to(WORKSHOP)
    }
    assert packed == there


def test_the_licence_is_in_the_wheel(names: list[str]) -> None:
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]


def test_the_command_tells_its_version(tmp_path: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [ROXY, "--version"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "roxy 0.1.0\n"


@pytest.fixture
def served_url(tmp_path: Path, environment: dict[str, str]) -> Iterator[str]:
    """Serve the demo from the installed wheel, far from the source tree; give its URL."""
    command: list[str | Path] = [
        ROXY,
        "serve",
        "--demo",
        "--port",
        "0",
        "--data-dir",
        tmp_path / "data",
    ]
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as process:
        try:
            yield announced_url(tmp_path / "data" / "roxy.lock", process)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=START_S)
    assert code == 0


def announced_url(lock: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait until the lock file names the URL beside the process."""
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        first, *_ = lock.read_text().splitlines() or [""] if lock.exists() else [""]
        _, _, url = first.partition(" ")
        if url:
            return url
        time.sleep(0.05)
    raise AssertionError("the gateway did not start")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/"])
def test_what_is_installed_serves_it(served_url: str, path: str) -> None:
    assert fetched(served_url + path)


def test_what_its_page_names_is_there(served_url: str) -> None:
    page = fetched(served_url + "/").decode()
    paths = set(re.findall(r'"(/static/[^"#]+)', page))
    assert {path.rpartition(".")[2] for path in paths} == {"css", "js", "svg", "png"}
    assert all(fetched(served_url + path) for path in paths)


def fetched(url: str) -> bytes:
    """Return a body; raises HTTPError unless it was answered well."""
    with urllib.request.urlopen(url, timeout=START_S) as answer:
        body: bytes = answer.read()
    return body
