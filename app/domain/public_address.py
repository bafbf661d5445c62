"""Which addresses validators on the internet can reach; the chain itself takes nearly all of them."""

import ipaddress
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

type Address = ipaddress.IPv4Address | ipaddress.IPv6Address
type _Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_IPV6_UNICAST: Final = ipaddress.IPv6Network("2000::/3")


class Hindrance(msgspec.Struct, frozen=True):
    """Why an address is not public: `local` ones work inside a private network, `never` ones nowhere."""

    why: str
    reach: Literal["local", "never"]


_MAPPED: Final = Hindrance("an IPv4 address written as IPv6: give it in its IPv4 form", "never")
_RANGES: Final[tuple[tuple[str, Hindrance], ...]] = (
    ("0.0.0.0/32", Hindrance("no address at all", "never")),
    ("0.0.0.0/8", Hindrance("reserved for the network itself", "never")),
    ("10.0.0.0/8", Hindrance("private", "local")),
    ("100.64.0.0/10", Hindrance("shared behind a provider's NAT (CGNAT)", "local")),
    ("127.0.0.0/8", Hindrance("loopback, of this machine only", "local")),
    ("169.254.0.0/16", Hindrance("link-local", "local")),
    ("172.16.0.0/12", Hindrance("private", "local")),
    ("192.0.0.0/24", Hindrance("reserved for protocols", "never")),
    ("192.0.2.0/24", Hindrance("for documentation", "local")),
    ("192.88.99.0/24", Hindrance("reserved for 6to4 relays", "never")),
    ("192.168.0.0/16", Hindrance("private", "local")),
    ("198.18.0.0/15", Hindrance("for benchmarks", "local")),
    ("198.51.100.0/24", Hindrance("for documentation", "local")),
    ("203.0.113.0/24", Hindrance("for documentation", "local")),
    ("224.0.0.0/4", Hindrance("multicast", "never")),
    ("255.255.255.255/32", Hindrance("broadcast", "never")),
    ("240.0.0.0/4", Hindrance("reserved", "never")),
    ("::/128", Hindrance("no address at all", "never")),
    ("::1/128", Hindrance("loopback, of this machine only", "local")),
    ("::/96", _MAPPED),
    ("::ffff:0:0/96", _MAPPED),
    ("::ffff:0:0:0/96", _MAPPED),
    ("64:ff9b::/96", Hindrance("an IPv4 address behind NAT64: give it in its IPv4 form", "never")),
    ("64:ff9b:1::/48", Hindrance("for NAT64 inside a network", "never")),
    ("100::/64", Hindrance("a black hole", "never")),
    ("2001::/32", Hindrance("a Teredo tunnel", "never")),
    ("2001:db8::/32", Hindrance("for documentation", "local")),
    ("2001::/23", Hindrance("reserved for protocols", "never")),
    ("2002::/16", Hindrance("a 6to4 tunnel", "never")),
    ("3fff::/20", Hindrance("for documentation", "local")),
    ("fc00::/7", Hindrance("private (unique local)", "local")),
    ("fe80::/10", Hindrance("link-local", "local")),
    ("fec0::/10", Hindrance("site-local, long given up", "never")),
    ("ff00::/8", Hindrance("multicast", "never")),
)
_NETWORKS: Final[tuple[tuple[_Network, Hindrance], ...]] = tuple(
    (ipaddress.ip_network(text), hindrance) for text, hindrance in _RANGES
)


def hindrance(address: Address) -> Hindrance | None:
    """Say why validators can't reach an address; None for one of the public internet."""
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        return Hindrance("bound to one interface of this machine (%)", "never")
    for network, found in _NETWORKS:
        if address.version == network.version and address in network:
            return found
    if address.version == 6 and address not in _IPV6_UNICAST:  # noqa: PLR2004 - IP's version
        return Hindrance("not of the range that the internet uses", "never")
    return None


def may_post(address: Address, *, allow_local: bool) -> bool:
    """Whether an address may be posted; `allow_local` lets those in that work inside a private network."""
    found = hindrance(address)
    return found is None or (allow_local and found.reach == "local")


def choose(addresses: Sequence[Address], *, posted: Address | None, allow_local: bool) -> Address | None:
    """Take the address to post out of those that a name leads to: the posted one if it is among them, IPv4 first.

    So a name with several addresses, which come in turns, is not posted anew each time.
    """
    good = [address for address in addresses if may_post(address, allow_local=allow_local)]
    if posted is not None and posted in good:
        return posted
    return min(good, key=lambda address: address.version, default=None)
