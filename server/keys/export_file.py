"""The format of `api-keys.json`: write keys as JSON for people, and read them back.

The file may hold millions of keys, so it is written and read in pieces. Files up to WHOLE_BYTES are
decoded as one JSON text, whatever their layout; larger ones key by key, if they have the layout
that is written here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import msgspec
from msgspec import Meta, Struct

from server.store.key import (
    NOTE_LENGTH,
    PUBLIC_FIELDS,
    Instant,
    Key,
    Limits,
    Status,
    Weight,
    public_fields,
)
from server.store.store import StoreFailure
from workers.units import MIB

WHOLE_BYTES = 16 * MIB
"""Some 25,000 keys; decoding takes 0.2 s and 40 MB."""
INDENT = b"    "
FIRST_KEY = b'  "keys": [\n'
LAST_LINES = b"  ]\n}\n"

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]


class ExportedKey(Struct, frozen=True, forbid_unknown_fields=True):
    """A key as written in the file; `sha256` is the hash of its secret."""

    id: Annotated[str, Meta(pattern=r"^key_[0-9A-Za-z]{16}$")]
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    redacted: Annotated[str, Meta(max_length=30)]
    sha256: Sha256
    created_at: Instant
    last_used_at: Instant | None
    expires_at: Instant | None
    status: Status
    models: tuple[str, ...] | None
    limits: Limits
    weight: Weight
    previous_sha256: Sha256 | None = None
    previous_until: Instant | None = None
    note: Annotated[str, Meta(max_length=NOTE_LENGTH)] = ""

    @classmethod
    def of(cls, key: Key) -> ExportedKey:
        """Convert a key for the file."""
        return cls(
            **public_fields(key),
            sha256=key.digest.hex(),
            previous_sha256=key.previous_digest.hex() if key.previous_digest else None,
            previous_until=key.previous_until,
        )

    def key(self) -> Key:
        """Convert back to a key."""
        return Key(
            **{name: getattr(self, name) for name in PUBLIC_FIELDS},
            digest=bytes.fromhex(self.sha256),
            previous_digest=bytes.fromhex(self.previous_sha256) if self.previous_sha256 else None,
            previous_until=self.previous_until,
        )


class Export(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; `exported_at` is in Unix seconds."""

    version: Literal[1]
    exported_at: Instant
    keys: tuple[ExportedKey, ...]


EXPORT = msgspec.json.Decoder(Export)
EXPORTED_KEY = msgspec.json.Decoder(ExportedKey)


class DamagedExport(StoreFailure):
    """The file is not a complete export."""


# Writing


def encode_export(keys: Sequence[Key], exported_at: int) -> bytes:
    """Encode keys as the file's content, indented for people."""
    return export_start(exported_at) + encode_keys(keys, first=True) + export_end(empty=not keys)


def export_start(exported_at: int) -> bytes:
    """Return what stands before the keys."""
    return b'{\n  "version": 1,\n  "exported_at": %d,\n  "keys": [' % exported_at


def encode_keys(keys: Iterable[Key], *, first: bool) -> bytes:
    """Encode some of the keys; `first`: there are none before them."""
    pieces = [b"" if first else b","]
    for number, key in enumerate(keys):
        text = msgspec.json.format(msgspec.json.encode(ExportedKey.of(key)), indent=2)
        pieces.append(b"\n" if number == 0 else b",\n")
        pieces.append(INDENT + text.replace(b"\n", b"\n" + INDENT))
    return b"".join(pieces) if len(pieces) > 1 else b""


def export_end(*, empty: bool) -> bytes:
    """Return what stands after the keys."""
    return b"]\n}\n" if empty else b"\n" + LAST_LINES


# Reading


def read_export(path: Path) -> list[Key]:
    """Read the keys of an export. Blocks on the disk. Raises DamagedExport and StoreFailure."""
    return list(iterate_export(path))


def iterate_export(path: Path, whole_bytes: int = WHOLE_BYTES) -> Iterator[Key]:
    """Read the keys of an export one after another. Raises DamagedExport and StoreFailure.

    Damage is found where it is, so an error may come after many keys. Files larger than
    `whole_bytes` are not checked for two keys with the same id or hash.
    """
    try:
        with path.open("rb") as file:
            if path.stat().st_size > whole_bytes and _has_layout(file):
                yield from _read_by_key(file)
                return
            file.seek(0)
            keys = [key.key() for key in EXPORT.decode(file.read()).keys]
    except OSError as error:
        raise StoreFailure(f"{path} cannot be read ({error.strerror}).") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if _begins_otherwise(path):
            raise DamagedExport(f"{path} is not an export of keys.") from error
        raise DamagedExport(f"{path} is not a complete export of keys ({error}).") from error
    # Look-ups are by id and by hash; of two equal ones, one key could never be found.
    for what, distinct in (("id", {k.id for k in keys}), ("hash", {k.digest for k in keys})):
        if len(distinct) < len(keys):
            raise DamagedExport(f"{path} is damaged: two of its keys have the same {what}.")
    yield from keys


def _has_layout(file: BinaryIO) -> bool:
    """Return whether a file begins as `export_start` does, and go to its first key."""
    start = [file.readline(100) for _ in range(4)]
    if start[-1] != FIRST_KEY:
        return False
    EXPORT.decode(b"".join(start) + b"]}")
    return True


def _read_by_key(file: BinaryIO) -> Iterator[Key]:
    """Read the keys of a file that has the layout; every other line is damage."""
    lines: list[bytes] = []
    for line in file:
        lines.append(line)
        if line in (INDENT + b"},\n", INDENT + b"}\n"):
            yield EXPORTED_KEY.decode(b"".join(lines).rstrip(b",\n")).key()
            lines.clear()
            if line.endswith(b"}\n"):
                break
    if file.read(len(LAST_LINES) + 1) != LAST_LINES:
        raise msgspec.DecodeError("its end is missing")


def _begins_otherwise(path: Path) -> bool:
    """Return whether a file has content, but not that of a JSON object."""
    with path.open("rb") as file:
        start = file.read(1000).lstrip()
    return start != b"" and not start.startswith(b"{")
