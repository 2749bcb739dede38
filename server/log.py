"""Logging: one line per request, written in batches; never a secret, a prompt or an answer."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import Any, Literal, TextIO

import msgspec

FLUSH_S = 0.2
MOST_WAITING = 20_000
"""Lines kept for one batch; beyond it they are counted and dropped, and the count is logged."""


class AccessLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is logged of one request; durations in milliseconds."""

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
    """Gather lines and write them a few times a second."""

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
        """Note a request; it is written within `FLUSH_S`."""
        if not self._enabled:
            return
        if len(self._lines) >= MOST_WAITING:
            self._dropped += 1
            return
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def flush(self) -> None:
        """Write what has gathered."""
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
        """Write the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self.flush()

    def _json_line(self, line: AccessLine) -> str:
        return msgspec.json.encode(line).decode() + "\n"


def text_line(line: AccessLine) -> str:
    """Render a line for people: the time in UTC, then what happened."""
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
    """Render log records as JSON lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Give one line; a traceback is a field of its own."""
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
    """Send the gateway's log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    if style == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("tornado.general").setLevel(
        logging.WARNING
    )  # malformed HTTP is not ours to log
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)  # its debug lines hold statements
