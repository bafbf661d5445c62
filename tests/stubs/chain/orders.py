"""The `dev_...` methods: what a test orders, of the chain's content and of the node's conduct."""

from collections.abc import Callable
from typing import Any

import msgspec

from tests.stubs.chain.behaviour import Behaviour, Stats
from tests.stubs.chain.codec import Value
from tests.stubs.chain.parts import Parts


class Orders:
    """Each takes its arguments by name, or in order where they come as a list."""

    def __init__(self, parts: Parts, new_block: Callable[[], None]) -> None:
        self._parts = parts
        self._new_block = new_block

    def methods(self) -> dict[str, Callable[..., Any]]:
        subtensor = self._parts.subtensor
        return {
            "dev_addSubnet": subtensor.add_subnet,
            "dev_register": self._register,
            "dev_replace": subtensor.replace,
            "dev_neuron": subtensor.change,
            "dev_rateLimit": subtensor.set_rate_limit,
            "dev_set": self._set,
            "dev_newBlock": self._new_blocks,
            "dev_axon": self._axon,
            "dev_behave": self._behave,
            "dev_stats": self._stats,
        }

    def _register(self, netuid: int, hotkey: str, coldkey: str | None = None, **given: Value) -> int:
        uid = self._parts.subtensor.register(netuid, hotkey, coldkey)
        self._parts.subtensor.change(netuid, hotkey, **given)
        return uid

    def _axon(self, netuid: int, hotkey: str) -> Value:
        return self._parts.ledger.get("SubtensorModule", "Axons", [netuid, hotkey])

    def _set(self, pallet: str, item: str, params: list[Any], value: Value) -> bool:
        self._parts.ledger.put(pallet, item, params, value)
        return True

    def _new_blocks(self, count: int = 1) -> int:
        for _ in range(count):
            self._new_block()
        return self._parts.ledger.head.number

    def _behave(self, **behaviour: Value) -> bool:
        self._parts.behaviour = msgspec.convert(behaviour, Behaviour)
        self._parts.stats = Stats()
        return True

    def _stats(self) -> Value:
        stats = self._parts.stats
        stats.block, stats.final = self._parts.ledger.head.number, self._parts.ledger.final.number
        return msgspec.to_builtins(stats)
