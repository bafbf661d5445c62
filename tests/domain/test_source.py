"""Addresses as limits see them."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.source import client_address, is_loopback, limit_key


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("", "unknown"),
        ("::nonsense", "unknown"),
    ],
)
def test_one_customer_is_one_source(address: str, key: str) -> None:
    assert limit_key(address) == key


@given(st.ip_addresses(v=6))
def test_every_v6_address_counts_by_at_most_its_64(address: object) -> None:
    key = limit_key(str(address))
    assert ":" not in key or key.endswith("/64")


PROXY = (ip_network("10.0.0.0/8"),)


@pytest.mark.parametrize(
    ("peer", "forwarded", "seen"),
    [
        ("198.51.100.1", "1.2.3.4", "198.51.100.1"),  # a stranger may claim what it likes
        ("10.0.0.1", "1.2.3.4", "1.2.3.4"),
        ("10.0.0.1", "9.9.9.9, 1.2.3.4", "1.2.3.4"),  # the first hop was written by the client itself
        ("10.0.0.1", "1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4, nonsense", "10.0.0.1"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "10.0.0.3", "10.0.0.3"),
    ],
)
def test_forwarded_for_is_believed_from_trusted_hops_only(peer: str, forwarded: str | None, seen: str) -> None:
    assert client_address(peer, forwarded, PROXY) == seen


def test_loopback() -> None:
    assert is_loopback("127.0.0.9")
    assert is_loopback("::1")
    assert is_loopback("::ffff:127.0.0.1")
    assert not is_loopback("10.0.0.1")
    assert not is_loopback("")
