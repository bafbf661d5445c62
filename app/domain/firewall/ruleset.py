"""The rules: nftables' own language, and libnftables' JSON for the same.

A table of its own, replaced as a whole in one transaction: the three commands `table`, `delete table`, `table {...}`
take effect together or not at all, whether or not there was a table before. Its only verdict against anybody is on
TCP to the miner's port of this machine; all else passes, and other tables judge as they did.

Packets are judged where they arrive (`prerouting`), on the port they were sent to, before a container engine's DNAT
(priority -100) gives them another. Attempts to connect are judged before connection tracking (-200), so that a
stranger's flood costs the least and leaves no trace there. All other packets are judged after it, where those of
connections that this machine or its containers opened are told apart: only the direction towards the port counts.
What comes over `lo` is this machine's own, also when it calls its public address.

Single addresses stand in sets and networks in rules, and not both in interval sets: the kernel (6.18) fills an interval
set a moment after it has switched to the new rules, and drops whoever knocks in that moment.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from app.domain.firewall.sources import Address, Network, Sources

FAMILY: Final = "inet"
TABLE: Final = "loosh_miner"
SET_V4: Final = "allowed_v4"
SET_V6: Final = "allowed_v6"
JUDGE: Final = "judge"
REMOVAL: Final = f"table {FAMILY} {TABLE}\ndelete table {FAMILY} {TABLE}\n"
"""Takes the table away, whether it is there or not."""

_BEFORE_TRACKING: Final = -300
_BEFORE_DNAT: Final = -150


class Ruleset(msgspec.Struct, frozen=True):
    """The sources that may reach a port. Equal rulesets have equal texts."""

    addresses: tuple[Address, ...]
    networks: tuple[Network, ...]
    port: int

    def as_nft(self) -> str:
        """What `nft -f` loads."""
        return "\n".join(self._lines()) + "\n"

    def as_json(self) -> str:
        """What `nft -j -f` loads: the same rules for programs."""
        commands = [{"metainfo": {"json_schema_version": 1}}, *self._commands()]
        lines = ",\n".join(msgspec.json.encode(command).decode() for command in commands)
        return f'{{"nftables": [\n{lines}\n]}}\n'

    def _lines(self) -> Iterator[str]:
        to_us = f"tcp dport {self.port}"
        arriving = 'fib daddr type local iifname != "lo"'
        yield "# Made by `loosh-miner firewall`. Only the miner's port is judged; all else is untouched."
        yield from REMOVAL.splitlines()
        yield f"table {FAMILY} {TABLE} {{"
        yield from _set(SET_V4, "ipv4_addr", self._of(4))
        yield from _set(SET_V6, "ipv6_addr", self._of(6))
        yield "\tchain attempts {"
        yield f"\t\ttype filter hook prerouting priority {_BEFORE_TRACKING}; policy accept;"
        yield f"\t\t{to_us} tcp flags & (syn | ack) == syn {arriving} goto {JUDGE}"
        yield "\t}"
        yield "\tchain others {"
        yield f"\t\ttype filter hook prerouting priority {_BEFORE_DNAT}; policy accept;"
        yield f"\t\t{to_us} {arriving} ct direction original goto {JUDGE}"
        yield "\t}"
        yield f"\tchain {JUDGE} {{"
        yield f"\t\tip saddr @{SET_V4} accept"
        yield f"\t\tip6 saddr @{SET_V6} accept"
        for network in self.networks:
            yield f"\t\t{_protocol(network)} saddr {network} accept"
        yield "\t\tcounter drop"
        yield "\t}"
        yield "}"

    def _commands(self) -> Iterator[dict[str, Any]]:
        table = {"family": FAMILY, "name": TABLE}
        yield {"add": {"table": table}}
        yield {"delete": {"table": table}}
        yield {"add": {"table": table}}
        yield _json_set(SET_V4, "ipv4_addr", self._of(4))
        yield _json_set(SET_V6, "ipv6_addr", self._of(6))
        yield _base_chain("attempts", _BEFORE_TRACKING)
        yield _base_chain("others", _BEFORE_DNAT)
        yield {"add": {"chain": {"family": FAMILY, "table": TABLE, "name": JUDGE}}}
        to_us = _match({"payload": {"protocol": "tcp", "field": "dport"}}, self.port)
        arriving = (
            _match({"fib": {"result": "type", "flags": ["daddr"]}}, "local"),
            _match({"meta": {"key": "iifname"}}, "lo", "!="),
        )
        attempt = _match({"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["syn", "ack"]]}, "syn")
        towards_us = _match({"ct": {"key": "direction"}}, "original")
        judge = {"goto": {"target": JUDGE}}
        yield _rule("attempts", to_us, attempt, *arriving, judge)
        yield _rule("others", to_us, *arriving, towards_us, judge)
        yield _accept("ip", f"@{SET_V4}")
        yield _accept("ip6", f"@{SET_V6}")
        for network in self.networks:
            prefix = {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}
            yield _accept(_protocol(network), prefix)
        yield _rule(JUDGE, {"counter": None}, {"drop": None})

    def _of(self, version: int) -> tuple[str, ...]:
        return tuple(str(address) for address in self.addresses if address.version == version)


def ruleset(sources: Sources, port: int) -> Ruleset:
    """The rules that let `sources`, and nobody else, reach `port`."""
    return Ruleset(sources.addresses, sources.networks, port)


def _set(name: str, kind: str, elements: tuple[str, ...]) -> Iterator[str]:
    yield f"\tset {name} {{"
    yield f"\t\ttype {kind}"
    if elements:
        yield f"\t\telements = {{ {', '.join(elements)} }}"
    yield "\t}"


def _json_set(name: str, kind: str, elements: tuple[str, ...]) -> dict[str, Any]:
    described: dict[str, Any] = {"family": FAMILY, "table": TABLE, "name": name, "type": kind}
    return {"add": {"set": described | ({"elem": elements} if elements else {})}}


def _protocol(network: Network) -> str:
    return "ip" if network.version == 4 else "ip6"  # noqa: PLR2004 - IP's version


def _base_chain(name: str, priority: int) -> dict[str, Any]:
    hook = {"type": "filter", "hook": "prerouting", "prio": priority, "policy": "accept"}
    return {"add": {"chain": {"family": FAMILY, "table": TABLE, "name": name} | hook}}


def _match(left: dict[str, Any], right: object, operator: str = "==") -> dict[str, Any]:
    return {"match": {"op": operator, "left": left, "right": right}}


def _accept(protocol: str, source: object) -> dict[str, Any]:
    return _rule(JUDGE, _match({"payload": {"protocol": protocol, "field": "saddr"}}, source), {"accept": None})


def _rule(chain: str, *statements: dict[str, Any]) -> dict[str, Any]:
    return {"add": {"rule": {"family": FAMILY, "table": TABLE, "chain": chain, "expr": list(statements)}}}
