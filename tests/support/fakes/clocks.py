"""The two clocks of this machine, moved by hand."""

from __future__ import annotations

NOON = 1_795_348_800.0
"""2026-11-22 12:00 UTC, a Sunday."""


class Clocks:
    """A monotonic clock that only goes on, and a wall clock that can be set."""

    def __init__(self, wall: float = NOON) -> None:
        self.at = 5_000.0
        self.wall_at = wall

    def now(self) -> float:
        """Read the monotonic clock."""
        return self.at

    def wall(self) -> float:
        """Read the wall clock."""
        return self.wall_at

    def pass_s(self, seconds: float) -> None:
        """Advance both clocks."""
        self.at += seconds
        self.wall_at += seconds

    def set_wall(self, wall: float) -> None:
        """Set the wall clock; the monotonic one does not notice."""
        self.wall_at = wall
