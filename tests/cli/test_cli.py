"""The command line: what it says of itself, what it finds wrong, and how it says so."""

from __future__ import annotations

import argparse
import os
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.command_line import CommandLine, shell
from support.fakes.upstream import FakeUpstream, document, refusal, refusing_url
from support.front_door import MODEL, OWNER, front_door, roxy_toml
from support.processes import COMMAND, surroundings

from server.cli.command_line import build_parser
from server.config.settings import Server
from server.store.data_directory import DataDirectory
from server.store.migrate import released_migrations
from server.store.sqlite.sqlite_store import SqliteStore

__all__ = ["shell"]

SERVE_OPTIONS = {
    "--config",
    "--data-dir",
    "--host",
    "--port",
    "--processes",
    "--tls-cert",
    "--tls-key",
    "--demo",
}
COMMANDS = {
    "serve",
    "reload",
    "check",
    "keys",
    "keys list",
    "keys show",
    "keys invite",
    "keys invitations",
    "keys create",
    "keys revoke",
    "keys rotate",
    "keys export",
    "keys import",
    "migrate",
    "backup",
}
QUIET = "[log]\naccess = false\n"
WRONG_KEY_AT_GOOGLE = [
    {"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}
]
SECRET = {"TEST_UPSTREAM_KEY": "a-secret-of-the-upstream"}


def commands_of(
    parser: argparse.ArgumentParser, path: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield f"{path} {name}".strip(), inner
                yield from commands_of(inner, f"{path} {name}".strip())


def options_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if not isinstance(action, (argparse._SubParsersAction, argparse._HelpAction)):
            yield action


def test_every_command_and_every_option_is_explained() -> None:
    commands = dict(commands_of(build_parser()))
    assert set(commands) == COMMANDS
    for name, parser in commands.items():
        assert parser.description, name
        for option in options_of(parser):
            assert option.help and len(option.help) > 10, f"{name} {option.option_strings}"


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_shows_the_options_and_the_defaults_that_hold(
    shell: CommandLine, command: str
) -> None:
    shown = shell.run(*command.split(), "--help")
    assert shown.code == 0 and shown.err == ""
    for option in options_of(dict(commands_of(build_parser()))[command]):
        for name in option.option_strings:
            assert name in shown.out
    if command == "serve":
        told = " ".join(shown.out.split())
        for default in (Server().host, str(Server().port), Server().data_dir, "roxy.toml"):
            assert f"default: {default}" in told
        parser = dict(commands_of(build_parser()))["serve"]
        assert {one.option_strings[-1] for one in options_of(parser)} == SERVE_OPTIONS


def test_the_program_names_its_version_and_where_settings_come_from(shell: CommandLine) -> None:
    assert shell.run("--version").out.startswith("roxy ")
    shown = shell.run("--help").out
    for name in ("ROXY_ADMIN_API_KEY", "roxy.toml", "GROQ_API_KEY", "serve", "backup"):
        assert name in shown


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        ("nonsense",),
        ("serve", "--port", "x"),
        ("serve", "--port", "70000"),
        ("serve", "--processes", "many"),
        ("keys",),
    ],
)
def test_wrong_usage_is_exit_code_two(shell: CommandLine, wrong: tuple[str, ...]) -> None:
    ended = shell.run(*wrong)
    assert ended.code == 2 and ended.err.startswith("usage: ")


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[server]\nprot = 1", "`server.prot`; did you mean port?"),
        ("[sever]\nport = 1", "`sever`; did you mean server?"),
        ('[server]\nport = "1"', "server.port"),
        ("[queue]\nmax_waiting = 0", "queue.max_waiting"),
        ("[server\n", "not valid TOML"),
        ('[[models]]\nid = "a/b"\ncolour = "red"', "colour"),
    ],
)
def test_a_wrong_setting_stops_every_command_with_one_line_naming_its_path(
    shell: CommandLine, toml: str, said: str
) -> None:
    (shell.path / "my.toml").write_text(toml)
    for command in (("serve",), ("check",), ("keys", "list")):
        complaint = shell.run(*command, "--config", "my.toml").complaint
        assert "my.toml" in complaint and said in complaint
    assert not (shell.path / "data").exists()


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"ROXY_SERVER_PROT": "1"}, "ROXY_SERVER_PROT; did you mean ROXY_SERVER_PORT?"),
        ({"ROXY_SERVER_PORT": "many"}, "ROXY_SERVER_PORT"),
        ({"ROXY_DATABASE_URL": "mysql://h/d"}, "ROXY_DATABASE_URL"),
        ({"ROXY_ADMIN_API_KEY": "too-short"}, "at least 16 characters"),
    ],
)
def test_a_wrong_variable_stops_the_start_with_one_line_naming_it(
    shell: CommandLine, environ: dict[str, str], said: str
) -> None:
    complaint = shell.run("serve", **environ).complaint
    assert said in complaint and "too-short" not in complaint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--config", "missing.toml"), "missing.toml"),
        (("--tls-cert", "cert.pem"), "tls_key"),
        (("--tls-cert", "cert.pem", "--tls-key", "key.pem"), "cannot read cert.pem: No such file"),
        (("--port", "0", "--host", "not a host"), "--host"),
    ],
)
def test_a_wrong_option_stops_the_start_with_one_line_naming_it(
    shell: CommandLine, options: tuple[str, ...], said: str
) -> None:
    assert said in shell.run("serve", *options).complaint


def test_check_without_any_upstream_says_what_would_help(shell: CommandLine) -> None:
    ended = shell.run("check")
    assert ended.code == 1
    for model in ("zai/glm-4.5", "google/gemini-2.5-pro", "anthropic/claude-sonnet-4"):
        assert model in ended.out
    assert "off: set GROQ_API_KEY" in ended.out
    assert "No model can be served. Set one of AI_GATEWAY_API_KEY, " in ended.out
    assert shell.run("check", ROXY_DEMO="true").code == 0
    assert not (shell.path / "data").exists(), "looking changes nothing"


@pytest.mark.parametrize(
    ("plan", "said", "code"),
    [
        (document({"object": "list", "data": []}), "ready (reachable)", 0),
        (document({"data": [{"id": "models/Upstream-Model:latest"}]}), "ready (reachable)\n", 0),
        (document({"data": [{"id": "x"}]}), "answers, but its list of models does not name", 1),
        (document({"data": [{"name": "x"}]}), "ready (reachable)\n", 0),
        (refusal(401), "the upstream refuses TEST_UPSTREAM_KEY", 1),
        (refusal(400, WRONG_KEY_AT_GOOGLE), "the upstream refuses TEST_UPSTREAM_KEY", 1),
        (refusal(400), "ready (reachable)", 0),
        (refusal(500), "failing: the upstream answers 500", 1),
        (document(b"", raw=True, end="reset"), "not reachable", 1),
    ],
)
async def test_check_asks_each_upstream_once_whether_it_answers(
    shell: CommandLine, plan: Any, said: str, code: int
) -> None:
    async with FakeUpstream() as upstream:
        upstream.plan(plan)
        second = '\n[[models]]\nid = "test/two"\nname = "Two"\n'
        deployment = roxy_toml(upstream.base_url).partition("[[models.deployments]]")[2]
        toml = roxy_toml(upstream.base_url) + second + "[[models.deployments]]" + deployment
        (shell.path / "roxy.toml").write_text(toml)
        ended = await shell.beside("check", **SECRET)
        assert ended.code == code and ended.out.count(said) == 2
        summary = "2 of 6 models can be served." if code == 0 else "none of the upstreams below"
        assert summary in ended.out
        assert SECRET["TEST_UPSTREAM_KEY"] not in ended.out + ended.err
        (asked,) = upstream.requests
        assert (asked.method, asked.path) == ("GET", "/v1/models")
        assert asked.headers["authorization"] == "Bearer a-secret-of-the-upstream"
        offline = await shell.beside("check", "--offline", **SECRET)
        assert offline.code == 0 and len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("path", "completions", "said", "code"),
    [
        ("", 404, "answers, but GET /models says 404: its base_url should probably end in /v1", 1),
        ("/v1", 404, "answers, but GET /models says 404: check its base_url", 1),
        ("", 400, "ready (reachable; it has no list of models)", 0),
    ],
)
async def test_check_tells_a_wrong_address_from_an_upstream_without_a_list(
    shell: CommandLine, path: str, completions: int, said: str, code: int
) -> None:
    async with FakeUpstream() as upstream:
        upstream.plan(refusal(404), refusal(completions))
        toml = roxy_toml(upstream.base_url.removesuffix("/v1") + path)
        (shell.path / "roxy.toml").write_text(toml)
        ended = await shell.beside("check", **SECRET)
        assert (ended.code, said in ended.out) == (code, True), ended.out
        assert upstream.requests[1].body == b"{}", "which generates nothing"


async def test_check_says_first_what_can_be_served_and_shows_fields_where_asked(
    shell: CommandLine,
) -> None:
    async with FakeUpstream() as upstream:
        (shell.path / "roxy.toml").write_text(
            roxy_toml(upstream.base_url, quirks="stream_options = false")
            + '\n[[models]]\nid = "test/two"\nname = "Two"\n[[models.deployments]]\n'
            f'provider = "openai"\nbase_url = "{upstream.base_url}"\nupstream_model = "y"\n'
        )
        upstream.plan(document({"data": [{"id": "upstream-model"}]}))
        ended = await shell.beside("check", **SECRET)
        first = ended.out.splitlines()[0]
        assert first == "1 of 6 models can be served; 2 are configured."
        assert "stream_options" not in ended.out
        ended = await shell.beside("check", "--wide", **SECRET)
        assert "stream_options: false" in ended.out


async def test_check_tries_each_secret_of_an_upstream(shell: CommandLine) -> None:
    async with FakeUpstream() as upstream:
        first = roxy_toml(upstream.base_url)
        second = first[first.index("[[models.deployments]]") :].replace("TEST_", "OTHER_")
        (shell.path / "roxy.toml").write_text(f"{first}\n{second}")
        upstream.plan(document({"object": "list", "data": []}))
        assert (await shell.beside("check", **SECRET, OTHER_UPSTREAM_KEY="another")).code == 0
        asked = {request.headers["authorization"] for request in upstream.requests}
        assert asked == {f"Bearer {secret}" for secret in (*SECRET.values(), "another")}


async def test_check_tells_unreachable_and_unsupported_deployments_apart(
    shell: CommandLine,
) -> None:
    other = '\n[[models.deployments]]\nprovider = "anthropic"\nbase_url = "http://127.0.0.1:9"\n'
    other += 'upstream_model = "x"\nsecret_env = ""\n'
    with refusing_url() as nobody:
        async with FakeUpstream() as upstream:
            (shell.path / "roxy.toml").write_text(roxy_toml(nobody, upstream.base_url) + other)
            upstream.plan(document({"object": "list", "data": []}))
            ended = await shell.beside("check", **SECRET)
    lines = [line for line in ended.out.splitlines() if f"{MODEL}@" in line]
    assert "not reachable: " in lines[0] and "ready (reachable)" in lines[1]
    assert "Errno 111" in lines[0], "the owner is told why"
    assert "no translator for anthropic" in lines[2]
    assert ended.code == 0, "one way to serve a model is enough"


def test_migrate_makes_and_keeps_the_database(shell: CommandLine) -> None:
    for _ in range(2):
        ended = shell.run("migrate")
        assert ended.code == 0 and "roxy.db is up to date" in ended.out
    assert shell.run("migrate", "--data-dir", "other").code == 0
    assert (shell.path / "other" / "roxy.db").exists()


async def test_migrate_keeps_a_copy_of_an_older_database(shell: CommandLine) -> None:
    database = shell.path / "data" / "roxy.db"
    with DataDirectory(database.parent):
        async with SqliteStore(database, migrations=released_migrations()[:1]):
            pass
    ended = await shell.beside("migrate")
    assert ended.code == 0
    assert (database.parent / "roxy.db.before-0002").exists()


async def test_a_backup_is_made_while_the_gateway_runs_and_a_migration_is_not(
    shell: CommandLine,
) -> None:
    async with front_door(shell.path, settings=QUIET) as door:
        await door.mint("in the copy")
        ended = await shell.beside("backup", "copy.db")
        assert ended.code == 0 and "copy.db" in ended.out
        assert door.url in (await shell.beside("migrate")).complaint
        again = await shell.beside("backup", "copy.db")
        assert "copy.db" in again.complaint
    copy = shell.path / "copy.db"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("SELECT name FROM keys").fetchall() == [("in the copy",)]


@pytest.mark.parametrize("place", ["copy.db", "missing/copy.db"])
def test_a_backup_that_cannot_be_made_is_one_line(shell: CommandLine, place: str) -> None:
    complaint = shell.run("backup", place).complaint
    assert "nothing to back up" in complaint and str(shell.path / "data" / "roxy.db") in complaint
    assert shell.run("migrate").code == 0
    ended = shell.run("backup", place)
    if place == "copy.db":
        assert ended.code == 0
    else:
        assert place in ended.complaint and "another place for the copy" in ended.complaint
        assert "--data-dir" not in ended.complaint, "that is not what is wrong"


@pytest.mark.parametrize("command", [("migrate",), ("serve", "--port", "0")])
def test_a_file_in_the_place_of_the_data_directory_is_said_to_be_one(
    shell: CommandLine, command: tuple[str, ...]
) -> None:
    (shell.path / "file").touch()
    for place in ("file", "file/below"):
        complaint = shell.run(*command, "--data-dir", place).complaint
        assert f"{shell.path / place} cannot be created: it is a file" in complaint
        assert "write access" not in complaint


def test_the_owner_key_is_never_an_option(shell: CommandLine) -> None:
    ended = shell.run("serve", "--admin-api-key", OWNER)
    assert ended.code == 2
    for _, parser in commands_of(build_parser()):
        for option in options_of(parser):
            assert not any("secret" in name for name in option.option_strings)


def test_the_data_directory_is_an_option_a_variable_or_a_setting(shell: CommandLine) -> None:
    (shell.path / "roxy.toml").write_text('[server]\ndata_dir = "from-file"\n')
    assert shell.run("migrate").code == 0
    assert shell.run("migrate", ROXY_DATA_DIR="from-variable").code == 0
    option = ("--data-dir", "from-option")
    assert shell.run("migrate", *option, ROXY_DATA_DIR="from-variable-2").code == 0
    made = {path.name for path in Path(shell.path).iterdir() if path.is_dir()}
    assert made == {"from-file", "from-variable", "from-option"}


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [*COMMAND, "check", "--offline"]
    try:
        ended = subprocess.run(
            command,
            check=False,
            cwd=tmp_path,
            env=surroundings(),
            stdout=writer,
            stderr=subprocess.PIPE,
        )
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")
