"""Measure the gateway with many keys and many usage rows, in a temporary data directory.

    python tests/bench/growth.py                             20,000 keys, 200,000 rows: a minute
    python tests/bench/growth.py --keys 1000000 --rows 10000000
    python tests/bench/growth.py --directory /var/tmp/grown --keep ...

It fills a database, starts a gateway with the demo over it, and prints: how much longer the start
takes than with ten keys, what a request costs beside one of a gateway with ten keys, the times and
sizes of the owner's pages and API answers, the export, and the memory. Absolute figures depend on
the machine: compare those of one run. Exits with 1 when an answer was wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import http.server
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from server.keys.secret import digest_of, redact  # noqa: E402
from server.store.sqlite.sqlite_file import open_database  # noqa: E402

OWNER = "owner-key-of-the-growth-bench"
FEW = 10
USED = FEW
"""Keys whose secrets are known here. Both gateways serve as many: each key in use has rows of its
own to write, whatever the number of keys."""
DAYS = 90
START_PATIENCE_S = 600.0
PAGE_BYTES = 300_000
PAGES = (
    "/keys",
    "/keys?page={last}",
    "/keys?sort=spent",
    "/keys?sort=spent&page={last}",
    "/keys?search=shop+77",
    "/keys?search=no+such+key",
    "/usage",
    "/usage?days=90&by=key",
    "/usage?days=90&by=day&metric=cost",
    "/usage?key={key}",
    "/usage?days=90&model=model%2F2&by=key",
    "/requests",
    "/requests?before={middle}",
    "/requests?key={key}",
    "/requests?key={key}&model=model%2F3",
    "/requests?status=failed&model=model%2F1",
    "/requests?status=drained",
    "/api/v1/keys",
    "/api/v1/keys?search=shop+777&limit=20",
    "/api/v1/usage?group_by=day,model",
    "/api/v1/usage?group_by=key&limit=1000",
    "/api/v1/usage?limit=1000",
    "/api/v1/usage?key={key}",
    "/api/v1/requests?limit=1000",
    "/api/v1/requests?key={key}&status=failed",
    "/api/v1/live",
)
CONFIG = """
[log]
access = false
[[models]]
id = "bench/one"
name = "One"
owned_by = "bench"
prices = {{ prompt = 1.0, completion = 2.0 }}
[[models.deployments]]
provider = "openai"
base_url = "{base_url}"
upstream_model = "one"
secret_env = "UPSTREAM_KEY"
"""
ANSWER = (
    b'{"id":"x","object":"chat.completion","created":1,"model":"one","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)
KEYS_SQL = """
    WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?)
    INSERT INTO keys SELECT printf('key_%016d', n), 'shop ' || n, printf('roxy_%04d…%04d', n, n),
        randomblob(32), 1700000000 + n, NULL, CASE WHEN n % 7 = 0 THEN 4000000000 END,
        CASE WHEN n % 50 = 0 THEN 'revoked' ELSE 'active' END, NULL, NULL, NULL, NULL, NULL,
        'month', 1, NULL, NULL, 1, '' FROM number
"""
ROWS_SQL = """
    WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :rows)
    INSERT INTO usage (request_id, at, key_id, model, deployment, status, http_status,
        prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
        estimated, cost_microusd, ttft_ms, duration_ms, queued_ms, stream, attempts)
    SELECT printf('req_%016x', n), :first + n * :step,
        printf('key_%016d', 1 + abs(random()) % :active), 'model/' || (abs(random()) % 8),
        'model@one', CASE n % 40 WHEN 0 THEN 'failed' WHEN 1 THEN 'cut' ELSE 'finished' END, 200,
        900 + n % 200, 300 + n % 99, 0, NULL, NULL, n % 25 = 0, 450 + n % 77, 200 + n % 800, 4000,
        3, 1, NULL FROM number
"""
SUMS = (
    "count(*), sum(status NOT IN ('finished', 'cancelled')), sum(prompt_tokens),"
    " sum(completion_tokens), sum(cached_tokens), 0, sum(estimated), 0, sum(cost_microusd),"
    " sum(ttft_ms), count(ttft_ms), sum(duration_ms),"
    " sum(estimated * (prompt_tokens + completion_tokens)), sum(estimated * cost_microusd)"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    options = _parser().parse_args(argv)
    folder = options.directory or Path(tempfile.mkdtemp(prefix="roxy-growth-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _measure(folder, options)
    finally:
        if not options.keep:
            shutil.rmtree(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--active", type=int, default=5_000, help="keys that the rows are of")
    parser.add_argument("--requests", type=int, default=1_000, help="per gateway and round")
    parser.add_argument("--starts", type=int, default=3, help="starts that are timed")
    parser.add_argument("--directory", type=Path, help="where the data is (default: temporary)")
    parser.add_argument("--keep", action="store_true", help="keep the data, and use what is there")
    return parser


def _measure(folder: Path, options: argparse.Namespace) -> int:
    secrets = [f"roxy_{hashlib.sha256(str(n).encode()).hexdigest()[:38]}" for n in range(USED)]
    secrets = [_with_checksum(secret) for secret in secrets]
    few, many = folder / "few", folder / "many"
    for place, keys, rows in ((few, FEW, 0), (many, options.keys, options.rows)):
        if not (place / "roxy.db").exists():
            began = time.monotonic()
            _fill(place, keys, rows, min(options.active, keys), secrets)
            print(f"filled {place.name}: {keys:,} keys, {rows:,} rows", end=" ")
            print(f"in {time.monotonic() - began:.0f} s, {_size(place / 'roxy.db')}")
    few_start = [_start_time(few) for _ in range(options.starts)]
    many_start = [_start_time(many) for _ in range(options.starts)]
    print(f"start: {min(few_start):.2f} s with {FEW} keys, {min(many_start):.2f} s with", end=" ")
    print(f"{options.keys:,}: {min(many_start) - min(few_start):+.2f} s")
    with (
        _upstream() as base_url,
        _gateway(few, base_url) as first,
        _gateway(many, base_url) as second,
    ):
        for place in (few, many):  # the first export takes a minute and would be counted
            while not (place / "api-keys.json").exists():
                time.sleep(0.2)
        ratios = []
        for _ in range(3):
            base = _requests(first, secrets[:FEW], options.requests)
            ratios.append(_requests(second, secrets[:FEW], options.requests) / base)
        print(f"a request costs {statistics.median(ratios):.3f} of one with {FEW} keys", end=" ")
        print(f"(CPU of the gateway; {', '.join(f'{ratio:.3f}' for ratio in ratios)})")
        wrong = _pages(second, options)
        print(f"memory: {_memory(first):,} KiB with {FEW} keys, {_memory(second):,} KiB")
        return 1 if wrong else 0


def _with_checksum(secret: str) -> str:
    from server.keys.secret import CHECK_LENGTH, _checksum

    body = secret[: len(secret) - CHECK_LENGTH]
    return body + _checksum(body)


def _fill(place: Path, keys: int, rows: int, active: int, secrets: Sequence[str]) -> None:
    """Make a data directory with so many keys, of which the first are those of `secrets`."""
    place.mkdir(mode=0o700, parents=True)
    with closing(open_database(place / "roxy.db")) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA cache_size = -400000")
        db.execute("BEGIN")
        db.execute(KEYS_SQL, (keys,))
        for number, secret in enumerate(secrets[:keys], 1):
            db.execute(
                "UPDATE keys SET sha256 = ?, redacted = ?, status = 'active', expires_at = NULL"
                " WHERE id = ?",
                (digest_of(secret), redact(secret), f"key_{number:016}"),
            )
        if rows:
            _fill_usage(db, rows, active)
        db.execute("COMMIT")


def _fill_usage(db: sqlite3.Connection, rows: int, active: int) -> None:
    """Add usage rows and their sums; the indexes are made again at the end, which is faster."""
    indexes = db.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'usage'"
    ).fetchall()
    for name, _ in indexes:
        db.execute(f"DROP INDEX {name}")
    step = DAYS * 86_400 / rows
    first = time.time() - DAYS * 86_400
    db.execute(ROWS_SQL, {"rows": rows, "first": first, "step": step, "active": active})
    for _, sql in indexes:
        db.execute(sql)
    day = "date(at, 'unixepoch')"
    db.execute(
        f"INSERT INTO usage_daily SELECT {day}, key_id, model, {SUMS} FROM usage GROUP BY 1, 2, 3"
    )
    db.execute(
        f"INSERT INTO usage_daily_models SELECT {day}, model, {SUMS} FROM usage GROUP BY 1, 2"
    )


class Running:
    """A gateway that runs: its process and its port."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def get(self, path: str) -> tuple[int, int, float]:
        """Return status, size and seconds of an answer to the owner."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        began = time.monotonic()
        connection.request("GET", path, headers={"Authorization": f"Bearer {OWNER}"})
        answer = connection.getresponse()
        size = 0
        while piece := answer.read(1 << 16):
            size += len(piece)
        connection.close()
        return answer.status, size, time.monotonic() - began

    def cpu_s(self) -> float:
        """Return the seconds of processor time that the gateway has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Upstream(http.server.BaseHTTPRequestHandler):
    """An upstream that answers every request in the same way, at once."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Answer a chat completion."""
        self.rfile.read(int(self.headers["Content-Length"]))
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(ANSWER)}"
        self.wfile.write(head.encode() + b"\r\n\r\n" + ANSWER)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextlib.contextmanager
def _upstream() -> Iterator[str]:
    """Run the upstream in a thread; return its base URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Upstream)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def _gateway(place: Path, base_url: str = "http://127.0.0.1:9/v1") -> Iterator[Running]:
    (place / "roxy.toml").write_text(CONFIG.format(base_url=base_url))
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "server.cli", "serve", "--port", "0"],
            cwd=place,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ
            | {
                "PYTHONPATH": str(ROOT),
                "ROXY_ADMIN_API_KEY": OWNER,
                "ROXY_DATA_DIR": str(place),
                "UPSTREAM_KEY": "none",
            },
        )
    try:
        yield Running(process, _port(place, process))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _port(place: Path, process: subprocess.Popen[bytes]) -> int:
    """Wait until a gateway listens, and return its port."""
    patience = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < patience and process.poll() is None:
        for line in (place / "log").read_text(errors="replace").splitlines():
            _, found, rest = line.partition("http://127.0.0.1:")
            if found and (digits := rest.split("/")[0].split()[0]).isdigit():
                return int(digits)
        time.sleep(0.005)
    raise SystemExit(f"the gateway did not start: {place / 'log'}")


def _start_time(place: Path) -> float:
    began = time.monotonic()
    with _gateway(place):
        return time.monotonic() - began


def _requests(gateway: Running, secrets: Sequence[str], count: int) -> float:
    """Send requests with random keys on one connection; return the CPU seconds of each."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
    body = b'{"model":"bench/one","messages":[{"role":"user","content":"Hi"}],"max_tokens":5}'
    before = gateway.cpu_s()
    for number in range(count):
        secret = secrets[number % len(secrets)]
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        connection.request("POST", "/api/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"a request was answered with {answer.status}")
    connection.close()
    tick = 1 / os.sysconf("SC_CLK_TCK")  # a few requests may take less than can be measured
    return max(gateway.cpu_s() - before, tick) / count


def _pages(gateway: Running, options: argparse.Namespace) -> int:
    """Print times and sizes of the owner's answers, then of the whole lists; count wrong ones."""
    values = {
        "key": f"key_{min(options.active, options.keys) // 2:016}",
        "middle": f"{int(time.time() - DAYS * 43_200)}-1",
        "last": max(1, options.keys * 98 // 100 // 50),
    }
    wrong = 0
    for path in (one.format(**values) for one in PAGES):
        status, size, _ = gateway.get(path)
        seconds = statistics.median(gateway.get(path)[2] for _ in range(3))
        is_page = not path.startswith("/api/")
        fault = status != 200 or (is_page and size > PAGE_BYTES)
        wrong += fault
        print(f"{seconds * 1000:8.0f} ms {size:10,} B  {path}{'  WRONG' if fault else ''}")
    for path in ("/keys/export", "/api/v1/usage?format=csv&group_by=key"):
        status, size, seconds = gateway.get(path)
        wrong += status != 200
        print(
            f"{seconds:8.1f} s  {size:10,} B  {path} (streamed){'' if status == 200 else '  WRONG'}"
        )
    return wrong


def _memory(gateway: Running) -> int:
    """Return the largest resident size of a gateway in KiB."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1])


def _size(path: Path) -> str:
    return f"{path.stat().st_size / 1e9:.2f} GB"


if __name__ == "__main__":
    raise SystemExit(main())
