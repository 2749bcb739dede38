"""`roxy keys`: the same commands on an unused database and through a running gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import stat
import time
from collections.abc import AsyncIterator

import pytest
from support.builders.rows import a_key
from support.command_line import CommandLine
from support.command_line import shell as new_shell
from support.fakes.upstream import FakeUpstream, refusal
from support.front_door import MODEL, OWNER, Door, bearer, front_door
from support.processes import Finished

from server.cli.key_administration import PAGE_KEYS, CommandFailure, GatewayKeys
from server.keys.export_file import read_export
from server.store.data_directory import DataDirectory
from server.store.sqlite.sqlite_store import SqliteStore

__all__ = ["new_shell"]

QUIET = "[log]\naccess = false\n"
SECRET = re.compile(r"roxy_[0-9A-Za-z]{38}")
SERVED = "zai/glm-4.5"
OWNER_KEY = {"ROXY_ADMIN_API_KEY": OWNER}
MISTAKES = [
    (("create", ""), "'name'"),
    (("create", "x" * 101), "'name'"),
    (("create", "a\nb"), "'name'"),
    (("create", "x", "--models", "zai/glm-4.5,no/such"), "'no/such': `roxy check --offline` lists"),
    (("revoke", "key_0000000000000000"), "no key 'key_0000000000000000': `roxy keys list` shows"),
    (("revoke", "../models"), "There is no key '../models'"),
    (("revoke", "key_0/rotate"), "There is no key 'key_0/rotate'"),
    (("revoke", "inv_0000000000000000"), "no invitation 'inv_0000000000000000'"),
    (("invite", "key_0000000000000000"), "no key 'key_0000000000000000': `roxy keys list` shows"),
    (("rotate", "key_0000000000000000"), "no key 'key_0000000000000000': `roxy keys list` shows"),
    (("import", "missing.json"), "missing.json"),
    (("import", "roxy.toml"), "roxy.toml is not an export of keys."),
    (("export", "no/such/place.json"), "no/such/place.json"),
]


@pytest.fixture
def shell(new_shell: CommandLine) -> CommandLine:
    """Return a shell beside a data directory that has a database."""
    assert new_shell.run("migrate").code == 0
    return new_shell


@contextlib.asynccontextmanager
async def running(shell: CommandLine) -> AsyncIterator[Door]:
    """Run a gateway over the shell's data directory; commands read its roxy.toml too."""
    async with (
        FakeUpstream() as upstream,
        front_door(shell.path, upstream, settings=QUIET) as door,
    ):
        yield door


def create(shell: CommandLine, *options: str) -> tuple[str, str]:
    """Make a key; gives its id and secret."""
    made = shell.run("keys", "create", *options)
    assert made.code == 0, made
    return id_in(made), made.out.strip()


def id_in(made: Finished) -> str:
    found = re.search(r"key_\w{16}", made.err)
    assert found is not None
    return found[0]


def test_a_new_key_is_alone_on_standard_output_and_listed_without_its_secret(
    shell: CommandLine,
) -> None:
    assert "no keys" in shell.run("keys", "list").out
    made = shell.run("keys", "create", "ci")
    assert SECRET.fullmatch(made.out.removesuffix("\n")), "for KEY=$(roxy keys create ci)"
    assert "shown only once" in made.err and not SECRET.search(made.err)
    listed = shell.run("keys", "list")
    header, row = listed.out.splitlines()
    assert header.split("  ")[0] == "ID"
    assert row.split()[0] == id_in(made)
    assert row.split()[1:] == [
        "ci",
        f"{made.out[:9]}…{made.out[-5:-1]}",
        "active",
        "-",
        "never",
    ]
    assert not SECRET.search(listed.out + listed.err)


def test_an_expired_key_is_listed_as_expired(shell: CommandLine) -> None:
    create(shell, "short", "--expires-in-days", "1")
    export = json.loads(shell.run("keys", "export").out)
    export["keys"][0]["expires_at"] = 86_400
    (shell.path / "old.json").write_text(json.dumps(export))
    assert shell.run("keys", "import", "old.json", "--data-dir", "other").code == 0
    header, row = shell.run("keys", "list", "--data-dir", "other").out.splitlines()
    assert header.split() == ["ID", "NAME", "KEY", "STATUS", "EXPIRES", "LAST", "USED"]
    assert row.split()[3:] == ["expired", "1970-01-02", "00:00Z", "never"]


def test_every_choice_of_a_new_key_is_kept(shell: CommandLine) -> None:
    key_id, _ = create(
        shell,
        *("--requests-per-minute", "5", "--tokens-per-minute", "700"),
        *("--concurrent-requests", "2", "--budget-dollars", "1.1", "--budget-period", "day"),
        *("--models", "zai/glm-4.5, meta/llama-3.3-70b", "--expires-in-days", "1.5", "chosen"),
    )
    (key,) = read_export(shell.path / "data" / "api-keys.json")
    assert (key.id, key.name) == (key_id, "chosen")
    limits = key.limits
    assert (limits.requests_per_minute, limits.tokens_per_minute) == (5, 700)
    assert (limits.concurrent_requests, limits.budget_microusd) == (2, 1_100_000)
    assert (limits.budget_period, key.models) == ("day", ("zai/glm-4.5", "meta/llama-3.3-70b"))
    assert key.expires_at is not None and 129_000 < key.expires_at - time.time() <= 129_600


def test_a_limit_that_is_not_said_is_the_configured_one_and_zero_means_none(
    shell: CommandLine,
) -> None:
    (shell.path / "roxy.toml").write_text("[keys]\nrequests_per_minute = 33\n")
    create(shell, "default")
    create(shell, "free", "--requests-per-minute", "0")
    keys = {key.name: key for key in read_export(shell.path / "data" / "api-keys.json")}
    assert keys["default"].limits.requests_per_minute == 33
    assert keys["free"].limits.requests_per_minute is None


async def test_a_mistake_is_one_line_with_and_without_a_gateway(shell: CommandLine) -> None:
    (shell.path / "roxy.toml").write_text(QUIET)
    create(shell, "first")
    for options, said in MISTAKES:
        assert said in shell.run("keys", *options).complaint
    async with running(shell):
        for options, said in MISTAKES:
            assert said in (await shell.beside("keys", *options, **OWNER_KEY)).complaint
    assert len(read_export(shell.path / "data" / "api-keys.json")) == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--budget-dollars", "nan"),
        ("--budget-dollars", "inf"),
        ("--budget-dollars", "-1"),
        ("--budget-dollars", "0"),
        ("--expires-in-days", "0"),
        ("--budget-dollars", "1e300"),
        ("--budget-dollars", "0.0000009"),
        ("--expires-in-days", "nan"),
        ("--expires-in-days", "1e300"),
        ("--models", "\udcff"),
        ("--requests-per-minute", "1.5"),
        ("--requests-per-minute", "-3"),
        ("--tokens-per-minute", "9" * 30),
        ("--tokens-per-minute", "0"),
        ("--concurrent-requests", "0"),
        ("--models", ","),
        ("--budget-period", "day"),
        ("--budget-period", "year"),
    ],
)
def test_what_no_key_can_have_is_wrong_usage(shell: CommandLine, options: tuple[str, str]) -> None:
    ended = shell.run("keys", "create", "x", *options)
    assert ended.code == 2 and options[0] in ended.err
    assert shell.run("keys", "create", "\udcff").code == 2


def test_wrong_usage_says_what_the_option_takes(shell: CommandLine) -> None:
    def last_line(*command: str) -> str:
        ended = shell.run(*command)
        assert ended.code == 2
        return ended.err.splitlines()[-1].partition("argument ")[2]

    create = ("keys", "create", "x")
    assert last_line(*create, "--requests-per-minute", "-3") == (
        "--requests-per-minute: must be a whole number, 0 or more (0: no limit)"
    )
    assert last_line(*create, "--models", ",") == "--models: needs at least one model id"
    assert last_line(*create, "--budget-period", "day") == (
        "--budget-period: needs --budget-dollars"
    )
    rotate = ("keys", "rotate", "key_0000000000000000", "--grace-s", "-1")
    assert last_line(*rotate) == "--grace-s: must be a whole number from 0 to 2592000"
    assert last_line("serve", "--port", "99999") == "--port: must be a whole number from 0 to 65535"
    for wrong in ("many", "0", "257"):
        said = last_line("serve", "--processes", wrong)
        assert said == "--processes: must be `auto` or a whole number from 1 to 256"


async def test_keys_made_revoked_and_rotated_offline_are_so_for_the_next_gateway(
    shell: CommandLine,
) -> None:
    _, good = create(shell, "good")
    gone_id, gone = create(shell, "gone")
    turned_id, old = create(shell, "turned")
    kept_id, kept_old = create(shell, "kept")
    ended = shell.run("keys", "revoke", gone_id)
    assert ended.code == 0 and gone_id in ended.out and "revoked" in ended.out
    new = shell.run("keys", "rotate", turned_id).out.strip()
    kept_new = shell.run("keys", "rotate", kept_id, "--grace-s", "600").out.strip()
    assert "conflict" not in shell.run("keys", "rotate", gone_id).complaint
    async with running(shell) as door:
        for key, status in (
            (good, 200),
            (gone, 401),
            (old, 401),
            (new, 200),
            (kept_old, 200),
            (kept_new, 200),
        ):
            assert (await door.chat(key=key)).status_code == status


async def test_a_running_gateway_does_what_is_asked_and_it_holds_at_once(
    shell: CommandLine,
) -> None:
    async with running(shell) as door:
        made = await shell.beside("keys", "create", "late", "--models", MODEL, **OWNER_KEY)
        key_id, secret = id_in(made), made.out.strip()
        assert SECRET.fullmatch(secret) and (await door.chat(key=secret)).status_code == 200
        listed = (await shell.beside("keys", "list", **OWNER_KEY)).out
        assert key_id in listed and "never" not in listed, "it has been used"
        rotated = await shell.beside("keys", "rotate", key_id, **OWNER_KEY)
        assert (await door.chat(key=secret)).status_code == 401
        assert (await door.chat(key=rotated.out.strip())).status_code == 200
        assert (await shell.beside("keys", "revoke", key_id, **OWNER_KEY)).code == 0
        assert (await door.chat(key=rotated.out.strip())).status_code == 401


async def test_an_invitation_is_made_listed_and_revoked_with_and_without_a_gateway(
    shell: CommandLine,
) -> None:
    key_id, secret = create(shell, "Ada")

    async def check(base: str) -> tuple[str, str]:
        """Make two links and revoke one; gives the paths of the open one and of the other."""
        options = ("--gives-key", "--expires-in-days", "1")
        made = await shell.beside("keys", "invite", key_id, **OWNER_KEY)
        other = await shell.beside("keys", "invite", key_id, *options, **OWNER_KEY)
        for one in (made, other):
            assert one.code == 0 and re.fullmatch(rf"{base}/invite/[\w-]+\n", one.out), one
            assert "for Ada" in one.err and "server.base_url" in one.err
        ids = [re.findall(r"inv_\w{16}", one.err)[0] for one in (made, other)]
        ended = await shell.beside("keys", "revoke", ids[1], **OWNER_KEY)
        assert ended.out == f"{ids[1]} (for Ada) is revoked.\n"
        listed = (await shell.beside("keys", "invitations", **OWNER_KEY)).out
        rows = {line.split()[0]: line.split()[1:5] for line in listed.splitlines()[1:]}
        assert rows[ids[0]] == [key_id, "Ada", "sign-in", "open"]
        assert rows[ids[1]] == [key_id, "Ada", "key", "revoked"]
        paths = [one.out.strip().removeprefix(base) for one in (made, other)]
        assert not any(path.rpartition("/")[2] in listed for path in paths)
        return paths[0], paths[1]

    assert "no invitations" in shell.run("keys", "invitations").out
    offline = await check(r"http://127.0.0.1:\d+")
    async with running(shell) as door:
        online = await check(door.url)
        for path, status in ((online[0], 200), (online[1], 404)):
            assert (await door.client.get(path)).status_code == status
        for path, status in zip(offline, (200, 404), strict=True):
            found = await door.client.get(path[path.index("/invite/") :])
            assert found.status_code == status
        assert (await door.chat(key=secret)).status_code == 200
    shell.run("keys", "revoke", key_id)
    assert "has been revoked" in shell.run("keys", "invite", key_id).complaint
    assert shell.run("keys", "invite", key_id, "--expires-in-days", "91").code == 2


async def test_a_running_gateway_obeys_who_may_write_its_data_directory(
    shell: CommandLine,
) -> None:
    async with running(shell) as door:
        made = await shell.beside("keys", "create", "ci")
        assert (await door.chat(key=made.out.strip(), model=MODEL)).status_code == 200
        lock = shell.path / "data" / "roxy.lock"
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
        secret = lock.read_text().splitlines()[2]
        assert secret.encode() not in (shell.path / "data" / "roxy.db").read_bytes()
        assert (await door.get("/api/v1/keys", secret)).status_code == 200
        for header in ("X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via"):
            passed_on = bearer(secret) | {header: "203.0.113.9"}
            answer = await door.client.get("/api/v1/keys", headers=passed_on)
            assert answer.status_code == 401, header
    assert secret not in lock.read_text(), "a copy of the directory is no way in"
    async with running(shell) as door:
        assert (await door.get("/api/v1/keys", secret)).status_code == 401, "of the last start"
        lock.write_text(f"1 {door.url}\n")
        complaint = (await shell.beside("keys", "list")).complaint
        assert door.url in complaint and "ROXY_ADMIN_API_KEY" in complaint


async def test_another_program_at_the_gateways_address_gets_no_secret(shell: CommandLine) -> None:
    """The address in `roxy.lock` is one of the gateway's network, maybe that of a container."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        proof = b"x-roxy-proof: " + b"0" * 64
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n" + proof + b"\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with running(shell) as door, await asyncio.start_server(listen, "127.0.0.1") as other:
        lock = shell.path / "data" / "roxy.lock"
        secret = lock.read_text().splitlines()[2]
        port = other.sockets[0].getsockname()[1]
        lock.write_text(lock.read_text().replace(f":{door.port}", f":{port}"))
        for environ in ({}, OWNER_KEY):
            failed = await shell.beside("keys", "create", "ci", **environ)
            assert "is not the gateway" in failed.complaint
        assert len(heard) == 2
        for head in heard:
            assert head.startswith(b"GET /healthz ")
            assert secret.encode() not in head
            assert OWNER.encode() not in head
        assert (await door.get("/api/v1/keys")).json()["data"] == []


async def test_only_commands_on_this_machine_get_a_proof(shell: CommandLine) -> None:
    async with running(shell) as door:
        challenge = {"X-Roxy-Challenge": "a" * 64}
        proved = await door.client.get("/healthz", headers=challenge)
        assert len(proved.headers["x-roxy-proof"]) == 64
        other = await door.client.get("/healthz", headers={"X-Roxy-Challenge": "b" * 64})
        assert other.headers["x-roxy-proof"] != proved.headers["x-roxy-proof"]
        for more in ({"Via": "1.1 proxy"}, {"X-Forwarded-For": "203.0.113.9"}, {}):
            headers = challenge | more if more else {"X-Roxy-Challenge": "a" * 63}
            assert (
                "x-roxy-proof" not in (await door.client.get("/healthz", headers=headers)).headers
            )


async def test_a_wrong_owner_key_is_refused(shell: CommandLine) -> None:
    async with running(shell) as door:
        for command in (("list",), ("create", "x"), ("revoke", "key_0"), ("rotate", "key_0")):
            wrong = {"ROXY_ADMIN_API_KEY": "not-the-owner-key-at-all"}
            refused = (await shell.beside("keys", *command, **wrong)).complaint
            assert "refused: ROXY_ADMIN_API_KEY is not its owner key" in refused
            assert wrong["ROXY_ADMIN_API_KEY"] not in refused
        assert (await door.get("/api/v1/keys")).json()["data"] == []


async def test_a_key_is_shown_with_its_limits_models_and_note(shell: CommandLine) -> None:
    rules = ("--requests-per-minute", "1500", "--budget-dollars", "2.50", "--budget-period", "day")
    key_id, _ = create(shell, "ci", "--note", "belongs to Ada", "--models", SERVED, *rules)
    create(shell, "plain", "--requests-per-minute", "0")

    async def check() -> None:
        shown = {}
        for asked in (key_id, "ci"):
            answer = await shell.beside("keys", "show", asked)
            shown[asked] = answer.out
        assert shown[key_id] == shown["ci"]
        facts = {line[:11].strip(): line[11:] for line in shown["ci"].splitlines()}
        assert facts["limits"] == "1,500 requests/min, $2.5 a day"
        assert (facts["note"], facts["models"], facts["status"]) == (
            "belongs to Ada",
            SERVED,
            "active",
        )
        wide = (await shell.beside("keys", "list", "--wide")).out
        header, *rows = wide.splitlines()
        row, plain = sorted(rows, key=lambda line: key_id not in line)
        assert header.split()[-3:] == ["LIMITS", "MODELS", "NOTE"]
        assert row.endswith("belongs to Ada") and "1,500 requests/min, $2.5 a day" in row
        assert plain.split()[-3:] == ["none", "all", "-"]
        one = json.loads((await shell.beside("keys", "show", "ci", "--json")).out)
        listed = json.loads((await shell.beside("keys", "list", "--json")).out)
        assert len(listed) == 2 and one in listed
        assert one["limits"]["budget_microusd"] == 2_500_000
        assert "these keys match" in (await shell.beside("keys", "show", "c")).complaint

    await check()
    async with running(shell):
        await check()


async def test_the_key_of_someone_else_is_no_owner_key(shell: CommandLine) -> None:
    async with running(shell) as door:
        other = {"ROXY_ADMIN_API_KEY": await door.mint()}
        complaint = (await shell.beside("keys", "list", **other)).complaint
        assert "refused: ROXY_ADMIN_API_KEY is not its owner key" in complaint


async def test_keys_of_many_pages_are_listed_with_and_without_a_gateway(
    shell: CommandLine,
) -> None:
    keys = [a_key(number) for number in range(2 * PAGE_KEYS + 1)]
    async with SqliteStore(shell.path / "data" / "roxy.db") as store:
        await store.add_keys(keys)
    expected = sorted(key.id for key in keys)
    offline = (await shell.beside("keys", "list")).out.splitlines()
    assert sorted(line.split()[0] for line in offline[1:]) == expected
    async with running(shell):
        online = (await shell.beside("keys", "list", **OWNER_KEY)).out.splitlines()
    assert sorted(line.split()[0] for line in online[1:]) == expected


async def test_the_owner_key_goes_to_no_other_address_than_that_of_the_gateway() -> None:
    async with FakeUpstream() as other, FakeUpstream() as gateway:
        gateway.plan(refusal(307, headers={"Location": other.base_url}))
        keys = GatewayKeys(gateway.base_url, OWNER)
        with pytest.raises(CommandFailure, match="307"):
            await keys.revoke("key_0")
        assert gateway.requests and not other.requests


def test_two_commands_at_once_do_not_mix(shell: CommandLine) -> None:
    with DataDirectory(shell.path / "data"):
        complaint = shell.run("keys", "list", **OWNER_KEY).complaint
        assert "process" in complaint and "ROXY_ADMIN_API_KEY" not in complaint


async def test_an_export_goes_to_standard_output_or_a_private_file(shell: CommandLine) -> None:
    _, secret = create(shell, "first")
    async with running(shell) as door:
        await door.mint("second")
        shown = await shell.beside("keys", "export")
    assert shown.code == 0 and {key["name"] for key in json.loads(shown.out)["keys"]} >= {"first"}
    ended = shell.run("keys", "export", "copy.json")
    copy = shell.path / "copy.json"
    assert ended.code == 0 and stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert "to copy.json." in ended.out
    before = copy.read_bytes()
    assert "copy.json exists already" in shell.run("keys", "export", "copy.json").complaint
    assert copy.read_bytes() == before
    assert {key.name for key in read_export(copy)} == {"first", "second"}
    assert secret not in copy.read_text()


async def test_an_import_adds_what_is_unknown_and_leaves_what_is_known(shell: CommandLine) -> None:
    key_id, secret = create(shell, "moving")
    assert shell.run("keys", "export", "copy.json").code == 0
    assert shell.run("keys", "revoke", key_id).code == 0
    create(shell, "staying")

    def imported(*options: str) -> Finished:
        return shell.run("keys", "import", "copy.json", *options)

    assert "Keys added: 0, already present: 1." in imported().out
    assert "revoked" in shell.run("keys", "list").out, "an old export brings no key back to life"
    assert "Keys added: 1, already present: 0." in imported("--data-dir", "other").out
    async with running(shell) as door:
        assert (await door.chat(key=secret)).status_code == 401
        complaint = (await shell.beside("keys", "import", "copy.json", **OWNER_KEY)).complaint
        assert re.search(r"A gateway \(process \d+\) is running with .*: stop it before", complaint)
    (shell.path / "data").rename(shell.path / "old")
    (shell.path / "other").rename(shell.path / "data")
    async with running(shell) as door:
        assert (await door.chat(key=secret)).status_code == 200
        names = (await door.client.get("/api/v1/keys", headers=bearer(OWNER))).json()["data"]
        assert [one["name"] for one in names] == ["moving"]


NOT_IMPORT = [
    ("list",),
    ("create", "x"),
    ("revoke", "key_0000000000000000"),
    ("rotate", "key_0000000000000000"),
    ("export",),
]


@pytest.mark.parametrize("command", NOT_IMPORT, ids=lambda command: command[0])
def test_a_mistyped_data_directory_is_refused_and_nothing_is_made_there(
    new_shell: CommandLine, command: tuple[str, ...]
) -> None:
    (new_shell.path / "empty").mkdir()
    (new_shell.path / "file").touch()
    for place in ("typo", "deep/typo", "empty", "file"):
        complaint = new_shell.run("keys", *command, "--data-dir", place).complaint
        assert f"no database in {new_shell.path / place}" in complaint
        assert "`roxy serve`" in complaint and "--data-dir" in complaint
    made = sorted(path.name for path in new_shell.path.rglob("*"))
    assert made == ["empty", "file"]


def test_a_lost_database_is_made_anew_from_the_export_beside_it(shell: CommandLine) -> None:
    key_id, _ = create(shell, "kept")
    for path in (shell.path / "data").glob("roxy.db*"):
        path.unlink()
    assert key_id in shell.run("keys", "list").out


def test_a_missing_export_is_said_to_be_made_by_looking_at_the_keys(shell: CommandLine) -> None:
    complaint = shell.run("keys", "export").complaint
    assert str(shell.path / "data" / "api-keys.json") in complaint and "keys list" in complaint
    assert shell.run("keys", "list").code == 0
    assert json.loads(shell.run("keys", "export").out)["keys"] == []


def test_a_name_that_one_key_has_stands_for_its_id(shell: CommandLine) -> None:
    key_id, secret = create(shell, "ben")
    rotated = shell.run("keys", "rotate", "ben")
    assert rotated.code == 0 and f"{key_id}  ben" in rotated.err
    assert rotated.out.strip() not in ("", secret)
    assert "for ben, works once" in shell.run("keys", "invite", "ben").err
    twin = shell.run("keys", "create", "ben")
    assert f"Note: {key_id} has the same name." in twin.err
    refused = shell.run("keys", "rotate", "ben")
    assert refused.code == 1 and key_id in refused.err, "which of the two is not guessed"
    shell.run("keys", "revoke", key_id)
    assert json.loads(shell.run("keys", "show", "ben", "--json").out)["id"] != key_id


def test_a_name_in_place_of_an_id_is_answered_with_the_ids_that_match(shell: CommandLine) -> None:
    first = shell.run("keys", "create", "laptop of Ada")
    shell.run("keys", "create", "server")
    listed = shell.run("keys", "list").out
    key_id = next(line.split()[0] for line in listed.splitlines() if "laptop" in line)
    refused = shell.run("keys", "revoke", "laptop")
    assert first.code == 0 and refused.code == 1
    assert f"'laptop' is not the id of a key. Use an id; these keys match: {key_id}" in refused.err
    assert "active" in shell.run("keys", "list").out
