"""The addresses that are let in: validators' published ones, and those that the operator names.

Published addresses come from the chain and from the Challenge API, so each one is judged: only a single address that
a packet can really come from is let in. Whatever is not is counted and named for the operator.
"""

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address
from typing import Final, Protocol

import msgspec

from app.errors import FirewallRefused

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_MOST_SHOWN: Final = 60
_UNCHANGED: Final = "the rules in force stay as they are"


class Published(Protocol):
    """A validator and the addresses it has published."""

    @property
    def hotkey(self) -> str:
        """Its ss58 address."""
        ...

    @property
    def addresses(self) -> tuple[str, ...]:
        """As the chain or the Challenge API wrote them."""
        ...


class Unfit(msgspec.Struct, frozen=True):
    """A published address that is not let in, fit to be shown, and why."""

    address: str
    why: str


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Who is let in, sorted and each once, so that equal sources give equal rules."""

    addresses: tuple[Address, ...]
    networks: tuple[Network, ...]
    """The operator's networks of more than one address; no two of them overlap."""
    published: tuple[str, ...]
    """The validators' own ones among the addresses."""
    validators: int
    unreachable: tuple[str, ...]
    """Hotkeys of validators without an address that could be let in: the rules lock them out."""
    unfit: tuple[Unfit, ...]


def let_in(validators: Iterable[Published], always: Iterable[Network], *, allow_private: bool) -> Sources:
    """Judge the validators' addresses and add the networks that are let in in any case.

    `allow_private` takes addresses that the internet does not route (private, CGNAT, documentation): for a local
    network.
    """
    good: set[Address] = set()
    unfit: dict[str, str] = {}
    reachable: dict[str, bool] = {}
    for validator in validators:
        reachable.setdefault(validator.hotkey, False)
        for text in validator.addresses:
            judged = _judge(text, allow_private=allow_private)
            if isinstance(judged, str):
                unfit[text] = judged
            else:
                good.add(judged)
                reachable[validator.hotkey] = True
    networks = _collapsed(always)
    single = {network.network_address for network in networks if _is_single(network)}
    return Sources(
        addresses=_sorted(good | single),
        networks=tuple(network for network in networks if not _is_single(network)),
        published=tuple(map(str, _sorted(good))),
        validators=len(reachable),
        unreachable=tuple(sorted(hotkey for hotkey, can in reachable.items() if not can)),
        unfit=tuple(Unfit(_shown(text), why) for text, why in sorted(unfit.items())),
    )


def require_reachable(sources: Sources, *, force: bool) -> None:
    """Refuse sources that would lock validators out. Errors: `FirewallRefused`.

    Without any validator's address always; when more than half of the validators have none, unless `force`.
    """
    if not sources.validators:
        raise FirewallRefused(
            f"the list of allowed validators is empty, so nobody could reach the miner; {_UNCHANGED}: let the miner run"
            " until it has read the list, or read it now with --fresh"
        )
    if not sources.published:
        raise FirewallRefused(
            f"none of the {sources.validators} allowed validators has a usable address; {_UNCHANGED}: look at the"
            " addresses with `loosh-miner validators`, and leave this firewall off until validators publish theirs"
        )
    if 2 * len(sources.unreachable) > sources.validators and not force:
        raise FirewallRefused(
            f"{len(sources.unreachable)} of {sources.validators} allowed validators have no usable address and would be"
            f" locked out; {_UNCHANGED}: name their addresses in FIREWALL_ALLOW, or use --force if that is meant"
        )


def doubts(sources: Sources, proxies: Collection[Network]) -> tuple[str, ...]:
    """What the operator should know about these sources, one line each."""
    lines: list[str] = []
    if sources.unreachable:
        lines.append(
            f"{len(sources.unreachable)} of {sources.validators} allowed validators have no usable address and can't"
            f" reach the miner: {_some(sources.unreachable)}"
        )
    if sources.unfit:
        named = tuple(f"{one.address} ({one.why})" for one in sources.unfit)
        lines.append(f"{len(sources.unfit)} published addresses are not let in: {_some(named)}")
    if proxies:
        lines.append("TRUSTED_PROXIES are let in: whoever reaches a proxy reaches the miner through it")
    return tuple(lines)


def _some(names: tuple[str, ...], most: int = 5) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _judge(text: str, *, allow_private: bool) -> Address | str:
    """The address that a text names, or why it is not let in."""
    try:
        address = ip_address(text)
    except ValueError:
        return "no IP address"
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    unfit = (
        (isinstance(address, IPv6Address) and address.scope_id is not None, "has a scope"),
        (address.is_unspecified, "unspecified"),
        (address.is_loopback, "loopback"),
        (address.is_multicast, "multicast"),
        (address.is_link_local, "link-local"),
        (isinstance(address, IPv4Address) and address.is_reserved, "reserved"),
        (not address.is_global and not allow_private, "not routed on the internet"),
    )
    return next((why for applies, why in unfit if applies), address)


def _sorted(addresses: Iterable[Address]) -> tuple[Address, ...]:
    return tuple(sorted(addresses, key=lambda address: (address.version, int(address))))


def _is_single(network: Network) -> bool:
    return network.prefixlen == network.max_prefixlen


def _collapsed(networks: Iterable[Network]) -> tuple[Network, ...]:
    every = tuple(networks)
    return (
        *collapse_addresses(one for one in every if isinstance(one, IPv4Network)),
        *collapse_addresses(one for one in every if isinstance(one, IPv6Network)),
    )


def _shown(text: str) -> str:
    """A text from outside, harmless in a terminal."""
    plain = text if text.isascii() and text.isprintable() else ascii(text)
    return plain if len(plain) <= _MOST_SHOWN else plain[: _MOST_SHOWN - 3] + "..."
