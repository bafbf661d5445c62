"""The pallet: neurons, the metagraph, and what `serve_axon` checks and does."""

import ipaddress
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tests.stubs.chain.codec import Value, ss58
from tests.stubs.chain.ledger import Ledger, hash_of

PALLET: Final = "SubtensorModule"
RAO: Final = 10**9
SHARE: Final = 65535
CUSTOM_ERRORS: Final[dict[str, int]] = {
    "HotKeyNotRegisteredInNetwork": 10,
    "InvalidIpAddress": 11,
    "ServingRateLimitExceeded": 12,
    "InvalidPort": 13,
    "InvalidIpType": 255,
}
NO_AXON: Final[dict[str, int]] = dict.fromkeys(
    ("block", "version", "ip", "port", "ip_type", "protocol", "placeholder1", "placeholder2"), 0
)


class Figures(msgspec.Struct):
    """What the chain computes of a neuron, and tests just set."""

    stake: float = 0.0
    incentive: float = 0.0
    last_update: int = 0


class Subtensor:
    """The pallet's part of the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._figures: dict[tuple[int, str], Figures] = {}

    def add_subnet(self, netuid: int) -> None:
        self._put("NetworksAdded", [netuid], value=True)

    def set_rate_limit(self, netuid: int, blocks: int) -> None:
        self._put("ServingRateLimit", [netuid], value=blocks)

    def register(self, netuid: int, hotkey: str, coldkey: str | None = None) -> int:
        """Give the hotkey the next UID."""
        uid = self._get("SubnetworkN", [netuid]) or 0
        self.add_subnet(netuid)
        self._put("SubnetworkN", [netuid], value=uid + 1)
        self._put("ValidatorPermit", [netuid], value=[*self._permits(netuid), False])
        self._enter(netuid, uid, hotkey, coldkey)
        return uid

    def replace(self, netuid: int, uid: int, hotkey: str, coldkey: str | None = None) -> None:
        """Give the UID to another hotkey; the one that had it loses its axon with it."""
        old = self._get("Keys", [netuid, uid])
        for item, params in (("Uids", [netuid, old]), ("IsNetworkMember", [old, netuid]), ("Axons", [netuid, old])):
            self._ledger.remove(PALLET, item, params)
        self._figures.pop((netuid, old), None)
        self._permit(netuid, uid, permit=False)
        self._enter(netuid, uid, hotkey, coldkey)

    def change(
        self,
        netuid: int,
        hotkey: str,
        *,
        permit: bool | None = None,
        axon: str | None = None,
        axon_block: int = 1,
        **figures: Value,
    ) -> None:
        """Set what is told of a neuron; an empty axon takes it away."""
        uid = self._get("Uids", [netuid, hotkey])
        if uid is None:
            raise ValueError(f"{hotkey} is not registered on {netuid}")
        if permit is not None:
            self._permit(netuid, uid, permit=permit)
        if axon is not None:
            self._set_axon(netuid, hotkey, axon, axon_block)
        present = self._figures.setdefault((netuid, hotkey), Figures())
        self._figures[netuid, hotkey] = msgspec.structs.replace(present, **figures)

    def refusal(self, who: str, call: dict[str, Any]) -> str | None:
        """Name what `validate_serve_axon` finds first, in its order; None when it lets the call pass."""
        netuid, kind, ip = call["netuid"], call["ip_type"], call["ip"]
        if not self._get("IsNetworkMember", [who, netuid]):
            return "HotKeyNotRegisteredInNetwork"
        if kind not in (4, 6):
            return "InvalidIpType"
        if kind == 4 and (ip >= 2**32 - 1 or ip == int(ipaddress.IPv4Address("127.0.0.1"))):
            return "InvalidIpAddress"
        if kind == 6 and ip in (2**128 - 1, 1):
            return "InvalidIpAddress"
        limit = self._get("ServingRateLimit", [netuid])
        last = (self._get("Axons", [netuid, who]) or NO_AXON)["block"]
        if limit and last and self._ledger.head.number + 1 - last < limit:
            return "ServingRateLimitExceeded"
        return "InvalidPort" if call["port"] == 0 else None

    def serve_axon(self, who: str, call: dict[str, Any], block: int) -> dict[str, Any]:
        """Store the endpoint; gives the event."""
        netuid = call["netuid"]
        axon = {name: call[name] for name in NO_AXON if name != "block"}
        self._put("Axons", [netuid, who], value={"block": block, **axon})
        return {PALLET: {"AxonServed": (netuid, who)}}

    def metagraph(self, netuid: int, block: int) -> bytes:
        """What the runtime call `get_metagraph` answers."""
        codec = self._ledger.codec
        kind = codec.output("SubnetInfoRuntimeApi", "get_metagraph")
        if not self._get("NetworksAdded", [netuid]):
            return codec.encode(kind, None)
        graph = codec.zero_of_option(kind)
        rows = list(self._rows(netuid))
        count = len(rows)
        graph |= {
            "netuid": netuid,
            "block": block,
            "tempo": 360,
            "num_uids": count,
            "max_uids": 256,
            "name": list(b"stub"),
            "symbol": list("β".encode()),
            "serving_rate_limit": self._get("ServingRateLimit", [netuid]),
            "identities": [None] * count,
            "active": [True] * count,
        }
        zeros = ("pruning_score", "emission", "dividends", "consensus", "trust", "rank", "block_at_registration")
        graph |= {name: [0] * count for name in zeros}
        columns = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
        return codec.encode(kind, graph | columns)

    def _rows(self, netuid: int) -> Iterator[dict[str, Any]]:
        permits = self._permits(netuid)
        for uid in range(self._get("SubnetworkN", [netuid]) or 0):
            hotkey = self._get("Keys", [netuid, uid])
            figures = self._figures.get((netuid, hotkey), Figures())
            rao = round(figures.stake * RAO)
            yield {
                "hotkeys": hotkey,
                "coldkeys": self._get("Owner", [hotkey]),
                "validator_permit": permits[uid],
                "axons": self._get("Axons", [netuid, hotkey]) or NO_AXON,
                "incentives": round(figures.incentive * SHARE),
                "last_update": figures.last_update,
                "total_stake": rao,
                "alpha_stake": rao,
                "tao_stake": 0,
            }

    def _enter(self, netuid: int, uid: int, hotkey: str, coldkey: str | None) -> None:
        owner = coldkey or ss58(bytes.fromhex(hash_of(b"coldkey" + hotkey.encode())[2:]))
        self._put("Keys", [netuid, uid], value=hotkey)
        self._put("Uids", [netuid, hotkey], value=uid)
        self._put("IsNetworkMember", [hotkey, netuid], value=True)
        self._put("Owner", [hotkey], value=owner)

    def _permits(self, netuid: int) -> list[bool]:
        return list(self._get("ValidatorPermit", [netuid]) or [])

    def _permit(self, netuid: int, uid: int, *, permit: bool) -> None:
        permits = self._permits(netuid)
        permits[uid] = permit
        self._put("ValidatorPermit", [netuid], value=permits)

    def _set_axon(self, netuid: int, hotkey: str, axon: str, block: int) -> None:
        if not axon:
            self._ledger.remove(PALLET, "Axons", [netuid, hotkey])
            return
        host, _, port = axon.rpartition(":")
        address = ipaddress.ip_address(host.strip("[]"))
        posted = {"ip": int(address), "port": int(port), "ip_type": address.version, "protocol": 4, "version": 1}
        self._put("Axons", [netuid, hotkey], value={**NO_AXON, **posted, "block": block})

    def _put(self, item: str, params: list[Any], *, value: Value) -> None:
        self._ledger.put(PALLET, item, params, value)

    def _get(self, item: str, params: list[Any]) -> Value:
        return self._ledger.get(PALLET, item, params)
