"""The benchmark works, and its load generator counts what it is meant to count. No times here."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from bench.contenders import Tools, build, upstream
from bench.pages import BARS
from bench.processes import family
from bench.report import COUNTS, rows
from support.waiting import PATIENCE_S, eventually

RUN = str(Path(__file__).parents[1] / "bench" / "run.py")
PAGES = str(Path(__file__).parents[1] / "bench" / "pages.py")
MAX_RUN_S = 4 * PATIENCE_S
"""When a whole measurement counts as hanging."""
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n"
)
DELTAS = [
    b'{"choices":[{"index":0,"delta":{"content":"~%d:12345678901234567~ x"}}]}' % n
    for n in range(4)
]
FINISH = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
USAGE = b'{"choices":[],"usage":{"total_tokens":9}}'
DONE = b"[DONE]"
WHOLE = [*DELTAS, FINISH, USAGE, DONE]


def events(payloads: list[bytes], end: bytes = b"\n\n") -> bytes:
    """Frame payloads as an answer of known length."""
    body = b"".join(b"data: " + payload + end for payload in payloads)
    return HEAD % len(body) + body


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """Compile the programs."""
    cpu = min(os.sched_getaffinity(0))
    return build(tmp_path_factory.mktemp("bench"), cpu, cpu)


@asynccontextmanager
async def answering(pieces: list[bytes]) -> AsyncIterator[int]:
    """Answer each connection's first request with these bytes and hang up; gives the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def load(tools: Tools, port: int, *options: str) -> dict[str, int | str]:
    """Run the load generator and give the counts that are not zero."""
    command = [str(tools.load), "--port", str(port), "--conns", "1", "--count", "1", *options]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    assert process.returncode == 0
    figures = json.loads(printed)
    names = ("completed", "errors", "unfinished", "out_of_order", "doubled", "missing")
    return {name: figures[name] for name in names if figures[name]}


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        pytest.param([events(WHOLE)], {"completed": 1}, id="whole"),
        pytest.param([events(WHOLE, b"\r\n\r\n")], {"completed": 1}, id="crlf"),
        pytest.param([b"%c" % byte for byte in events(WHOLE)], {"completed": 1}, id="every byte"),
        pytest.param([events(WHOLE)[:-60]], {"unfinished": 1}, id="cut"),
        pytest.param(
            [events([*DELTAS[:3], FINISH, USAGE, DONE])], {"errors": 1, "missing": 1}, id="missing"
        ),
        pytest.param([events([DELTAS[0], *WHOLE])], {"completed": 1, "doubled": 1}, id="doubled"),
        pytest.param(
            [events([DELTAS[1], DELTAS[0], *WHOLE[2:]])],
            {"completed": 1, "out_of_order": 3},
            id="swapped",
        ),
        pytest.param([events([*DELTAS, USAGE, DONE])], {"errors": 1}, id="no finish_reason"),
        pytest.param([events([*DELTAS, FINISH, DONE])], {"errors": 1}, id="no usage"),
        pytest.param([events([*DELTAS, FINISH, USAGE])], {"unfinished": 1}, id="no [DONE]"),
        pytest.param([events([*WHOLE, USAGE])], {"errors": 1}, id="more after [DONE]"),
        pytest.param(
            [events([*DELTAS, b'{"error":{"code":"x"}}', *WHOLE[4:]])], {"errors": 1}, id="error"
        ),
        pytest.param(
            [b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"],
            {"errors": 1},
            id="refused",
        ),
        pytest.param([b""], {"errors": 1}, id="no answer"),
        pytest.param([b"SSH-2.0-OpenSSH_9.2\r\n\r\n"], {"errors": 1}, id="not HTTP"),
    ],
)
async def test_the_load_generator_counts_every_way_an_answer_can_go_wrong(
    tools: Tools, pieces: list[bytes], expected: dict[str, int]
) -> None:
    async with answering(pieces) as port:
        assert await load(tools, port, "--kind", "stream", "--events", "4") == expected


async def test_the_load_generator_counts_a_refused_connection(tools: Tools) -> None:
    async with answering([]) as port:
        pass
    assert await load(tools, port) == {"errors": 1}


def test_the_load_generator_talks_to_loopback_addresses_only(tools: Tools) -> None:
    command = [str(tools.load), "--port", "80", "--host", "192.0.2.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2
    assert "not a loopback address" in done.stderr


@pytest.mark.parametrize("split", [1, 17, 1000])
async def test_the_fake_upstream_reads_requests_however_they_are_split(
    tools: Tools, split: int
) -> None:
    body = json.dumps(
        {"stream_options": {"include_usage": True}, "stream": True, "messages": "bench:3x10x5;"}
    ).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n" % len(body)
    request += b"Connection: close\r\n\r\n" + body
    with upstream(tools) as contender:
        reader, writer = await asyncio.open_connection("127.0.0.1", contender.port)
        for at in range(0, len(request), split):
            writer.write(request[at : at + split])
            await writer.drain()
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
    assert [answer.count(f"~{n:06}:") for n in range(4)] == [1, 1, 1, 0]
    assert '"completion_tokens":3' in answer
    assert answer.endswith("data: [DONE]\n\n\r\n0\r\n\r\n")


def test_the_benchmark_answers_everything_and_prints_every_figure(tmp_path: Path) -> None:
    told = tmp_path / "figures.json"
    command = [sys.executable, RUN, "--quick", "--json", str(told)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAX_RUN_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(told.read_text())
    for name in ("direct", "nginx", "roxy"):
        assert {count: found["counts"][name][count] for count in COUNTS} == dict.fromkeys(COUNTS, 0)
        assert found["counts"][name]["completed"] == found["counts"][name]["requests"] > 0
    for row in rows(["paced100", "paced1000"]):
        assert row.label in done.stdout
        assert found["figures"]["roxy"][row.figure], row.label


def test_a_stopped_benchmark_leaves_no_process_behind() -> None:
    command = [sys.executable, RUN, "--quick", "--only", "direct,nginx"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr
        process.stderr.readline()  # the first round began: everyone is up
        started = family(process.pid)[1:]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 130
    assert started
    # What had no parent any more is reaped by another process.
    asyncio.run(eventually(lambda: not [pid for pid in started if Path(f"/proc/{pid}").exists()]))


def test_the_measurement_of_the_pages_prints_every_figure() -> None:
    command = [sys.executable, PAGES, "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAX_RUN_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for line, name in zip(done.stdout.splitlines(), BARS, strict=True):
        assert line.startswith(name) and float(line.removeprefix(name).split()[0]) >= 0
