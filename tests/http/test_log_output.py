"""The log's output: it may be full, closed or never read, and the gateway goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from support.fakes.upstream import FakeUpstream
from support.processes import serving
from support.waiting import PATIENCE_S

from server.log import MAX_WAITING_BYTES, LineWriter, count_line

LINE = "x" * 999 + "\n"


def counted(dropped: int) -> str:
    return count_line(dropped, "text")


def test_a_pipe_that_is_not_read_blocks_no_writer_and_the_dropped_lines_are_counted() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "w") as out, os.fdopen(read_end) as reader:
        writer = LineWriter(out, counted)
        count = 2 * MAX_WAITING_BYTES // len(LINE)
        for _ in range(count):
            writer.write(LINE)
        lines = dropped = 0
        while lines + dropped < count:
            if (line := reader.readline()) == LINE:
                lines += 1
            else:
                dropped = int(line.split()[1])
                assert line == counted(dropped)
        assert lines and dropped
        writer.write(LINE)
        assert reader.readline() == LINE


def test_the_log_goes_on_after_a_full_disk(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as out, (tmp_path / "log").open("w") as file:
        writer = LineWriter(out, counted)
        writer.write(LINE * 3)
        writer.drain(PATIENCE_S)
        os.dup2(file.fileno(), out.fileno())
        writer.write(LINE)
        writer.drain(PATIENCE_S)
    assert (tmp_path / "log").read_text() == LINE + counted(3)


async def test_a_gateway_whose_output_is_not_read_answers_and_stops(tmp_path: Path) -> None:
    async with FakeUpstream() as upstream, serving(tmp_path, upstream) as roxy:
        roxy.reading.clear()
        head = f"GET /{'x' * 400} HTTP/1.1\r\nHost: x\r\n"
        asked = 900 * f"{head}\r\n"  # 400 KB of lines: pipe and reader hold 200 KB
        answers = await roxy.door.raw(f"{asked}{head}Connection: close\r\n\r\n".encode())
        assert answers.count(b"HTTP/1.1 404 ") == 901
        roxy.signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            assert await roxy.process.wait() == 0
