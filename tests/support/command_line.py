"""Run `roxy` commands inside the test's own process, which saves half a second each."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.processes import Finished

from server.cli.command_line import main
from server.cli.serve_command import STOP_SIGNALS


def exit_code(command: list[str]) -> int:
    """Run a command; gives what the process's exit code would be."""
    try:
        return main(command)
    except SystemExit as ended_by_argparse:
        return int(ended_by_argparse.code or 0)


@contextmanager
def signals_kept() -> Iterator[None]:
    """Restore the handlers of the signals that stop a gateway."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class CommandLine:
    """A shell in an empty directory whose environment holds only what tests need and `environ`."""

    def __init__(self, path: Path, captured: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._captured = captured

    def run(self, *command: str | Path, **environ: str) -> Finished:
        """Run a command to its end; keywords are further variables."""
        self._captured.readouterr()
        parts = [str(part) for part in command]
        with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as thread:
            for name, value in environ.items():
                patch.setenv(name, value)
            if parts[:1] == ["serve"]:  # it sets signal handlers, which only the main thread may
                with signals_kept():
                    code = exit_code(parts)
            else:
                # It runs a loop of its own, which cannot be inside that of an asynchronous test.
                code = thread.submit(exit_code, parts).result()
        said = self._captured.readouterr()
        return Finished(code, said.out, said.err)

    async def beside(self, *command: str | Path, **environ: str) -> Finished:
        """Run a command beside a gateway that runs in the test's loop."""
        return await asyncio.to_thread(self.run, *command, **environ)


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[CommandLine]:
    """Return a shell; what commands do to the log is undone."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("ROXY_") or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield CommandLine(tmp_path, capsys)
    root.handlers[:] = handlers
    root.setLevel(level)
