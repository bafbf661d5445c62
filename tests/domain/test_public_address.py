"""Which addresses may be posted: every range that validators can't reach is refused, and all others are taken."""

import ipaddress
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.public_address import Address, choose, hindrance, may_post

NEVER: Final = (
    "0.0.0.0",  # noqa: S104 - nothing is bound
    "0.1.2.3",
    "192.0.0.8",
    "192.88.99.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.254",
    "255.255.255.255",
    "::",
    "::8.8.4.4",
    "::2",
    "::ffff:8.8.4.4",
    "::ffff:0:8.8.4.4",
    "64:ff9b::8.8.4.4",
    "64:ff9b:1::1",
    "100::1",
    "200::1",
    "1fff::1",
    "2001::1",
    "2001:10::1",
    "2001:20::1",
    "2001:1ff::1",
    "2002:808:404::1",
    "4000::1",
    "5f00::1",
    "fec0::1",
    "ff02::1",
    "ffff::1",
    "2606:4700::1111%eth0",
    "fe80::1%eth0",
)
LOCAL: Final = (
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.0.0.2",
    "127.255.255.255",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.2.1",
    "192.168.0.1",
    "192.168.255.255",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.255",
    "203.0.113.7",
    "::1",
    "2001:db8::1",
    "2001:db8:ffff::1",
    "3fff::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
)
PUBLIC: Final = (
    "1.0.0.1",
    "8.8.4.4",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.1",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2000::1",
    "2001:200::1",
    "2001:4860:4860::8844",
    "2606:4700::1111",
    "2a00::1",
    "3ffe::1",
)


def ip(text: str) -> Address:
    return ipaddress.ip_address(text)


@pytest.mark.parametrize("text", NEVER)
def test_what_nobody_can_reach(text: str) -> None:
    found = hindrance(ip(text))
    assert found is not None
    assert found.reach == "never"
    assert not may_post(ip(text), allow_local=False)
    assert not may_post(ip(text), allow_local=True)


@pytest.mark.parametrize("text", LOCAL)
def test_what_only_a_local_network_can_reach(text: str) -> None:
    assert not may_post(ip(text), allow_local=False)
    assert may_post(ip(text), allow_local=True)


@pytest.mark.parametrize("text", PUBLIC)
def test_what_the_internet_can_reach(text: str) -> None:
    assert hindrance(ip(text)) is None
    assert may_post(ip(text), allow_local=False)


@given(st.ip_addresses(v=4))
def test_nothing_that_python_calls_private_is_posted(address: ipaddress.IPv4Address) -> None:
    odd = not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified
    if odd:
        assert not may_post(address, allow_local=False)
    elif hindrance(address) is not None:
        assert address in ipaddress.ip_network("192.88.99.0/24") or address in ipaddress.ip_network("192.0.0.0/24")


@given(st.ip_addresses(v=6) | st.integers(0, 2**33).map(ipaddress.IPv6Address))
def test_nothing_outside_the_internets_ipv6_is_posted(address: ipaddress.IPv6Address) -> None:
    if may_post(address, allow_local=False):
        assert address in ipaddress.ip_network("2000::/3")
        assert address.is_global
        assert address.ipv4_mapped is None
        assert address.sixtofour is None
        assert address.teredo is None


@given(st.lists(st.ip_addresses(), max_size=6), st.none() | st.ip_addresses(), st.booleans())
def test_what_is_chosen_may_be_posted(addresses: list[Address], posted: Address | None, local: bool) -> None:  # noqa: FBT001 - drawn
    chosen = choose(addresses, posted=posted, allow_local=local)
    if chosen is None:
        assert not any(may_post(address, allow_local=local) for address in addresses)
    else:
        assert chosen in addresses
        assert may_post(chosen, allow_local=local)


def test_of_several_the_posted_one_stays_and_else_ipv4_comes_first() -> None:
    several = [ip("2606:4700::1111"), ip("10.0.0.1"), ip("8.8.4.4"), ip("1.0.0.1")]
    assert choose(several, posted=None, allow_local=False) == ip("8.8.4.4")
    assert choose(several, posted=ip("1.0.0.1"), allow_local=False) == ip("1.0.0.1")
    assert choose(several, posted=ip("2606:4700::1111"), allow_local=False) == ip("2606:4700::1111")
    assert choose(several, posted=ip("10.0.0.1"), allow_local=False) == ip("8.8.4.4")
    assert choose(several, posted=ip("9.9.9.9"), allow_local=False) == ip("8.8.4.4")
    assert choose([ip("10.0.0.1")], posted=None, allow_local=False) is None
