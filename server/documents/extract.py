"""What is read of a document: its text, collected within limits, or why there is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from workers.units import MIB

MAX_TEXT_BYTES = 4 * MIB
"""The most text of one document, in UTF-8: about a million tokens."""
READ_WITHIN_S = 6.0
"""What is read after this time of the processor is answered, before the process is stopped."""

Unit = Literal["page", "sheet", "slide"]
Reason = Literal[
    "password", "scanned", "empty", "old_office", "damaged", "too_complex", "unsupported", "no_pdf"
]


class Extract(Struct, frozen=True, kw_only=True):
    """The text of one document.

    `units` counts its pages, sheets or slides, where it has them; `units_read` those whose text is
    in `text`. `is_cut`: the text is longer than the limit, or took too long; its beginning is here.
    """

    format: str
    text: str
    unit: Unit | None = None
    units: int | None = None
    units_read: int | None = None
    is_cut: bool = False


class Unreadable(Exception):
    """No text can be read; `reason` says why. `detail` is for the log: it holds no content."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason: Reason = reason
        self.detail = detail


class TextFull(Exception):
    """The text has reached its limit, or the time is over; what was read so far is returned."""


class TextCollector:
    """Collect text up to a limit of size and time."""

    def __init__(
        self,
        max_bytes: int = MAX_TEXT_BYTES,
        within_s: float = READ_WITHIN_S,
        clock: Callable[[], float] = time.process_time,
    ) -> None:
        self.unit: Unit | None = None
        self.units: int | None = None
        self._free = max_bytes
        self._clock = clock
        self._deadline = clock() + within_s
        self._pieces: list[str] = []
        self._begun = 0

    def begin(self, unit: Unit, name: str = "") -> None:
        """Begin the next page, sheet or slide with a mark: "[Page 2]"."""
        self._begun += 1
        self.unit = unit
        named = f": {name}" if name else f" {self._begun}"
        self.add(f"{'' if self._begun == 1 else chr(10)}[{unit.capitalize()}{named}]\n")

    def add(self, text: str) -> None:
        """Add text. Raises TextFull when it is over a limit; as much as fits is kept."""
        size = len(text.encode("utf-8", "replace"))
        if size > self._free:
            self._pieces.append(
                text.encode("utf-8", "replace")[: self._free].decode(errors="ignore")
            )
            self._free = 0
            raise TextFull
        self._free -= size
        self._pieces.append(text)
        if self._clock() > self._deadline:
            raise TextFull

    def line(self, text: str) -> None:
        """Add a line."""
        self.add(f"{text}\n")

    def extract(self, file_format: str, *, is_cut: bool) -> Extract:
        """Return what was collected."""
        begun = self._begun or None
        return Extract(
            format=file_format,
            text="".join(self._pieces).strip("\n"),
            unit=self.unit,
            units=self.units or begun if self.unit else None,
            units_read=begun,
            is_cut=is_cut,
        )
