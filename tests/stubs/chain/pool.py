"""Extrinsics on their way: taken, put into blocks, final; and those who watch them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.stubs.chain.behaviour import Behaviour
from tests.stubs.chain.codec import Value
from tests.stubs.chain.extrinsics import Extrinsic, RpcError
from tests.stubs.chain.ledger import Block, Ledger, dispatched, event
from tests.stubs.chain.subtensor import Subtensor

type Watcher = Callable[[str, Any], Awaitable[None]]


class Pool:
    """What waits for the next block, and what waits for finality."""

    def __init__(self, ledger: Ledger, subtensor: Subtensor) -> None:
        self._ledger = ledger
        self._subtensor = subtensor
        self._waiting: list[Extrinsic] = []
        self._included: dict[str, list[Extrinsic]] = {}
        self._watchers: dict[str, Watcher] = {}
        self._known: set[str] = set()
        self._telling: set[asyncio.Task[None]] = set()

    def take(self, extrinsic: Extrinsic, watcher: Watcher | None = None) -> None:
        """Take one that was checked."""
        if extrinsic.hash in self._known:
            raise RpcError(1013, "Transaction is already imported", "Already Imported")
        self._known.add(extrinsic.hash)
        self._waiting.append(extrinsic)
        if watcher is not None:
            self._watchers[extrinsic.hash] = watcher
            self._tell(extrinsic, "ready")

    def next_nonce(self, who: str) -> int:
        stored = self._ledger.get("System", "Account", [who])["nonce"]
        return int(stored) + sum(extrinsic.who == who for extrinsic in self._waiting)

    def build_block(self, behaviour: Behaviour) -> Block:
        """Put what waits into the next block."""
        number = self._ledger.head.number + 1
        chosen, self._waiting = self._waiting, []
        if behaviour.end_watch:
            for extrinsic in chosen:
                self._tell(extrinsic, behaviour.end_watch)
            chosen = []
        events: list[Any] = []
        for index, extrinsic in enumerate(chosen, 1):
            events += self._apply(index, extrinsic, number, behaviour.fail_dispatch)
            if behaviour.overwrite_axon:
                netuid: int = extrinsic.call["netuid"]
                self._subtensor.change(netuid, extrinsic.who, axon=behaviour.overwrite_axon, axon_block=number)
        block = self._ledger.seal(number, [extrinsic.raw for extrinsic in chosen], events)
        self._included[block.hash] = chosen
        for extrinsic in chosen:
            self._tell(extrinsic, "inBlock", block.hash)
        return block

    def finalized(self, block: Block) -> None:
        for extrinsic in self._included.pop(block.hash, ()):
            self._tell(extrinsic, "finalized", block.hash)

    def _apply(self, index: int, extrinsic: Extrinsic, number: int, failure: Value) -> list[Any]:
        account = self._ledger.get("System", "Account", [extrinsic.who])
        self._ledger.put("System", "Account", [extrinsic.who], {**account, "nonce": account["nonce"] + 1})
        fee = {"TransactionPayment": {"TransactionFeePaid": {"who": extrinsic.who, "actual_fee": 0, "tip": 0}}}
        if failure is not None:
            return [event(index, fee), dispatched(index, failure)]
        served = self._subtensor.serve_axon(extrinsic.who, extrinsic.call, number)
        return [event(index, served), event(index, fee), dispatched(index)]

    def _tell(self, extrinsic: Extrinsic, status: str, value: Value = None) -> None:
        watcher = self._watchers.get(extrinsic.hash)
        if watcher is None:
            return

        async def tell() -> None:
            await watcher(status, value)

        task = asyncio.create_task(tell())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
