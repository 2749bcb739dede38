"""Write files that only their owner can read, and replace them in one step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


def create_private(path: Path) -> None:
    """Create an empty file with mode 0600. Raises FileExistsError.

    The mode is set at creation: after a later chmod, others could hold the file open already.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE))


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file for the new content of another; leaving the block puts it in place, durably.

    A reader finds the old or the new content, never a part. It blocks on the disk: use a thread.
    An error in the block, and OSError, keep the old content.
    """
    # In the same directory: a rename is atomic within one file system only (rename(2)).
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    try:
        create_private(part)
        with part.open("wb") as file:
            yield file
        put_in_place(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def put_in_place(part: Path, path: Path) -> None:
    """Rename a finished file to its final name, durably. Blocks on the disk.

    The directory is synced too, because the new name is part of it (fsync(2), Notes).
    """
    _sync(part)  # before the rename, or a power failure could leave the new name with no content
    part.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
