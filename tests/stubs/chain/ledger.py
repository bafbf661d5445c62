"""Storage, blocks and finality."""

import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec

from tests.stubs.chain.codec import Codec, Value, to_hex, unhex

KEPT_STATES: Final = 256
"""Blocks whose state is kept, as pruning nodes do."""


def hash_of(data: bytes) -> str:
    return to_hex(blake2b(data, digest_size=32).digest())


class Block(msgspec.Struct):
    """One block; its state is dropped when it is old."""

    number: int
    hash: str
    parent: str
    extrinsics: list[bytes]
    state: dict[bytes, bytes] | None

    def header(self) -> dict[str, Any]:
        nothing = to_hex(bytes(32))
        return {
            "parentHash": self.parent,
            "number": hex(self.number),
            "stateRoot": nothing,
            "extrinsicsRoot": nothing,
            "digest": {"logs": []},
        }


class Ledger:
    """The chain itself: what is stored at its head, its blocks, and which of them are final."""

    def __init__(self, codec: Codec, *, network: str, first_block: int, finality_blocks: int) -> None:
        self.codec: Final = codec
        self._finality_blocks: Final = finality_blocks
        self.state: dict[bytes, bytes] = {}
        self.by_number: Final[dict[int, Block]] = {}
        self.by_hash: Final[dict[str, Block]] = {}
        self.genesis: Final = self._append(0, network.encode(), to_hex(bytes(32)), [])
        self.head: Block = self.genesis
        self.final: Block = self.genesis
        self.seal(first_block - 1, [], [])
        self.final = self.head

    def put(self, pallet: str, item: str, params: Sequence[Any], value: Value) -> None:
        kind = self.codec.runtime.storage_entry(pallet, item).value_type
        self.state[self._key(pallet, item, params)] = self.codec.encode(kind, value)

    def remove(self, pallet: str, item: str, params: Sequence[Any]) -> None:
        self.state.pop(self._key(pallet, item, params), None)

    def get(self, pallet: str, item: str, params: Sequence[Any] = ()) -> Value:
        """The value at the head; the declared default, or None, where there is none."""
        entry = self.codec.runtime.storage_entry(pallet, item)
        raw = self.state.get(self._key(pallet, item, params))
        if raw is None:
            if entry.modifier == "Optional":
                return None
            raw = bytes(entry.default_bytes)
        return self.codec.runtime.decode(entry.value_type, raw, True)  # noqa: FBT003 - the library's own

    def seal(self, number: int, extrinsics: list[bytes], events: list[Any]) -> Block:
        """Make a block of what the head's storage now holds."""
        now = int(time.time() * 1000)
        self.put("System", "Number", [], number)
        self.put("Timestamp", "Now", [], now)
        self.put("System", "Events", [], [dispatched(0), *events])
        inherent = b"\x04" + bytes(self.codec.runtime.compose_call("Timestamp", "set", {"now": now}))
        whole = [self.codec.encode("Compact", len(inherent)) + inherent, *extrinsics]
        parent = self.head.hash
        self.head = self._append(number, b"".join(whole), parent, whole)
        old = self.by_number.get(number - KEPT_STATES)
        if old is not None:
            old.state = None
        return self.head

    def finalize(self) -> list[Block]:
        """Let finality follow the head; gives the blocks that are final now."""
        reached = [
            self.by_number[number]
            for number in range(self.final.number + 1, self.head.number - self._finality_blocks + 1)
        ]
        if reached:
            self.final = reached[-1]
        return reached

    def _key(self, pallet: str, item: str, params: Sequence[Any]) -> bytes:
        return bytes(self.codec.runtime.storage_key(pallet, item, list(params)))

    def _append(self, number: int, content: bytes, parent: str, extrinsics: list[bytes]) -> Block:
        name = hash_of(b"block" + number.to_bytes(8, "little") + unhex(parent) + content)
        block = Block(number, name, parent, extrinsics, dict(self.state))
        self.by_number[number] = self.by_hash[name] = block
        return block


def dispatched(index: int, error: Value = None) -> dict[str, Any]:
    """The event that closes an extrinsic."""
    info = {"weight": {"ref_time": 1, "proof_size": 1}, "class": "Normal", "pays_fee": "No"}
    if error is None:
        outcome = {"ExtrinsicSuccess": {"dispatch_info": info}}
    else:
        outcome = {"ExtrinsicFailed": {"dispatch_error": error, "dispatch_info": info}}
    return event(index, {"System": outcome})


def event(index: int, content: dict[str, Any]) -> dict[str, Any]:
    return {"phase": {"ApplyExtrinsic": index}, "event": content, "topics": []}
