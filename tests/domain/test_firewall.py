"""Who is let in to the miner's port, and the rules' text: the same sources always give the same rules."""

import itertools
import json
import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
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
    assert found.v4 == (IPv4Network("8.8.8.8"), IPv4Network("9.9.9.9"))
    assert found.v6 == (IPv6Network("2600::8"),)
    assert found.published == ("8.8.8.8", "9.9.9.9", "2600::8")
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
    found = sources("10.1.2.3", "8.8.8.8", always=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")))
    assert found.v4 == (IPv4Network("8.8.8.8"), IPv4Network("10.0.0.0/8"))
    assert found.v6 == (IPv6Network("fd00::/8"),)
    assert found.published == ("8.8.8.8",)


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


def test_neighbours_become_one_network() -> None:
    assert "1.1.1.0/31" in ruleset(sources("1.1.1.0", "1.1.1.1"), PORT).as_nft()


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
    for name, expected in (("allowed_v4", found.v4), ("allowed_v6", found.v6)):
        body: str
        (body,) = re.findall(rf"set {name} {{(.*?)\n\t}}", text, re.DOTALL)
        in_text: list[str] = re.findall(r"elements = { (.*) }", body)
        assert [ip_network(one) for one in (in_text[0].split(", ") if in_text else [])] == list(expected)
        assert [_network(element) for element in sets[name].get("elem", [])] == list(expected)
        assert all(
            int(before.broadcast_address) < int(after.network_address) for before, after in itertools.pairwise(expected)
        )
    for one in found.published:
        assert any(ip_address(one) in network for network in (*found.v4, *found.v6))
    assert f"tcp dport {port} " in text


def _network(element: Any) -> Network:  # noqa: ANN401 - JSON
    return ip_network(
        element if isinstance(element, str) else f"{element['prefix']['addr']}/{element['prefix']['len']}"
    )
