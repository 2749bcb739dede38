"""Rules of the configuration: where a value comes from, and that nothing wrong goes unnoticed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from server.config.loading import ConfigError, load_config
from server.config.settings import SECTIONS, Config, Server
from server.config.settings_table import SHORT_VARIABLES, describe_settings

OWNER_KEY = "hunter2-hunter2-hunter2"


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def from_file(text: str, environ: dict[str, str] | None = None, **overrides: Any) -> Config:
    Path("test.toml").write_text(text)
    return load_config(overrides, environ or {}, "test.toml")


def refusal(text: str = "", environ: dict[str, str] | None = None, **overrides: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        from_file(text, environ, **overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_anything_the_defaults_hold() -> None:
    config = load_config({}, {})
    assert config == Config()
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8080)
    assert (config.server.max_body_bytes, config.server.max_bodies_bytes) == (2**25, 2**28)
    assert (config.guests.requests_per_minute, config.guests.requests_per_day) == (10, 100)
    assert (config.queue.max_waiting, config.stream.total_timeout_s) == (512, 0)


def test_flags_beat_variables_beat_the_file_beats_the_defaults() -> None:
    text = "[server]\nport = 1001\nhost = '10.0.0.1'\ndata_dir = '/file'"
    environ = {"ROXY_SERVER_PORT": "1002", "ROXY_SERVER_HOST": "10.0.0.2"}
    server = from_file(text, environ, port=1003, host=None).server
    assert (server.port, server.host, server.data_dir) == (1003, "10.0.0.2", "/file")
    assert server.max_header_bytes == Server().max_header_bytes


def test_roxy_toml_in_the_current_directory_is_read_when_no_other_is_named() -> None:
    Path("roxy.toml").write_text("[server]\nport = 1001")
    config = load_config({}, {})
    assert (config.server.port, config.path) == (1001, "roxy.toml")


def test_the_config_flag_beats_its_variable() -> None:
    Path("a.toml").write_text("[server]\nport = 1001")
    Path("b.toml").write_text("[server]\nport = 1002")
    assert load_config({}, {"ROXY_CONFIG": "a.toml"}).server.port == 1001
    assert load_config({}, {"ROXY_CONFIG": "a.toml"}, Path("b.toml")).server.port == 1002


@pytest.mark.parametrize(
    ("variable", "text", "section", "name", "value"),
    [
        ("ROXY_SERVER_PORT", "0", "server", "port", 0),
        ("ROXY_SERVER_HOST", "::", "server", "host", "::"),
        ("ROXY_SERVER_HEAD_TIMEOUT_S", "2.5", "server", "head_timeout_s", 2.5),
        ("ROXY_SERVER_HEAD_TIMEOUT_S", "3", "server", "head_timeout_s", 3.0),
        ("ROXY_GUESTS_ENABLED", "false", "guests", "enabled", False),
        ("ROXY_GUESTS_ENABLED", "0", "guests", "enabled", False),
        ("ROXY_LOG_ACCESS", "1", "log", "access", True),
        ("ROXY_LOG_FORMAT", "json", "log", "format", "json"),
        (
            "ROXY_SERVER_TRUSTED_PROXIES",
            "10.0.0.0/8, fd00::/8,",
            "server",
            "trusted_proxies",
            ("10.0.0.0/8", "fd00::/8"),
        ),
        ("ROXY_GUESTS_MODELS", "zai/glm-4.5", "guests", "models", ("zai/glm-4.5",)),
        ("ROXY_DATA_DIR", "/srv/roxy", "server", "data_dir", "/srv/roxy"),
        ("ROXY_SERVER_PORT", "", "server", "port", 8080),  # empty is not set
    ],
)
def test_a_variable_is_read_as_the_type_of_its_setting(
    variable: str, text: str, section: str, name: str, value: object
) -> None:
    config = load_config({}, {variable: text})
    assert getattr(getattr(config, section), name) == value


def test_every_setting_has_a_variable_that_works_and_a_documentation() -> None:
    settings = describe_settings()
    assert len({setting.env for setting in settings}) == len(settings)
    for setting in settings:
        assert setting.doc.endswith(".")
        text = [] if setting.default is None else setting.default
        if isinstance(text, tuple):
            text = ",".join(text)
        load_config({}, {setting.env: str(text)})


def test_settings_are_described_in_the_order_of_the_file() -> None:
    paths = [setting.path for setting in describe_settings()]
    assert paths[:2] == ["server.host", "server.port"]
    assert [path.split(".")[0] for path in paths] == sorted(
        (path.split(".")[0] for path in paths), key=list(SECTIONS).index
    )


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("ROXY_SERVER_PRT", "ROXY_SERVER_PORT"),
        ("ROXY_GUEST_ENABLED", "ROXY_GUESTS_ENABLED"),
    ],
)
def test_an_unknown_variable_stops_the_start_and_names_the_nearest(
    variable: str, nearest: str
) -> None:
    message = refusal(environ={variable: "hunter2"})
    assert f"{variable}; did you mean {nearest}?" in message
    assert "hunter2" not in message


@pytest.mark.parametrize("variable", ["ROXY_ADMIN_KEY", "ROXY_API_KEYS", "ROXY_KEY"])
def test_no_unknown_variable_is_said_to_be_the_owner_key(variable: str) -> None:
    """Who renames a user's key as the hint says would make it the owner key."""
    message = refusal(environ={variable: "hunter2"})
    assert f"unknown environment variable {variable}" in message
    assert "ROXY_ADMIN_API_KEY" not in message


def test_every_variable_that_the_documentation_has_people_set_is_known() -> None:
    """The examples keep a client's key in one; people run `roxy` in the same terminal."""
    root = Path(__file__).parents[2]
    sources = [root / "README.md"]
    for folder in ("docs", "deploy", "webui/docs", "webui/texts"):
        sources += [path for path in (root / folder).rglob("*") if path.is_file()]
    text = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in sources)
    variables = set(re.findall(r"(?:\$\{?|environ\[\"|env\.)(ROXY_[A-Z_]+)", text))
    variables |= set(re.findall(r"\b(ROXY_[A-Z_]+)=", text))
    assert {"ROXY_API_KEY", "ROXY_ADMIN_API_KEY"} <= variables
    for variable in sorted(variables):
        try:
            load_config({}, {variable: "1"})
            fault = ""
        except ConfigError as error:
            fault = str(error)
        assert "unknown environment variable" not in fault


def test_a_secret_in_the_file_and_an_unknown_model_say_what_to_write() -> None:
    deployment = (
        '[[models]]\nid = "a/b"\n[[models.deployments]]\nprovider = "openai"\n'
        'base_url = "http://h/v1"\nupstream_model = "m"\napi_key = "sk-hunter2"\n'
    )
    message = refusal(deployment)
    assert "`secret_env`" in message and "hunter2" not in message
    message = refusal('[guests]\nmodels = ["qwen"]')
    assert message.startswith("test.toml: guests.models: unknown model 'qwen'; the models are zai/")


def test_a_configuration_that_is_no_file_stops_the_start() -> None:
    path = Path("roxy.toml")
    path.mkdir()
    message = refusal_of_default()
    assert "cannot read roxy.toml: it is a directory" in message and "Docker" in message
    path.rmdir()
    path.symlink_to("gone.toml")
    assert "it is a link to gone.toml, which does not exist" in refusal_of_default()
    path.unlink()
    path.symlink_to("roxy.toml")
    assert "cannot read roxy.toml" in refusal_of_default(), "a link to itself"


def refusal_of_default() -> str:
    with pytest.raises(ConfigError) as caught:
        load_config({}, {})
    return str(caught.value)


def test_other_programs_variables_are_no_concern_of_ours() -> None:
    assert load_config({}, {"PATH": "/bin", "ROXYFOO": "1"}) == Config()


SERVICE_LINK = {
    "ROXY_PORT": "tcp://10.43.0.17:8080",
    "ROXY_PORT_8080_TCP": "tcp://10.43.0.17:8080",
    "ROXY_PORT_8080_TCP_PROTO": "tcp",
    "ROXY_PORT_8080_TCP_PORT": "8080",
    "ROXY_PORT_8080_TCP_ADDR": "10.43.0.17",
    "ROXY_SERVICE_HOST": "10.43.0.17",
    "ROXY_SERVICE_PORT": "8080",
    "ROXY_SERVICE_PORT_HTTP": "8080",
}
"""What Kubernetes gives every container beside a Service named `roxy`."""


def test_what_kubernetes_says_of_a_service_named_roxy_is_no_setting_of_ours() -> None:
    assert load_config({}, SERVICE_LINK) == Config()
    second = {"ROXY_PORT_9443_TCP_ADDR": "fd00::17", "ROXY_SERVICE_PORT_METRICS_2": "9443"}
    assert load_config({}, SERVICE_LINK | second | {"ROXY_PORT": "tcp://[fd00::17]:80"}) == Config()


@pytest.mark.parametrize(
    "variable",
    [
        "ROXY_SERVICE",
        "ROXY_SERVICE_PRT",
        "ROXY_SERVICE_HOST_2",
        "ROXY_PORTS",
        "ROXY_PORT_TCP",
        "ROXY_PORT_8080_TCP_HOST",
        "ROXY_PORT_8080_HTTP",
        "ROXY_QUEUE_SERVICE_HOST",
    ],
)
def test_beside_a_service_named_roxy_other_unknown_variables_still_stop_the_start(
    variable: str,
) -> None:
    assert f"unknown environment variable {variable}" in refusal(
        environ=SERVICE_LINK | {variable: "1"}
    )


@pytest.mark.parametrize("variable", ["ROXY_PORT", "ROXY_SERVICE_PORT", "ROXY_SERVICE_HOST"])
def test_a_misspelt_port_is_not_taken_for_a_service_of_kubernetes(variable: str) -> None:
    assert f"{variable}; did you mean ROXY_SERVER_" in refusal(environ={variable: "9000"})
    link = SERVICE_LINK | {"ROXY_PORT": "9000"}
    assert "unknown environment variable ROXY_PORT;" in refusal(environ=link)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server]\nprot = 1", "unknown setting `server.prot`; did you mean port?"),
        ("[guest]", "unknown section `guest`; did you mean guests?"),
        ("demo = true", "unknown section `demo`"),
        ("server = 1", "`server` must be a table"),
        ("[server]\nport = '1'", "test.toml: server.port must be a whole number"),
        ("[server]\nprocesses = 0", "processes must be `auto` or a whole number from 1 to 256"),
        ("[server]\nprocesses = 'all'", "processes must be `auto` or a whole number from 1 to 256"),
        ("[server]\nport = true", "test.toml: server.port must be "),
        ("[server]\nport = 65536", "server.port must be a whole number, at most 65535"),
        ("[server]\nport = 80.5", "test.toml: server.port must be "),
        ("[guests]\nmodels = 'x'", "test.toml: guests.models must be "),
        ("[log]\nlevel = 'loud'", "log.level must be one of: debug, info"),
        ("[queue]\nmax_waiting = 0", "test.toml: queue.max_waiting must be "),
        ("[stream]\ngap_timeout_s = 0", "test.toml: stream.gap_timeout_s must be "),
        ("[stream]\ngap_timeout_s = nan", "stream.gap_timeout_s must be a finite number"),
        ("[stream]\ngap_timeout_s = inf", "stream.gap_timeout_s must be a finite number"),
        ("x =", "test.toml is not valid TOML"),
        ("models = 1", "must be written as [[models]] tables"),
        ("[models]\nid = 'x'", "must be written as [[models]] tables"),
        ("[[models]]\nid = 'x'", "needs at least one [[models.deployments]] table"),
        ("[[models]]\nid = 'zai/glm-4.5'\nname = 1", "at `models[0].name`"),
    ],
)
def test_a_wrong_file_is_refused_with_the_path_of_what_is_wrong(text: str, says: str) -> None:
    message = refusal(text)
    assert says in message
    assert "test.toml" in message or "must be a finite" in message


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("ROXY_SERVER_PORT", "eighty"),
        ("ROXY_SERVER_PORT", "-1"),
        ("ROXY_SERVER_PORT", "1.5"),
        ("ROXY_GUESTS_ENABLED", "maybe"),
        ("ROXY_DEMO", "maybe"),
        ("ROXY_STREAM_HEARTBEAT_S", "nan"),
        ("ROXY_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_of_a_variable_is_refused_by_its_name(variable: str, text: str) -> None:
    assert f"{variable} must be " in refusal(environ={variable: text})


def test_a_switch_is_true_or_false() -> None:
    assert refusal(environ={"ROXY_DEMO": "maybe"}) == "ROXY_DEMO must be true or false"


def test_a_wrong_value_of_a_flag_is_refused_by_its_name() -> None:
    assert "--max-body-bytes must be a whole number, at least" in refusal(max_body_bytes=1)
    assert "unknown option 'prot'" in refusal(prot=1)


def test_a_file_that_was_named_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"cannot read none\.toml: No such file"):
        load_config({}, {}, "none.toml")


def test_bytes_that_are_no_text_are_refused() -> None:
    Path("bad.toml").write_bytes(b"x = '\xff'")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load_config({}, {}, "bad.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server]\ntls_cert = 'c.pem'", "must be set together"),
        ("[server]\ntls_key = 'k.pem'", "must be set together"),
        ("[server]\nmax_bodies_bytes = 2048", "must be at least server.max_body_bytes"),
        ("[server]\ntrusted_proxies = ['10.0.0.1/8']", "server.trusted_proxies: 10.0.0.1/8"),
        ("[server]\ntrusted_proxies = ['proxy']", "server.trusted_proxies: 'proxy'"),
        ("[server]\nallowed_origins = ['app.example']", "server.allowed_origins: 'app.example'"),
        ("[server]\nbase_url = 'example.com'", "server.base_url: the URL must begin with"),
        ("[guests]\nmodels = ['glm']", "guests.models: unknown model 'glm'"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(text: str, says: str) -> None:
    assert says in refusal(text)


def test_the_base_url_loses_its_trailing_slash() -> None:
    assert from_file("[server]\nbase_url = 'https://ai.example.com/'").server.base_url == (
        "https://ai.example.com"
    )


def test_guests_may_be_given_models_of_the_owners_own() -> None:
    text = """
        [guests]
        models = ["mine"]
        [[models]]
        id = "mine"
        [[models.deployments]]
        provider = "openai"
        base_url = "http://127.0.0.1:11434/v1"
        upstream_model = "qwen3"
    """
    config = from_file(text)
    assert [entry.id for entry in config.models] == ["mine"]


def test_the_owner_key_is_taken_from_the_environment_and_never_shown() -> None:
    config = load_config({}, {"ROXY_ADMIN_API_KEY": OWNER_KEY})
    assert config.admin_api_key == OWNER_KEY
    assert OWNER_KEY not in f"{config!r} {config} {config.__rich_repr__()}"


@pytest.mark.parametrize(
    "key",
    [
        "a1b2c3d4e5f6g7h",
        "a b c d e f " * 3,
        "schlüssel" * 3,
        "a line\n" * 4,
        "tail-newline-1234\n",
    ],
)
def test_a_poor_owner_key_refuses_to_start_without_being_shown(key: str) -> None:
    message = refusal(environ={"ROXY_ADMIN_API_KEY": key})
    assert "ROXY_ADMIN_API_KEY must" in message
    assert key not in message


def test_an_empty_owner_key_refuses_to_start() -> None:
    message = refusal(environ={"ROXY_ADMIN_API_KEY": ""})
    assert message == "ROXY_ADMIN_API_KEY is set but empty: unset it or give it a key"


@pytest.mark.parametrize(
    "key", ["x" * 40, "12341234123412341234", "changeme-changeme", "your-admin-key-goes-here"]
)
def test_an_owner_key_that_is_easily_guessed_refuses_to_start(key: str) -> None:
    message = refusal(environ={"ROXY_ADMIN_API_KEY": key})
    assert "ROXY_ADMIN_API_KEY is easily guessed" in message
    assert key not in message


def test_sixteen_characters_are_enough_for_the_owner_key() -> None:
    key = "sixteen-letters!"
    assert load_config({}, {"ROXY_ADMIN_API_KEY": key}).admin_api_key == key


def test_a_provider_secret_that_no_header_can_hold_is_refused_at_the_start() -> None:
    message = refusal(environ={"ZAI_API_KEY": "hunter2\r\nX-Evil: 1"})
    assert "the environment variable ZAI_API_KEY contains spaces" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://roxy:hunter2@db.example/roxy",
        "postgres://roxy:hunter2@10.0.0.1:5432/roxy?sslmode=verify-full&sslrootcert=/ca.pem",
        "postgresql://roxy:hunter2@[::1]:5432/roxy",
        "postgresql://roxy:hunter2@a:1,b:2/roxy?target_session_attrs=read-write",
        "postgresql://roxy:p%40ss%2Fhunter2@db/roxy",
        "postgresql:///roxy?host=/run/postgresql",
    ],
)
def test_the_url_of_a_database_is_read_and_never_shown(url: str) -> None:
    config = load_config({}, {"ROXY_DATABASE_URL": url})
    assert config.database_url == url
    assert "hunter2" not in repr(config)
    assert load_config({}, {"ROXY_DATABASE_URL": ""}).database_url == ""


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://roxy:hunter2@db/roxy", "must begin with postgresql:// or postgres://"),
        ("hunter2", "must begin with postgresql://"),
        ("postgresql://roxy:hunter2#@db/roxy", "escaped"),
        ("postgresql://roxy:hunter2/x@db/roxy", "escaped"),
        ("postgresql://roxy:hunter2?x@db/roxy", "escaped"),
        ("postgresql://roxy:hunter2@x@db/roxy", "escaped"),
        ("postgresql://roxy:hunter2 x@db/roxy", "escaped"),
        ("postgresql://roxy:hunter2é@db/roxy", "escaped"),
        ("postgresql://roxy:hunter2@db:port/roxy", "escaped"),
        ("postgresql://roxy:hunter2@[db/roxy", "escaped"),
        ("postgresql:///roxy", "escaped"),
    ],
)
def test_a_url_that_is_no_database_is_refused_without_being_shown(url: str, said: str) -> None:
    message = refusal(environ={"ROXY_DATABASE_URL": url})
    assert message.startswith("ROXY_DATABASE_URL must") and said in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("flag", "environ", "demo"),
    [
        (None, {}, False),
        (True, {}, True),
        (None, {"ROXY_DEMO": "1"}, True),
        (None, {"ROXY_DEMO": ""}, False),
        (False, {"ROXY_DEMO": "true"}, False),
    ],
)
def test_demo_comes_from_flag_or_variable(
    flag: bool | None, environ: dict[str, str], demo: bool
) -> None:
    assert load_config({"demo": flag}, environ).demo is demo


def test_the_two_names_of_the_data_directory_must_agree() -> None:
    same = {"ROXY_DATA_DIR": "/a", "ROXY_SERVER_DATA_DIR": "/a"}
    assert load_config({}, same).server.data_dir == "/a"
    assert "differ" in refusal(environ={"ROXY_DATA_DIR": "/a", "ROXY_SERVER_DATA_DIR": "/b"})


def test_every_short_variable_is_documented() -> None:
    assert all(short.doc.endswith(".") for short in SHORT_VARIABLES)


def test_what_the_owner_says_on_the_pages_is_read_from_file_and_variables() -> None:
    text = """[web]
    name = "Example AI"
    prompts = [{ name = "Sum up", text = "Sum up this text:" }]
    notice = "Closed on Sunday."
    notice_link = "/docs"
    default_model = "zai/glm-4.5"
    """
    web = from_file(text, {"ROXY_WEB_NAME": "Other AI"}).web
    assert (web.name, web.notice, web.notice_link) == ("Other AI", "Closed on Sunday.", "/docs")
    assert web.prompts is not None and web.prompts[0].text == "Sum up this text:"
    one = '[{"name": "One, two", "text": "three"}]'
    (prompt,) = load_config({}, {"ROXY_WEB_PROMPTS": one}).web.prompts or ()
    assert prompt.name == "One, two"
    assert load_config({}, {"ROXY_WEB_PROMPTS": "[]"}).web.prompts == ()
    assert load_config({}, {}).web.prompts is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ''", "web.name must be a string, of length at least 1"),
        ('name = "a\\nb"', "web.name must be one line"),
        ("notice = '   '", "web.notice must hold more than spaces"),
        ("notice_link = 'https://x.example'", "web.notice_link needs a notice"),
        ("notice = 'x'\nnotice_link = 'javascript:alert(1)'", "web.notice_link must be an http(s)"),
        ("notice = 'x'\nnotice_link = '//evil.example'", "web.notice_link must be an http(s)"),
        ("prompts = [{ name = 'x' }]", "web.prompts"),
        ("prompts = [{ name = 'x', text = 'y', txt = 'z' }]", "web.prompts"),
        ("default_model = 'zai/glm'", "unknown model 'zai/glm'; did you mean zai/glm-4.5?"),
        ("logo = 'none.png'", "web.logo: cannot read none.png: No such file"),
        ("logo = 'test.toml'", "web.logo: test.toml is not a PNG, SVG or WebP image"),
    ],
)
def test_wrong_words_for_the_pages_stop_the_start(text: str, says: str) -> None:
    assert says in refusal(f"[web]\n{text}")


def test_a_logo_is_an_image_of_bounded_size() -> None:
    images = {
        "logo.png": b"\x89PNG\r\n\x1a\n....",
        "logo.webp": b"RIFF....WEBPVP8 ",
        "logo.svg": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    }
    for name, data in images.items():
        Path(name).write_bytes(data)
        assert from_file(f"[web]\nlogo = '{name}'").web.logo == name
    Path("big.png").write_bytes(images["logo.png"] + bytes(600_000))
    assert "web.logo: big.png is larger than 512 KiB" in refusal("[web]\nlogo = 'big.png'")
