"""The start with Redis: what works, and what is refused with one line that says what to do."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import trustme
from support.network.ports import free_port
from support.patience import patient_stores
from support.processes import ROOT
from support.servers.counter_nodes import node, nothing_spent
from support.servers.redis_server import KINDS, RedisServer
from support.waiting import eventually, soon

from server.accounting.redis_counters.open_redis import open_redis_counters
from server.store.key import Limits
from server.store.store import StoreFailure
from workers.errors import RateLimited

SECRET = "hunter2-of-redis"
KEY = "key_a"
DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text()


async def works(url: str) -> None:
    """Check that a limit of one holds there."""
    async with node(url) as counters:
        await counters.take(KEY, Limits(requests_per_minute=1))
        with pytest.raises(RateLimited):
            await counters.take(KEY, Limits(requests_per_minute=1))


async def refusal(url: str) -> str:
    """Return the line with which the start is refused."""
    once = patient_stores(redis_start_s=0.0)
    with pytest.raises(StoreFailure) as failure:
        async with open_redis_counters(
            url, node_id="a", when_down="share", spent=nothing_spent, patience=once
        ) as counters:
            await counters.aclose()
    line = str(failure.value)
    assert "\n" not in line
    assert SECRET not in line
    return line


@contextlib.asynccontextmanager
async def speaking(replies: Mapping[bytes, bytes]) -> AsyncIterator[str]:
    """Serve fixed replies by a word of the command, +OK to any other; gives the URL."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                for word, reply in replies.items():
                    if word in data:
                        writer.write(reply)
                        break
                else:
                    writer.write(b"+OK\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://:{SECRET}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)


def info(**fields: str) -> bytes:
    """Return an INFO reply."""
    text = "".join(f"{name}:{value}\r\n" for name, value in fields.items()).encode()
    return b"$%d\r\n%s\r\n" % (len(text), text)


def bulk(text: bytes) -> bytes:
    """Return a bulk string."""
    return b"$%d\r\n%s\r\n" % (len(text), text)


UNSUITABLE: dict[str, tuple[dict[bytes, bytes], str]] = {
    "Redis 6.2": ({b"INFO": info(redis_version="6.2.14")}, "version 6.2.14 is too old"),
    "KeyDB": ({b"INFO": info(redis_version="6.3.4")}, "version 6.3.4 is too old"),
    "a fork without a version": ({b"INFO": info(dragon="1")}, "version 0 is too old"),
    "a version of letters": ({b"INFO": info(redis_version="unstable")}, "is too old"),
    "a user without INFO": ({b"INFO": b"-NOPERM no permission\r\n"}, "may not run INFO"),
    "a wrong password": ({b"AUTH": b"-WRONGPASS invalid\r\n"}, "refuses the user, the password"),
    "a database that is not there": ({b"AUTH": b"-ERR DB index\r\n"}, "or the database"),
    "a cluster": (
        {
            b"CLUSTER": bulk(b"cluster_size:3\r\n"),
            b"INFO": info(redis_version="7.2.0", cluster_enabled="1"),
        },
        "a cluster of several shards needs a proxy",
    ),
}


@pytest.mark.parametrize("what", UNSUITABLE)
async def test_what_lacks_something_is_refused_with_one_line(what: str) -> None:
    replies, expected = UNSUITABLE[what]
    async with speaking(replies) as url:
        assert expected in await refusal(url)


async def test_a_server_of_another_protocol_is_refused(tmp_path: Path) -> None:
    del tmp_path
    async with speaking({b"": b"HTTP/1.1 400 Bad Request\r\n\r\n"}) as url:
        assert "does not speak the Redis protocol" in await refusal(url)


async def test_a_server_that_is_not_there_is_waited_for_and_then_refused(tmp_path: Path) -> None:
    line = await refusal(f"redis://:{SECRET}@127.0.0.1:{free_port()}")
    assert "cannot reach Redis at 127.0.0.1" in line
    assert "Start it, or correct ROXY_REDIS_URL" in line
    server, refused = RedisServer(tmp_path), asyncio.Event()

    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()
        refused.set()

    async with await asyncio.start_server(refuse, "127.0.0.1", server.port):
        waiting = asyncio.create_task(works(server.url))
        await soon(refused.wait())
    async with server:
        await soon(waiting)


async def test_a_wrong_url_is_refused_without_being_shown() -> None:
    assert "ROXY_REDIS_URL must be" in await refusal(f"http://{SECRET}@host")


@pytest.mark.parametrize("kind", KINDS)
async def test_passwords_users_databases_and_sockets_are_used(tmp_path: Path, kind: str) -> None:
    async with RedisServer(tmp_path, kind, "--requirepass", SECRET) as server:
        assert "wants a password" in await refusal(server.url)
        assert "the password" in await refusal(server.url.replace("//", "//:wrong@"))
        await works(server.url.replace("//", f"//:{SECRET}@"))
        await works(f"unix://:{SECRET}@{server.socket_path}?db=3")
        await works(server.url.replace("//", f"//default:{SECRET}@") + "/4")


LISTED = re.compile(r"ACL SETUSER roxy on >PASSWORD (.+)")
"""The rights in the documentation."""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_user_with_the_documented_rights_is_enough(tmp_path: Path, kind: str) -> None:
    listed = LISTED.search(DEPLOYMENT)
    assert listed is not None
    user = ("--user", "roxy", "on", f">{SECRET}", *listed[1].split())
    async with RedisServer(tmp_path, kind, *user) as server:
        await works(server.url.replace("//", f"//roxy:{SECRET}@"))


async def test_a_server_that_evicts_keys_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = ("--maxmemory-policy", "allkeys-lru")
    async with RedisServer(tmp_path, "redis", *options) as server, node(server.url):
        await server.ask("CLIENT", "KILL", "TYPE", "normal")
        await eventually(lambda: "is back" in caplog.text)
    assert caplog.text.count("may evict limits and budgets (maxmemory-policy allkeys-lru)") == 1


async def test_the_certificate_of_a_tls_server_is_verified(tmp_path: Path) -> None:
    authority, port = trustme.CA(), free_port()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name, host in (("right", "localhost"), ("wrong", "other.example")):
        authority.issue_cert(host).private_key_and_cert_chain_pem.write_to_path(
            tmp_path / f"{name}.pem"
        )
    for name, trusted in (("right", True), ("wrong", False)):
        options: tuple[str, ...] = ("--tls-port", str(port), "--tls-auth-clients", "no")
        files = ("--tls-cert-file", "--tls-key-file")
        options += tuple(word for flag in files for word in (flag, str(tmp_path / f"{name}.pem")))
        url = f"rediss://localhost:{port}"
        async with RedisServer(tmp_path, "redis", *options):
            assert "certificate verify failed" in await refusal(url)
            with_authority = f"{url}?ssl_ca_certs={tmp_path / 'ca.pem'}"
            if trusted:
                await works(with_authority)
            else:
                assert "certificate is not valid" in await refusal(with_authority)


async def test_the_connection_has_the_name_of_its_node(tmp_path: Path) -> None:
    async with RedisServer(tmp_path) as server, node(server.url, "berlin-1"):
        assert b"name=roxy-berlin-1" in await server.ask("CLIENT", "LIST")
