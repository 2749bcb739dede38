"""The URL of Redis: what it may say, and that its password is shown nowhere."""

from __future__ import annotations

import pytest

from server.config.loading import ConfigError, load_config
from server.config.redis_address import RedisAddress, parse_redis_url

SECRET = "hunter2-of-redis"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://cache", RedisAddress("cache")),
        ("redis://cache:7000/3", RedisAddress("cache", 7000, database=3)),
        ("redis://:pw@cache", RedisAddress("cache", password="pw")),
        ("redis://roxy:p%40w%2F@cache", RedisAddress("cache", username="roxy", password="p@w/")),
        ("redis://[::1]:6400?db=2", RedisAddress("::1", 6400, database=2)),
        ("rediss://cache", RedisAddress("cache", tls=True)),
        ("rediss://c?ssl_ca_certs=/ca.pem", RedisAddress("c", tls=True, ca_file="/ca.pem")),
        ("unix:///run/redis.sock", RedisAddress(path="/run/redis.sock")),
        (
            "unix://u:p@/r%20s?db=1",
            RedisAddress(path="/r s", database=1, username="u", password="p"),
        ),
    ],
)
def test_the_forms_of_redis_py_and_redis_cli_are_read(url: str, address: RedisAddress) -> None:
    assert parse_redis_url(url) == address


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        (f"http://:{SECRET}@cache", "must be redis://"),
        (f"redis:///{SECRET}", "must be redis://"),
        (f"redis://:{SECRET}@cache:port", "must be redis://"),
        (f"redis://:{SECRET}@cache:70000", "must be redis://"),
        (f"redis://:{SECRET}@[cache", "must be redis://"),
        (f"redis://:{SECRET}@cache#frag", "must be redis://"),
        (f"unix://:{SECRET}@", "must be redis://"),
        (f"unix://:{SECRET}@host/path", "must be redis://"),
        (SECRET, "must be redis://"),
        (f"redis://:{SECRET}@cache/first", "must name the database by its number"),
        (f"redis://:{SECRET}@cache?db=-1", "must name the database by its number"),
        (f"rediss://:{SECRET}@cache?ssl_cert_reqs=none", "not supported: 'ssl_cert_reqs'"),
        (f"redis://:{SECRET}@cache?ssl_ca_certs=/x", "not supported: 'ssl_ca_certs'"),
    ],
)
def test_any_other_url_is_refused_without_being_shown(url: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match="ROXY_REDIS_URL ") as refusal:
        load_config({}, {"ROXY_REDIS_URL": url})
    assert wrong in str(refusal.value)
    assert SECRET not in str(refusal.value)


def test_the_url_stands_in_the_configuration_and_in_no_text_of_it() -> None:
    url = f"redis://roxy:{SECRET}@cache:6379/1"
    config = load_config({}, {"ROXY_REDIS_URL": f" {url} "})
    assert config.redis_url == url
    address = parse_redis_url(url)
    assert SECRET not in f"{config!r} {config} {config.__rich_repr__()} {address} {address!r}"
    assert str(address) == "cache:6379/1"


def test_without_a_url_counters_are_in_memory() -> None:
    assert load_config({}, {"ROXY_REDIS_URL": ""}).redis_url == ""
