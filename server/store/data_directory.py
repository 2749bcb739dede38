"""The directory that a gateway writes into: private, and used by one process at a time.

    with DataDirectory(Path("data")) as data:
        ...                      # data.database, data.export
        data.announce(url)       # a second instance names it in its error

The lock is `flock` on `roxy.lock`: the kernel releases it however the process ends.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from pathlib import Path
from typing import NamedTuple

from server.store.private_file import PRIVATE_DIRECTORY, PRIVATE_FILE
from server.store.store import StoreFailure

log = logging.getLogger("roxy.data")


class DirectoryTaken(StoreFailure):
    """Another process holds the directory; `holder` names it, `url` is its address or "".

    `command_secret` is what a gateway accepts from commands on this machine, or "".
    """

    def __init__(self, path: Path, lines: list[str]) -> None:
        holder = lines[0].split() if lines else []
        self.command_secret = lines[2] if len(lines) > 2 else ""
        self.url = holder[1] if len(holder) > 1 else ""
        process = f" (process {holder[0]})" if holder else ""
        where = f" at {self.url}" if self.url else ""
        self.holder = f"{'A gateway' if self.url else 'Another roxy'}{process}"
        super().__init__(
            f"Another roxy{process} is running{where} with the data directory {path}: use it, stop"
            " it, or choose another directory with --data-dir."
        )


class Holder(NamedTuple):
    """The process that holds a directory, its URL or "", and what `announce` says of reloads."""

    process: int
    url: str
    reloads: str


class DataDirectory:
    """A locked data directory; a context manager. Entering raises StoreFailure."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.database = self.path / "roxy.db"
        self.export = self.path / "api-keys.json"
        self._lock_path = self.path / "roxy.lock"
        self._lock: int | None = None
        self.command_secret = ""
        """What `announce` leaves for commands on this machine: they act as the owner with it."""

    def __enter__(self) -> DataDirectory:
        try:
            self._create()
            self._lock = self._take_lock()
            self._tighten()
            self.announce()
        except (FileExistsError, NotADirectoryError) as error:
            self.close()
            raise StoreFailure(
                f"The data directory {self.path} cannot be created: it is a file, or a directory"
                " above it is one. Choose another one with --data-dir."
            ) from error
        except OSError as error:
            self.close()
            raise StoreFailure(
                f"The data directory {self.path} cannot be written ({error.strerror}): give this"
                " user write access to it, or choose another one with --data-dir."
            ) from error
        return self

    def check_used(self) -> None:
        """Raise StoreFailure where no gateway has written yet; nothing is created there.

        An export is enough, because a lost database is restored from it.
        """
        try:
            used = self.database.exists() or self.export.exists()
        except OSError:
            return  # not readable: entering the directory raises with the reason
        if not used:
            raise StoreFailure(
                f"There is no database in {self.path}: set the gateway's data directory with"
                " --data-dir, or create one with `roxy serve` or `roxy migrate`."
            )

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def announce(self, url: str = "", reloads: str = "") -> None:
        """Write the process id and the URL into the lock file, for people and a second instance.

        `reloads` is a second line, for `roxy reload`: how often this gateway has reloaded, and how
        that ended. A gateway that cannot reload has none. The third is the command secret.
        """
        assert self._lock is not None
        text = "\n".join((f"{os.getpid()} {url}".strip(), reloads, self.command_secret))
        lines = text.rstrip("\n") + "\n"
        # Written in place and then cut, so that a reader never finds the file empty.
        size = os.pwrite(self._lock, lines.encode(), 0)
        os.ftruncate(self._lock, size)

    def read_holder(self) -> Holder | None:
        """Return the process that holds the directory, or None."""
        try:
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            first, second, *_ = [*os.pread(lock, 4000, 0).decode(errors="replace").split("\n"), ""]
            process, _, url = first.partition(" ")
            return Holder(int(process), url, second.strip()) if process.isdecimal() else None
        else:
            return None
        finally:
            os.close(lock)

    def close(self) -> None:
        """Release the lock. The secret for commands ends with its gateway."""
        if self._lock is not None:
            if self.command_secret:
                self.command_secret = ""
                self.announce()
            os.close(self._lock)
            self._lock = None

    def _create(self) -> None:
        if not self.path.is_dir():
            # `mkdir(parents=True, mode=...)` would give the mode to the last directory only, and
            # chmod afterwards would leave a moment in which others can look inside.
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)

    def _take_lock(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        lock = os.open(self._lock_path, flags, PRIVATE_FILE)
        try:
            # The file is never deleted: a second process could lock the deleted one, a third a new.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lines = os.pread(lock, 4000, 0).decode(errors="replace").splitlines()
            os.close(lock)
            raise DirectoryTaken(self.path, lines) from error
        except OSError:
            os.close(lock)
            raise
        return lock

    def _tighten(self) -> None:
        """Warn about a directory that others can read, and make the files in it private again."""
        if stat.S_IMODE(self.path.stat().st_mode) & 0o077:
            log.warning(
                "other users of this machine can read the data directory: run chmod 700 %s",
                self.path,
            )
        for path in (self.database, self.export, self._lock_path):
            if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
                path.chmod(PRIVATE_FILE)
                log.warning("%s was readable by others and is private now", path)
