"""The data directory: private, and one process's own."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support.ordinary_user import private_place

from server.store.data_directory import DataDirectory, DirectoryTaken
from server.store.private_file import create_private, replacing
from server.store.store import StoreFailure

__all__ = ["private_place"]

HOLD = """
import sys
from pathlib import Path
from server.store.data_directory import DataDirectory
with DataDirectory(Path(sys.argv[1])) as data:
    data.announce("http://127.0.0.1:8080")
    print("held", flush=True)
    sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_private_with_everything_in_it(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "a" / "data") as data:
        assert data.path.is_absolute()
        assert mode(data.path) == 0o700
        assert mode(data.path / "roxy.lock") == 0o600
        assert data.database.parent == data.export.parent == data.path


def test_a_wide_umask_makes_nothing_readable(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with DataDirectory(tmp_path / "data") as data:
            replace(data.export, b"{}")
            assert mode(data.path) == 0o700
            assert {mode(path) for path in data.path.iterdir()} == {0o600}
    finally:
        os.umask(old)


def test_a_directory_others_can_read_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o750)
    with DataDirectory(tmp_path):
        pass
    assert f"chmod 700 {tmp_path}" in caplog.text
    assert mode(tmp_path) == 0o750, "the directory may be shared on purpose"


def test_a_private_directory_is_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        with DataDirectory(tmp_path / "data"):
            pass
    assert caplog.text == ""


def test_our_files_are_made_private_again(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    for name in ("roxy.db", "api-keys.json"):
        (tmp_path / name).touch(0o644)
    with DataDirectory(tmp_path) as data:
        assert mode(data.database) == mode(data.export) == 0o600


def test_a_second_instance_is_refused_and_told_where_the_first_is(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as first:
        with pytest.raises(DirectoryTaken) as refusal:
            DataDirectory(tmp_path).__enter__()
        assert refusal.value.url == ""
        first.announce("http://127.0.0.1:8080")
        with pytest.raises(DirectoryTaken) as refusal:
            DataDirectory(tmp_path).__enter__()
        assert refusal.value.url == "http://127.0.0.1:8080"
        line = str(refusal.value)
        for part in (f"process {os.getpid()}", "http://127.0.0.1:8080", str(tmp_path)):
            assert part in line
        assert "\n" not in line
    with DataDirectory(tmp_path):
        pass


def test_another_process_holds_it_until_it_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(DirectoryTaken, match=f"process {process.pid}"):
            DataDirectory(tmp_path).__enter__()
        process.send_signal(signal.SIGKILL)
    with DataDirectory(tmp_path):
        pass


def test_what_is_left_in_a_lock_file_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "roxy.lock").write_bytes(b"\xff\xfe garbage " * 500)
    with DataDirectory(tmp_path) as data:
        data.announce("http://h:1")
        assert (tmp_path / "roxy.lock").read_text() == f"{os.getpid()} http://h:1\n"


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(StoreFailure, match=str(tmp_path / "data")):
        DataDirectory(tmp_path / "data").__enter__()


def test_a_directory_that_cannot_be_written_is_refused_by_name(private_place: Path) -> None:
    private_place.chmod(0o500)
    for path in (private_place, private_place / "inside", private_place / "deep" / "inside"):
        with pytest.raises(StoreFailure) as refusal:
            DataDirectory(path).__enter__()
        assert str(path) in str(refusal.value)
        assert "--data-dir" in str(refusal.value)


# Private files


def replace(path: Path, data: bytes) -> None:
    """Replace the content of a file."""
    with replacing(path) as file:
        file.write(data)


def test_a_private_file_is_never_taken_over(tmp_path: Path) -> None:
    create_private(tmp_path / "a")
    assert mode(tmp_path / "a") == 0o600
    with pytest.raises(FileExistsError):
        create_private(tmp_path / "a")


def test_a_replaced_file_is_private_whatever_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch(0o666)
    replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_content(private_place: Path) -> None:
    path = private_place / "a"
    replace(path, b"old")
    private_place.chmod(0o500)
    with pytest.raises(PermissionError):
        replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(private_place.iterdir()) == [path]
