"""Write one access line per request, and the log, without secrets, prompts or answers."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import Any, Literal, TextIO

import msgspec

FLUSH_S = 0.2
"""One write per batch: a write per request would be a system call for each."""
MAX_BATCH_LINES = 20_000
"""Lines kept for one batch; further ones are dropped, and their number is logged."""


class AccessLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """The access line of one request; durations are in milliseconds."""

    at: float
    request_id: str
    method: str
    path: str
    status: int
    duration_ms: float
    who: str = "-"
    model: str | None = None
    retry_count: str | None = None
    error: str | None = None


class AccessLog:
    """Collect lines and write them a few times a second."""

    def __init__(
        self, enabled: bool, style: Literal["text", "json"], out: TextIO | None = None
    ) -> None:
        self._enabled = enabled
        self._json = style == "json"
        self._out = out or sys.stdout
        self._lines: list[AccessLine] = []
        self._dropped = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, line: AccessLine) -> None:
        """Add the line of a request; it is written within `FLUSH_S`."""
        if not self._enabled:
            return
        if len(self._lines) >= MAX_BATCH_LINES:
            self._dropped += 1
            return
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write the collected lines."""
        self._timer = None
        lines, self._lines = self._lines, []
        text = "".join(self._json_line(line) if self._json else text_line(line) for line in lines)
        if self._dropped:
            text += f"access log: {self._dropped} lines dropped\n"
            self._dropped = 0
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):  # a full disk or a closed pipe must not stop the gateway
            self._enabled = False

    def close(self) -> None:
        """Write the remaining lines."""
        if self._timer is not None:
            self._timer.cancel()
            self.flush()

    def _json_line(self, line: AccessLine) -> str:
        return msgspec.json.encode(line).decode() + "\n"


def text_line(line: AccessLine) -> str:
    """Format a line as text, with the time in UTC."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(line.at))
    extra = "".join(
        f" {name}={value}"
        for name, value in (
            ("model", line.model),
            ("error", line.error),
            ("retry", line.retry_count),
        )
        if value
    )
    return (
        f"{stamp}Z {line.status} {line.method} {line.path} {line.duration_ms:.1f}ms"
        f" {line.who} {line.request_id}{extra}\n"
    )


class JsonFormatter(logging.Formatter):
    """Format log records as JSON lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; a traceback is a field of it."""
        fields: dict[str, Any] = {
            "at": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields).decode()


def set_up_logging(level: str, style: Literal["text", "json"]) -> None:
    """Write the log to standard error, in one format for all loggers."""
    handler = logging.StreamHandler(sys.stderr)
    if style == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Tornado reports malformed requests of clients here as "info".
    logging.getLogger("tornado.general").setLevel(logging.WARNING)
    # `AccessLog` writes the access lines.
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    # Its debug lines hold the statements with their values.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
