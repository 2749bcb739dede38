"""The directory a gateway writes into: private, and owned by one process at a time.

    with DataDirectory(Path("data")) as data:
        ...                      # data.database, data.export
        data.announce(url)       # a second instance names it when it has to stop

The lock is `flock` on `roxy.lock`: the kernel lets go of it whatever kills the process.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from pathlib import Path
from types import TracebackType

from server.store.private_file import PRIVATE_DIRECTORY, PRIVATE_FILE
from server.store.store import StoreFailure

log = logging.getLogger("roxy.data")


class DirectoryTaken(StoreFailure):
    """Another process owns the directory; `url` is where it can be reached, "" when not known."""

    def __init__(self, path: Path, holder: list[str]) -> None:
        self.url = holder[1] if len(holder) > 1 else ""
        process = f" (process {holder[0]})" if holder else ""
        where = f" at {self.url}" if self.url else ""
        super().__init__(
            f"Another roxy{process} is running{where} with the data directory {path}: use that"
            " one, stop it, or choose another directory with --data-dir."
        )


class DataDirectory:
    """A locked data directory; a context manager. Entering raises StoreFailure."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.database = self.path / "roxy.db"
        self.export = self.path / "api-keys.json"
        self._lock_path = self.path / "roxy.lock"
        self._lock: int | None = None

    def __enter__(self) -> DataDirectory:
        try:
            self._create()
            self._lock = self._take_lock()
            self._tighten()
            self.announce()
        except (FileExistsError, NotADirectoryError) as error:
            raise StoreFailure(
                f"The data directory {self.path} cannot be made: a file is in its place, or in that"
                " of a directory above it. Choose another one with --data-dir."
            ) from error
        except OSError as error:
            self.close()
            raise StoreFailure(
                f"The data directory {self.path} cannot be written ({error.strerror}): give this"
                " user write access to it, or choose another one with --data-dir."
            ) from error
        return self

    def check_used(self) -> None:
        """Raise StoreFailure where no gateway has ever written, and leave no trace there.

        An export counts: a lost database is made anew from it.
        """
        try:
            used = self.database.exists() or self.export.exists()
        except OSError:
            return  # who cannot look learns why by entering
        if not used:
            raise StoreFailure(
                f"There is no database in {self.path}: name the gateway's directory with"
                " --data-dir, or start it once with `roxy serve`, which makes one."
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def announce(self, url: str = "") -> None:
        """Write into the lock file who holds it, for people and for a second instance."""
        assert self._lock is not None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()} {url}".strip().encode() + b"\n", 0)

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _create(self) -> None:
        if not self.path.is_dir():
            # A directory of ours is private from the first instant; its parents are not ours.
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)

    def _take_lock(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        lock = os.open(self._lock_path, flags, PRIVATE_FILE)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(lock, 1000, 0).decode(errors="replace").split()
            os.close(lock)
            raise DirectoryTaken(self.path, holder) from error
        except OSError:
            os.close(lock)
            raise
        return lock

    def _tighten(self) -> None:
        """Warn of a directory that others can read; make our own files private again."""
        if stat.S_IMODE(self.path.stat().st_mode) & 0o077:
            log.warning(
                "others on this machine can look into the data directory: chmod 700 %s", self.path
            )
        for path in (self.database, self.export, self._lock_path):
            if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
                path.chmod(PRIVATE_FILE)
                log.warning("%s was readable by others; it is private now", path)
