"""Where a request came from, as limits see it: an IPv4 address, or an IPv6 /64 (one customer's network)."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_V6_CUSTOMER_PREFIX = 64

Network = IPv4Network | IPv6Network


def limit_key(address: str) -> str:
    """The name under which an address is counted: itself for IPv4, its /64 for IPv6.

    An IPv4 address in IPv6 form counts as IPv4. What is no address at all counts as one source, `unknown`.
    """
    if ":" not in address:
        return address or "unknown"
    parsed = _parse(address)
    if parsed is None:
        return "unknown"
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    return str(IPv6Network((int(parsed) >> _V6_CUSTOMER_PREFIX << _V6_CUSTOMER_PREFIX, _V6_CUSTOMER_PREFIX)))


def plain_address(text: str) -> str | None:
    """An address in its one spelling, so that it can be compared; None for what no single machine can have."""
    parsed = _parse(text)
    if parsed is None or parsed.is_unspecified or parsed.is_multicast or parsed.is_reserved:
        return None
    return str(parsed)


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own; False for what is no address."""
    parsed = _parse(address)
    return parsed is not None and parsed.is_loopback


def client_address(peer: str, forwarded_for: str | None, trusted: tuple[Network, ...]) -> str:
    """The address a request came from: the peer, or what trusted proxies say of it.

    `X-Forwarded-For` is read from its end for as long as the hop that wrote it is trusted; from strangers it is
    ignored, since anybody can send it.
    """
    address = peer
    if not trusted or forwarded_for is None:
        return address
    for hop in reversed(forwarded_for.split(",")):
        if not _is_trusted(address, trusted):
            return address
        if _parse(hop.strip()) is None:
            return address
        address = hop.strip()
    return address


def _is_trusted(address: str, trusted: tuple[Network, ...]) -> bool:
    parsed = _parse(address)
    return parsed is not None and any(parsed in network for network in trusted)


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed
