"""Headers, CA files, proxies and queries of deployments: what is refused, and what is resolved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from workers.base_url import checked_upstream_url, joined_url
from workers.catalog.catalog import Deployment
from workers.catalog.catalog_file import load_catalog
from workers.catalog.entries import CatalogError
from workers.upstream_route import environment_proxy, parse_proxy

HIDDEN = "hunter2Hunter2hunter2"


def load(environ: Mapping[str, str] | None = None, **fields: Any) -> Deployment:
    """Load a catalog with one more model and return its deployment."""
    entry = {
        "id": "test/one",
        "deployments": [
            {
                "provider": "openai",
                "base_url": "https://api.example.com/v1",
                "upstream_model": "x",
                **fields,
            }
        ],
    }
    catalog = load_catalog([entry], environ or {}, formats={"openai"})
    return catalog.models["test/one"].deployments[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"headers": {"Host": HIDDEN}},
        {"headers": {"content-LENGTH": HIDDEN}},
        {"headers": {"Transfer-Encoding": HIDDEN}},
        {"headers": {"Connection": HIDDEN}},
        {"headers": {"Proxy-Authorization": HIDDEN}},
        {"headers": {"Content-Type": HIDDEN}},
        {"headers": {"x y": HIDDEN}},
        {"headers": {"x:": HIDDEN}},
        {"headers": {"x": f"{HIDDEN}\r\ny: z"}},
        {"headers": {"x": f"{HIDDEN}\u00e9"}},
        {"headers": {"x": f"{HIDDEN} costs 5$"}},
        {"headers": {"x": f"{HIDDEN} ${{"}},
        {"headers": {"api-key": HIDDEN}},
        {"headers": {"Authorization": f"Bearer {HIDDEN}"}},
        {"proxy": f"socks5://user:{HIDDEN}@proxy:1080"},
        {"proxy": f"https://user:{HIDDEN}@proxy"},
        {"proxy": f"http://user:{HIDDEN}@"},
        {"proxy": f"http://user:{HIDDEN}@proxy:port"},
        {"proxy": f"http://proxy/{HIDDEN}"},
        {"proxy": "environments"},
        {"base_url": f"https://host/v1?key={HIDDEN}"},
        {"base_url": f"https://host/v1?a=b#{HIDDEN}"},
        {"ca_file": "/no/such/file.pem"},
        {"ca_file": __file__},
        {"ca_file": "/"},
    ],
)
def test_what_cannot_be_used_is_refused_unseen(fields: dict[str, Any]) -> None:
    with pytest.raises(CatalogError) as refusal:
        load(**fields)
    assert HIDDEN not in str(refusal.value)


def test_a_value_of_a_variable_that_no_header_can_carry_is_refused_unseen() -> None:
    with pytest.raises(CatalogError, match="'api-key'") as refusal:
        load({"KEY": f"{HIDDEN}\nx: y"}, headers={"api-key": "$KEY"})
    assert HIDDEN not in str(refusal.value)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("$KEY", "k"),
        ("${KEY}", "k"),
        ("Api-Key $KEY", "Api-Key k"),
        ("${KEY}$TEAM", "kred"),
        ("5$$", "5$"),
        ("https://my.app/?a=b", "https://my.app/?a=b"),
        ("org-AbC123dEf456GhI789jKl0", "org-AbC123dEf456GhI789jKl0"),
    ],
)
def test_variables_are_filled_in(written: str, sent: str) -> None:
    found = load({"KEY": " k\n", "TEAM": "red"}, headers={"X": written})
    assert found.headers == (("X", sent),)
    assert found.live


def test_an_unset_variable_of_a_header_is_named_and_the_deployment_is_off() -> None:
    found = load({"B": "", "C": "c"}, headers={"x": "$A $C", "y": "${B}"}, secret_env="S")
    assert not found.live
    assert found.missing_variables == ("S", "A", "B")


def test_the_text_form_of_a_deployment_shows_no_secret() -> None:
    found = load(
        {"KEY": HIDDEN},
        headers={"api-key": "$KEY"},
        proxy=f"http://user:{HIDDEN}@proxy:1",
        base_url="https://host/v1?sig=hunter2",
    )
    for text in (repr(found), repr(found.route), repr(parse_proxy(found.route.proxy))):
        assert "hunter2" not in text.lower()


def test_the_ca_file_of_the_environment_is_checked_like_another(tmp_path: Path) -> None:
    assert load({}, ca_file="environment").route.ca_file == ""
    (tmp_path / "empty.pem").write_text("no certificate")
    with pytest.raises(CatalogError, match="no certificates in PEM"):
        load({"SSL_CERT_FILE": str(tmp_path / "empty.pem")}, ca_file="environment")


@pytest.mark.parametrize(
    ("url", "path", "joined"),
    [
        ("https://h/v1", "/chat", "https://h/v1/chat"),
        ("https://h/v1/", "/chat", "https://h/v1/chat"),
        ("https://h", "/chat", "https://h/chat"),
        ("https://h/d/gpt?api-version=1", "/chat", "https://h/d/gpt/chat?api-version=1"),
        ("https://h/d/gpt//?a=b/", "/chat", "https://h/d/gpt/chat?a=b/"),
        ("https://h?a=b?c", "/chat", "https://h/chat?a=b?c"),
        ("https://h/v1?", "/chat", "https://h/v1/chat"),
    ],
)
def test_a_path_comes_before_the_query(url: str, path: str, joined: str) -> None:
    assert joined_url(checked_upstream_url(url), path) == joined


PROXY = "http://proxy.example:3128"


@pytest.mark.parametrize(
    ("url", "environ", "found"),
    [
        ("https://a.example/v1", {}, ""),
        ("https://a.example/v1", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://a.example/v1", {"https_proxy": PROXY, "HTTPS_PROXY": "http://x"}, PROXY),
        ("https://a.example/v1", {"HTTP_PROXY": PROXY}, ""),
        ("http://a.example/v1", {"HTTP_PROXY": PROXY}, PROXY),
        ("http://a.example/v1", {"ALL_PROXY": "proxy.example:3128"}, PROXY),
        ("https://a.example/v1", {"HTTPS_PROXY": "", "ALL_PROXY": PROXY}, PROXY),
        *(
            ("https://sub.a.example:8443/v1", {"HTTPS_PROXY": PROXY, "NO_PROXY": listed}, "")
            for listed in (
                "*",
                "a.example",
                ".a.example",
                "*.a.example",
                "A.EXAMPLE.",
                "x, sub.a.example",
                "x sub.a.example:8443",
            )
        ),
        *(
            ("https://sub.a.example:8443/v1", {"HTTPS_PROXY": PROXY, "no_proxy": listed}, PROXY)
            for listed in ("", "b.example", "ub.a.example", "sub.a.example:443", "example.a", ",")
        ),
        ("http://10.1.2.3/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "10.0.0.0/8"}, ""),
        ("http://10.1.2.3/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "10.1.2.3"}, ""),
        ("http://10.1.2.3/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "10.1.2.3:80"}, ""),
        ("http://10.1.2.3/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "10.2.0.0/16,2.3"}, PROXY),
        ("http://[fd00::1]/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "[fd00::1]"}, ""),
        ("http://[fd00::1]/v1", {"HTTP_PROXY": PROXY, "NO_PROXY": "fd00::/8"}, ""),
    ],
)
def test_the_environment_names_the_proxy(url: str, environ: dict[str, str], found: str) -> None:
    assert environment_proxy(environ, url) == found


def test_a_proxy_of_the_environment_that_cannot_be_used_stops_the_start() -> None:
    with pytest.raises(CatalogError, match="must begin with http://") as refusal:
        load({"HTTPS_PROXY": f"socks5://u:{HIDDEN}@h"}, proxy="environment")
    assert HIDDEN not in str(refusal.value)


def test_the_login_of_a_proxy_is_decoded() -> None:
    proxy = parse_proxy("http://us%40er:p%3Ass@[fd00::1]:3128/")
    assert proxy == ("fd00::1", 3128, b"proxy-authorization: Basic dXNAZXI6cDpzcw==\r\n")
    assert parse_proxy("http://proxy.example") == ("proxy.example", 80, b"")
