"""Where validators can find this miner: the address given, the name's, or this machine's own public one."""

import asyncio
import fcntl
import ipaddress
import re
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from app.domain.metagraph import Axon
from app.domain.public_address import Address, choose, hindrance, may_post
from app.errors import ChainError
from app.settings_model import Settings

_LABEL: Final = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)*[a-z][a-z0-9-]{{0,62}}\.?", re.IGNORECASE)
_RESOLVE_SECONDS: Final = 10.0
_INTERFACES_V6: Final = Path("/proc/net/if_inet6")
_GET_INTERFACE_ADDRESS: Final = 0x8915
_GLOBAL_SCOPE: Final = 0
_TEMPORARY_OR_UNUSABLE: Final = 0x01 | 0x08 | 0x20 | 0x40
"""if_inet6's flags: temporary (privacy), failed, deprecated, still tentative."""
_ELSEWHERE: Final = (
    (socket.AF_INET, "192.0.2.1"),
    (socket.AF_INET6, "2001:db8::1"),
)
"""Addresses far away, of documentation: routes to them are looked up, and nothing is sent."""


class Endpoint:
    """What the operator said of the miner's address; `allow_local` is for private networks."""

    def __init__(self, settings: Settings, *, address: str | None, port: int | None, allow_local: bool) -> None:
        self._given = settings.external_address if address is None else address
        self._port = port or settings.external_port or settings.api_port
        self._allow_local = allow_local

    def check(self) -> None:
        """See to what needs no network. Errors: `ChainError` (`not_public`, `bad_address`)."""
        if self._given is None:
            return
        address = _literal(self._given)
        if address is None and not _NAME.fullmatch(self._given):
            raise ChainError(
                f"{self._given[:100]!r} is neither an IP address nor a host name",
                remedy="give the address alone, as 8.8.4.4, 2001:4860:4860::8844 or miner.example.com; the port apart",
                code="bad_address",
            )
        if address is not None and not may_post(address, allow_local=self._allow_local):
            raise _not_public(self._given, [address], allow_local=self._allow_local)

    async def find(self, posted: Axon | None) -> Axon:
        """Give the endpoint to post; of a name's several addresses the posted one stays.

        Errors: `ChainError` (`not_public`, `bad_address`, `no_address`, `dns`).
        """
        self.check()
        if self._given is None:
            return Axon(str(self._own()), self._port)
        address = _literal(self._given) or await self._resolve(self._given, posted)
        return Axon(str(address), self._port)

    async def _resolve(self, name: str, posted: Axon | None) -> Address:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_RESOLVE_SECONDS):
                found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a time-out is an OSError too
            why = str(error) or f"no answer within {_RESOLVE_SECONDS:g} s"
            raise ChainError(
                f"the name {name} leads to no address ({why})",
                remedy="correct the name or its DNS entry, or give the IP address",
                code="dns",
            ) from None
        addresses = list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))
        chosen = choose(addresses, posted=_literal(posted.ip) if posted else None, allow_local=self._allow_local)
        if chosen is None:
            raise _not_public(name, addresses, allow_local=self._allow_local)
        return chosen

    def _own(self) -> Address:
        own = list(own_addresses())
        public = [address for address in own if hindrance(address) is None]
        ways_out = [address for address in public if address in set(_ways_out())]
        candidates = ways_out or public
        first = min((address.version for address in candidates), default=0)
        best = [address for address in candidates if address.version == first]
        if len(best) == 1:
            return best[0]
        if best:
            raise ChainError(
                f"this machine has several public addresses ({', '.join(map(str, best))})",
                remedy="name the miner's in EXTERNAL_ADDRESS or with --address",
                code="no_address",
            )
        raise ChainError(
            "this machine has no public address of its own, so it can't be told what to post",
            remedy="name the address that leads here from outside in EXTERNAL_ADDRESS or with --address",
            code="no_address",
        )


def own_addresses() -> Iterable[Address]:
    """Give the addresses of this machine's interfaces; temporary IPv6 ones are left out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                raw = fcntl.ioctl(probe, _GET_INTERFACE_ADDRESS, struct.pack("256s", name.encode()))
            except OSError:  # an interface without an IPv4 address
                continue
            yield ipaddress.IPv4Address(raw[20:24])
    try:
        lines = _INTERFACES_V6.read_text(encoding="ascii").splitlines()
    except OSError:  # a machine without IPv6
        return
    for line in lines:
        digits, _, _, scope, flags, _ = line.split()
        if int(scope, 16) == _GLOBAL_SCOPE and not int(flags, 16) & _TEMPORARY_OR_UNUSABLE:
            yield ipaddress.IPv6Address(int(digits, 16))


def _ways_out() -> Iterable[Address]:
    """Give the addresses that packets to the internet leave by."""
    for family, far in _ELSEWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                yield ipaddress.ip_address(probe.getsockname()[0])
        except OSError:  # no route
            continue


def _literal(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]") if text.startswith("[") else text)
    except ValueError:
        return None


def _not_public(given: str, addresses: list[Address], *, allow_local: bool) -> ChainError:
    found = [(address, hindrance(address)) for address in addresses]
    whys = "; ".join(f"{address} is {why.why}" for address, why in found if why is not None)
    name = f"{given} leads nowhere public: " if _literal(given) is None else ""
    local = not allow_local and any(why is not None and why.reach == "local" for _, why in found)
    return ChainError(
        f"{name}{whys}",
        remedy="give the address that validators on the internet can reach"
        + (" (--allow-private is for local test networks)" if local else ""),
        code="not_public",
    )
