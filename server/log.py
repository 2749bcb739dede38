"""Write one access line per request, and the log, without secrets, prompts or answers.

A full pipe whose reader has stopped blocks every write to it, so descriptors are written by threads
of their own: the gateway goes on, and lines beyond a bound are dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol, TextIO

import msgspec

from workers.units import MIB

FLUSH_S = 0.2
"""One write per batch: a write per request would be a system call for each."""
MAX_BATCH_LINES = 20_000
"""Lines kept for one batch; further ones are dropped, and their number is logged."""
MAX_WAITING_BYTES = 8 * MIB
"""Text kept while the output takes none; further lines are dropped, and their number is logged."""
LAST_LINES_S = 1.0
"""How long the end of the process waits for an output that takes no text."""

Style = Literal["text", "json"]


class LineOutput(Protocol):
    """Takes whole lines and does not block: a `LineWriter`, or another process that has one."""

    def write(self, text: str, dropped: int = 0) -> None:
        """Write lines soon, or drop them; `dropped` more were dropped by the caller."""

    def drain(self, timeout_s: float) -> None:
        """Wait until all lines are written or dropped, but no longer than `timeout_s`."""


class LineWriter:
    """Writes whole lines to an output without blocking the caller.

    Errors (a full disk, a closed pipe) drop the lines at hand; the next ones are tried again.
    `count_line` makes the line that reports how many were dropped, once the output takes text.
    """

    def __init__(self, out: TextIO, count_line: Callable[[int], str]) -> None:
        self._out = out
        self._count_line = count_line
        self._changed = threading.Condition()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._dropped = 0
        self._writing = False
        self._torn = False
        self._thread: threading.Thread | None = None
        try:
            self._fd: int | None = out.fileno()
        except (OSError, ValueError, AttributeError):
            self._fd = None  # an output in memory, which cannot block

    def write(self, text: str, dropped: int = 0) -> None:
        """Write lines soon, or drop them; `dropped` more were dropped by the caller."""
        if self._fd is None:
            text += self._count_line(dropped) if dropped else ""
            self._out.write(text)
            return
        data = text.encode(errors="backslashreplace")
        with self._changed:
            self._dropped += dropped
            if self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
                self._dropped += text.count("\n")
                return
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            if self._thread is None:
                # A daemon, so that a blocked write does not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def drain(self, timeout_s: float) -> None:
        """Wait until all lines are written or dropped, but no longer than `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._writing, timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                data = b"".join(self._waiting)
                self._waiting.clear()
                self._writing = True
            lost = self._write_all(data)
            with self._changed:
                self._waiting_bytes -= len(data)
                self._dropped += lost
                dropped, self._dropped = self._dropped, 0
            if dropped and (lost or self._write_all(self._count_line(dropped).encode())):
                with self._changed:
                    self._dropped += dropped

    def _write_all(self, data: bytes) -> int:
        """Write all of the lines; return how many were not, because of an error.

        Not through `sys.stdout`: a thread that is blocked in it would hold its lock, and the
        interpreter ends with a fatal error when it cannot flush it at exit.
        """
        assert self._fd is not None
        if self._torn:
            data = b"\n" + data
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:  # another program has made the shared descriptor non-blocking
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
            except OSError:
                written = len(data) - len(left)
                if written:
                    self._torn = data[written - 1 : written] != b"\n"
                return bytes(left).count(b"\n") - (self._torn and not written)
        self._torn = False
        return 0


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

    def __init__(self, enabled: bool, style: Style, output: LineOutput | None = None) -> None:
        self._enabled = enabled
        self._json = style == "json"
        self._writer = output or LineWriter(sys.stdout, lambda lost: count_line(lost, style))
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
        """Pass the collected lines to the writer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        text = "".join(self._json_line(line) if self._json else text_line(line) for line in lines)
        dropped, self._dropped = self._dropped, 0
        self._writer.write(text, dropped)

    def close(self) -> None:
        """Write the remaining lines, as far as the output takes them."""
        if self._timer is not None:
            self.flush()
        self._writer.drain(LAST_LINES_S)

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


def count_line(dropped: int, style: Style) -> str:
    """Return the line that reports how many lines were dropped."""
    message = f"log: {dropped} lines dropped"
    if style == "text":
        return message + "\n"
    fields = {"at": time.time(), "level": "warning", "logger": "roxy.log", "message": message}
    return msgspec.json.encode(fields).decode() + "\n"


class LineHandler(logging.Handler):
    """Passes log records to a writer, which does not block the loop."""

    def __init__(self, writer: LineOutput) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record soon."""
        try:
            self._writer.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - the rule of `logging`: a log call raises no error
            self.handleError(record)

    def flush(self) -> None:
        """Wait a moment for the last lines; `logging` calls it at the end of the process."""
        self._writer.drain(LAST_LINES_S)


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


def set_up_logging(level: str, style: Style, output: LineOutput | None = None) -> None:
    """Write the log to standard error or another output, in one format for all loggers."""
    output = output or LineWriter(sys.stderr, lambda lost: count_line(lost, style))
    handler = LineHandler(output)
    if style == "json":
        handler.setFormatter(JsonFormatter())
    else:
        lines = logging.Formatter(
            "%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
        lines.converter = time.gmtime  # UTC, as in the access lines
        handler.setFormatter(lines)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Tornado reports malformed requests of clients here as "info".
    logging.getLogger("tornado.general").setLevel(logging.WARNING)
    # `AccessLog` writes the access lines.
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    # Its debug lines hold the statements with their values.
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
