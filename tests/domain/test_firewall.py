"""Who is let in to the miner's port, and the rules' text: the same sources always give the same rules."""

import json
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.allow_list import AllowedValidator
from app.domain.firewall.ruleset import ruleset
from app.domain.firewall.sources import Network, Sources, doubts, let_in, require_reachable
from app.errors import FirewallRefused

PORT = 8000


def validator(hotkey: str, *addresses: str) -> AllowedValidator:
    return AllowedValidator(hotkey=hotkey, sources=("metagraph",), addresses=addresses)


def sources(*addresses: str, always: tuple[Network, ...] = (), allow_private: bool = False) -> Sources:
    return let_in([validator("a", *addresses)], always, allow_private=allow_private)


def test_single_public_addresses_are_let_in() -> None:
    found = sources("8.8.8.8", "2600::8", "::ffff:9.9.9.9")
    assert found.published == ("8.8.8.8", "9.9.9.9", "2600::8")
    assert found.addresses == tuple(map(ip_address, found.published))
    assert not found.networks
    assert not found.unfit
    assert not found.unreachable


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("0.0.0.0", "unspecified"),  # noqa: S104 - as text
        ("::", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "has a scope"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "reserved"),
        ("8.8.8.0/24", "no IP address"),
        ("8.8.8.8:8000", "no IP address"),
        ("validator.example", "no IP address"),
        ("8.8.8.8, 0.0.0.0/0 }", "no IP address"),
        ("", "no IP address"),
    ],
)
@pytest.mark.parametrize("allow_private", [False, True])
def test_what_no_validator_can_have_is_never_let_in(address: str, why: str, *, allow_private: bool) -> None:
    found = sources(address, "8.8.8.8", allow_private=allow_private)
    assert found.published == ("8.8.8.8",)
    assert [(one.address, one.why) for one in found.unfit] == [(address, why)]


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "100.64.0.1", "203.0.113.1", "fd00::1", "2001:db8::1"])
def test_private_addresses_need_the_flag(address: str) -> None:
    assert [one.why for one in sources(address).unfit] == ["not routed on the internet"]
    assert sources(address, allow_private=True).published == (address,)


def test_networks_of_the_operator_are_let_in_as_they_are() -> None:
    found = sources(
        "10.1.2.3", "8.8.8.8", always=tuple(map(ip_network, ("fd00::/8", "10.0.0.0/8", "10.1.0.0/16", "192.168.0.9")))
    )
    assert found.addresses == (ip_address("8.8.8.8"), ip_address("192.168.0.9"))
    assert found.networks == (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    assert found.published == ("8.8.8.8",)
    text = ruleset(found, PORT).as_nft()
    assert "ip saddr 10.0.0.0/8 accept" in text
    assert "ip6 saddr fd00::/8 accept" in text


def test_one_good_address_makes_a_validator_reachable() -> None:
    found = let_in(
        [validator("a", "10.0.0.1", "8.8.8.8"), validator("b"), validator("c", "::"), validator("b", "9.9.9.9")],
        (),
        allow_private=False,
    )
    assert found.validators == 3
    assert found.unreachable == ("c",)


def test_nobody_is_refused_whatever_the_operator_says() -> None:
    always = (ip_network("10.0.0.0/8"),)
    with pytest.raises(FirewallRefused, match=r"list of allowed validators is empty.*stay as they are"):
        require_reachable(let_in([], always, allow_private=False), force=True)
    with pytest.raises(FirewallRefused, match=r"none of the 1 allowed validators.*stay as they are"):
        require_reachable(sources("10.0.0.1", always=always), force=True)


def test_most_validators_locked_out_needs_force() -> None:
    half = let_in([validator("a", "8.8.8.8"), validator("b")], (), allow_private=False)
    require_reachable(half, force=False)
    most = let_in([validator("a", "8.8.8.8"), validator("b"), validator("c")], (), allow_private=False)
    with pytest.raises(FirewallRefused, match="2 of 3 allowed validators"):
        require_reachable(most, force=False)
    require_reachable(most, force=True)


def test_the_operator_is_told_who_is_locked_out_and_what_was_passed_over() -> None:
    found = let_in(
        [validator("a", "8.8.8.8"), validator("b", "10.0.0.1", "\x1b[31mred" + "x" * 500), *map(validator, "cdefgh")],
        (),
        allow_private=False,
    )
    locked, passed_over, proxies = doubts(found, (IPv4Network("9.9.9.0/24"),))
    assert "7 of 8" in locked
    assert locked.endswith("b, c, d, e, f and 2 more")
    assert "2 published addresses" in passed_over
    assert "10.0.0.1 (not routed on the internet)" in passed_over
    assert passed_over.isprintable()
    assert len(passed_over) < 250
    assert "TRUSTED_PROXIES" in proxies
    assert not doubts(sources("8.8.8.8"), ())


def test_order_and_repeats_do_not_change_the_rules() -> None:
    one = ruleset(sources("8.8.8.8", "9.9.9.9", "2600::1"), PORT)
    other = ruleset(sources("2600::1", "9.9.9.9", "9.9.9.9", "8.8.8.8", "2600:0::1"), PORT)
    assert one.as_nft() == other.as_nft()
    assert one.as_json() == other.as_json()


def test_the_table_is_replaced_and_nothing_else_is_named() -> None:
    text = ruleset(sources("8.8.8.8"), PORT).as_nft()
    assert text.index("table inet loosh_miner\n") < text.index("delete table inet loosh_miner\n") < text.index("{")
    assert text.count("delete") == 1
    assert "flush" not in text
    assert set(re.findall(r"policy (\w+)", text)) == {"accept"}


addresses = st.one_of(
    st.ip_addresses().map(str),
    st.ip_addresses(network="10.0.0.0/24").map(str),
    st.ip_addresses(network="2600::/120").map(str),
    st.text(max_size=40),
)


def _around(address: IPv4Address | IPv6Address, wider: int) -> Network:
    return ip_network(f"{address}/{address.max_prefixlen - wider}", strict=False)


networks = st.builds(_around, st.ip_addresses(), st.integers(0, 24))


@given(
    texts=st.lists(addresses, max_size=30),
    always=st.lists(networks, max_size=5),
    allow_private=st.booleans(),
    port=st.integers(1, 65535),
)
def test_any_addresses_give_the_same_sets_in_both_languages(
    *, texts: list[str], always: list[Network], allow_private: bool, port: int
) -> None:
    found = let_in([validator("a", *texts)], always, allow_private=allow_private)
    rules = ruleset(found, port)
    text = rules.as_nft()
    assert text.isascii()
    assert {character for character in text if not character.isprintable()} <= {"\n", "\t"}
    commands: list[dict[str, Any]] = json.loads(rules.as_json())["nftables"]
    sets = {one["add"]["set"]["name"]: one["add"]["set"] for one in commands if "set" in one.get("add", {})}
    for name, version in (("allowed_v4", 4), ("allowed_v6", 6)):
        body: str
        (body,) = re.findall(rf"set {name} {{(.*?)\n\t}}", text, re.DOTALL)
        in_text: list[str] = re.findall(r"elements = { (.*) }", body)
        expected = [address for address in found.addresses if address.version == version]
        assert [ip_address(one) for one in (in_text[0].split(", ") if in_text else [])] == expected
        assert [ip_address(one) for one in sets[name].get("elem", [])] == expected
        assert expected == sorted(set(expected), key=int)
    in_rules: list[str] = re.findall(r"saddr ([0-9a-f.:]+/[0-9]+) accept", text)
    assert [ip_network(one) for one in in_rules] == list(found.networks)
    for one in always:
        single = one.prefixlen == one.max_prefixlen and one.network_address in found.addresses
        assert single or any(_within(one, network) for network in found.networks)
    assert f"tcp dport {port} " in text


def _within(inner: Network, outer: Network) -> bool:
    return inner.network_address in outer and inner.broadcast_address in outer
