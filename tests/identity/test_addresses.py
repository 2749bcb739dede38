"""Who is asking, by address: only configured proxies are believed, and only about one header."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders

from server.identity.client_addresses import (
    UNKNOWN,
    TrustedProxies,
    client_address,
    guest_scope,
    parse_address,
)

PROXIES = TrustedProxies(["10.0.0.0/8", "192.0.2.7", "2001:db8:ffff::/48"])
STRANGER = "203.0.113.9"


def find(peer: str, forwarded_for: str) -> str:
    return str(client_address(peer, HTTPHeaders({"X-Forwarded-For": forwarded_for}), PROXIES))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        (STRANGER, "1.1.1.1", STRANGER),  # the peer is not a trusted proxy
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1"),  # what the client made up is to the left
        ("10.0.0.1", "6.6.6.6,1.1.1.1, 10.2.3.4 ,192.0.2.7", "1.1.1.1"),
        ("192.0.2.8", "1.1.1.1", "192.0.2.8"),
        ("10.0.0.1", "10.0.0.9, 10.0.0.8", "10.0.0.9"),  # a client among the proxies
        ("10.0.0.1", "6.6.6.6, unknown", "10.0.0.1"),  # garbage: as far as our proxies know
        ("10.0.0.1", "6.6.6.6, unknown, 1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, , 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "1.1.1.1:4711", "1.1.1.1"),
        ("10.0.0.1", "[2001:db8::5]:443", "2001:db8::5"),
        ("10.0.0.1", "2001:db8::5", "2001:db8::5"),
        ("10.0.0.1", "1.1.1", "10.0.0.1"),
        ("10.0.0.1", "01.1.1.1", "10.0.0.1"),  # leading zeros may be octal: not an address
        ("10.0.0.1", "for=1.1.1.1", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1/8", "10.0.0.1"),
        ("10.0.0.1", "9" * 5000, "10.0.0.1"),
        ("::ffff:10.0.0.1", "1.1.1.1", "1.1.1.1"),  # a dual-stack socket's name for IPv4
        ("2001:db8:ffff::1", "1.1.1.1", "1.1.1.1"),
        ("2001:db8:fffe::1", "1.1.1.1", "2001:db8:fffe::1"),
        ("", "1.1.1.1", "0.0.0.0"),
        ("/run/roxy.sock", "1.1.1.1", "0.0.0.0"),
    ],
)
def test_the_right_most_address_that_is_no_proxys_is_the_client(
    peer: str, forwarded_for: str, client: str
) -> None:
    assert find(peer, forwarded_for) == client


def test_several_headers_are_read_as_one() -> None:
    headers = HTTPHeaders()
    headers.add("X-Forwarded-For", "6.6.6.6")
    headers.add("X-Forwarded-For", "1.1.1.1, 10.0.0.2")
    assert client_address("10.0.0.1", headers, PROXIES) == IPv4Address("1.1.1.1")


@pytest.mark.parametrize("peer", [STRANGER, "10.0.0.1"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Forwarded", "for=6.6.6.6"),
        ("X-Real-Ip", "6.6.6.6"),
        ("X-Client-Ip", "6.6.6.6"),
        ("True-Client-Ip", "6.6.6.6"),
        ("Cf-Connecting-Ip", "6.6.6.6"),
        ("X-Forwarded", "6.6.6.6"),
        ("X-Forwarded-Host", "6.6.6.6"),
        ("X-Cluster-Client-Ip", "6.6.6.6"),
        ("Fastly-Client-Ip", "6.6.6.6"),
        ("Via", "1.1 6.6.6.6"),
    ],
)
def test_no_other_header_is_believed_not_even_from_a_proxy(
    peer: str, name: str, value: str
) -> None:
    assert str(client_address(peer, HTTPHeaders({name: value}), PROXIES)) == peer


def test_without_configured_proxies_nobody_is_believed() -> None:
    headers = HTTPHeaders({"X-Forwarded-For": "6.6.6.6"})
    assert client_address("127.0.0.1", headers, TrustedProxies()) == IPv4Address("127.0.0.1")


def test_a_mapped_network_is_the_ipv4_network() -> None:
    assert ip_address("10.9.9.9") in TrustedProxies(["::ffff:10.0.0.0/104"])


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        TrustedProxies(["nonsense"])


@pytest.mark.parametrize(
    ("address", "scope"),
    [
        ("1.2.3.4", "guest:1.2.3.4"),
        ("::ffff:1.2.3.4", "guest:1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", "guest:2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "guest:2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "guest:2001:db8:1:3::/64"),
        ("fe80::1%eth0", "guest:fe80::/64"),
    ],
)
def test_a_guest_is_an_ipv4_address_or_an_ipv6_64(address: str, scope: str) -> None:
    parsed = parse_address(address)
    assert parsed is not None
    assert guest_scope(parsed) == scope


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_every_address_of_a_64_is_the_same_guest(one: int, other: int) -> None:
    network = 0x20010DB8_00010002 << 64
    assert guest_scope(IPv6Address(network | one)) == guest_scope(IPv6Address(network | other))


@given(st.text(), st.text())
def test_garbage_is_never_an_error_and_never_hides_a_stranger(peer: str, forwarded: str) -> None:
    headers = {"X-Forwarded-For": forwarded}
    assert client_address(STRANGER, headers, PROXIES) == IPv4Address(STRANGER)
    assert client_address(peer, headers, PROXIES) == (parse_address(peer) or UNKNOWN)
    client_address("10.0.0.1", headers, PROXIES)


def test_a_long_made_up_list_costs_little_and_changes_nothing() -> None:
    made_up = ",".join(["10.0.0.1"] * 3000)
    assert find("10.0.0.1", f"{made_up},1.1.1.1") == "1.1.1.1"
    assert find("10.0.0.1", made_up) == "10.0.0.1"


def test_no_more_than_32_proxies_are_followed() -> None:
    assert find("10.0.0.1", STRANGER + ",10.0.0.2" * 31) == STRANGER
    assert find("10.0.0.1", STRANGER + ",10.0.0.2" * 32) == "10.0.0.2"
