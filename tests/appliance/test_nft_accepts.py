"""What is rendered, the kernel takes: in both languages, for any sources, and both mean the same."""

import json
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.allow_list import AllowedValidator
from app.domain.firewall.ruleset import Ruleset, ruleset
from app.domain.firewall.sources import let_in
from tests.appliance.namespaces import Machine, why_not

TABLE = ("inet", "loosh_miner")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    if reason := why_not():
        pytest.skip(reason)
    machine = Machine("rules")
    yield machine
    machine.remove()


def rules(*addresses: str, always: tuple[str, ...] = (), port: int = 8000) -> Ruleset:
    validator = AllowedValidator(hotkey="a", sources=("metagraph",), addresses=addresses)
    return ruleset(let_in([validator], map(ip_network, always), allow_private=True), port)


def loaded(machine: Machine) -> list[dict[str, Any]]:
    """The table as the kernel has it, without the numbers that each load gives anew."""
    listed: list[dict[str, Any]] = json.loads(machine.nft("-j", "list", "table", *TABLE))["nftables"]
    return [
        {kind: {key: value for key, value in entry.items() if key != "handle"}}
        for one in listed
        for kind, entry in one.items()
        if kind != "metainfo"
    ]


@pytest.mark.parametrize("addresses", [("8.8.8.8", "9.9.9.8", "9.9.9.9", "2600::1"), ("8.8.8.8",), ("2600::1",), ()])
@pytest.mark.parametrize("always", [("10.0.0.0/8", "192.168.1.1", "fd00::/8"), ()])
def test_both_languages_load_the_same_table(
    machine: Machine, addresses: tuple[str, ...], always: tuple[str, ...]
) -> None:
    made = rules(*addresses, always=always)
    machine.nft("-f", "-", text=made.as_nft())
    from_nft = loaded(machine)
    machine.nft("-f", "-", text=rules("1.1.1.1", port=9).as_nft())
    assert loaded(machine) != from_nft
    machine.nft("-j", "-f", "-", text=made.as_json())
    assert loaded(machine) == from_nft


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    addresses=st.lists(st.ip_addresses().map(str), max_size=60),
    always=st.lists(
        st.ip_addresses(v=4).map(lambda address: str(ip_network(f"{address}/12", strict=False))), max_size=5
    ),
    port=st.integers(1, 65535),
)
def test_any_addresses_are_taken(machine: Machine, addresses: list[str], always: list[str], port: int) -> None:
    made = rules(*addresses, always=tuple(always), port=port)
    machine.nft("-c", "-f", "-", text=made.as_nft())
    machine.nft("-j", "-c", "-f", "-", text=made.as_json())
