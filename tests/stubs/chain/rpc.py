"""The node's JSON-RPC methods, by their names."""

import itertools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from tests.stubs.chain.codec import Value, ss58, to_hex, unhex
from tests.stubs.chain.extrinsics import RpcError
from tests.stubs.chain.ledger import Block
from tests.stubs.chain.parts import Parts

type Method = Callable[..., Any]


class Peer(Protocol):
    """The connection that asked."""

    async def notify(self, method: str, subscription: str, result: Value) -> None:
        """Push one update of a subscription."""
        ...

    async def hang_up(self) -> None:
        """Close the connection."""
        ...


class Subscriptions:
    """Who wants to hear of new blocks."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._heads: dict[str, tuple[Peer, str]] = {}

    def name(self) -> str:
        return f"s{next(self._numbers)}"

    def add(self, peer: Peer, method: str) -> str:
        name = self.name()
        self._heads[name] = (peer, method)
        return name

    def drop(self, peer: Peer) -> None:
        self._heads = {name: entry for name, entry in self._heads.items() if entry[0] is not peer}

    def cancel(self, name: str) -> bool:
        return self._heads.pop(name, None) is not None

    async def tell(self, method: str, block: Block) -> None:
        for name, (peer, wanted) in list(self._heads.items()):
            if wanted == method:
                await peer.notify(method, name, block.header())


class Rpc:
    """What a node answers."""

    def __init__(self, parts: Parts, subscriptions: Subscriptions) -> None:
        self._parts = parts
        self._ledger = parts.ledger
        self._codec = parts.ledger.codec
        self._subscriptions = subscriptions
        self._state_calls: dict[str, Callable[[bytes, Block], bytes]] = {
            "Metadata_metadata_at_version": self._metadata_at_version,
            "Metadata_metadata_versions": lambda _data, _block: (
                b"\x08" + b"".join(version.to_bytes(4, "little") for version in (14, 15))
            ),
            "AccountNonceApi_account_nonce": lambda data, _block: parts.pool.next_nonce(ss58(data)).to_bytes(
                4, "little"
            ),
            "TransactionPaymentApi_query_info": self._query_info,
            "SubnetInfoRuntimeApi_get_metagraph": lambda data, block: parts.subtensor.metagraph(
                int.from_bytes(data[:2], "little"), block.number
            ),
        }

    def methods(self) -> dict[str, Method]:
        """Methods that answer without waiting; each takes the request's parameters."""
        return {
            "system_chain": lambda: "Bittensor",
            "system_name": lambda: "Subtensor Node",
            "system_version": lambda: "stand-in",
            "system_chainType": lambda: "Local",
            "system_properties": lambda: {"ss58Format": 42, "tokenDecimals": 9, "tokenSymbol": "TAO"},
            "system_health": lambda: {"peers": 0, "isSyncing": False, "shouldHavePeers": False},
            "rpc_methods": lambda: {"methods": sorted([*self.methods(), *self.watching()])},
            "chain_getBlockHash": self._block_hash,
            "chain_getHead": lambda: self._ledger.head.hash,
            "chain_getFinalizedHead": lambda: self._ledger.final.hash,
            "chain_getFinalisedHead": lambda: self._ledger.final.hash,
            "chain_getHeader": self._header,
            "chain_getBlock": self._whole_block,
            "chain_getRuntimeVersion": self._runtime_version,
            "state_getRuntimeVersion": self._runtime_version,
            "state_getMetadata": self._metadata,
            "state_getStorage": self._storage,
            "state_getStorageAt": self._storage,
            "state_queryStorageAt": self._query_storage,
            "state_getKeysPaged": self._keys_paged,
            "state_call": self._state_call,
            "account_nextIndex": self._parts.pool.next_nonce,
            "system_accountNextIndex": self._parts.pool.next_nonce,
            "author_submitExtrinsic": self._submit,
            "author_unwatchExtrinsic": self._subscriptions.cancel,
            "chain_unsubscribeNewHeads": self._subscriptions.cancel,
            "chain_unsubscribeFinalizedHeads": self._subscriptions.cancel,
        }

    def watching(self) -> dict[str, Callable[..., Awaitable[str]]]:
        """Methods that go on telling; each takes the connection, then the request's parameters."""
        return {
            "author_submitAndWatchExtrinsic": self._submit_and_watch,
            "chain_subscribeNewHeads": self._subscribe_heads,
            "chain_subscribeFinalizedHeads": self._subscribe_final,
        }

    def _block(self, name: str | None) -> Block | None:
        return self._ledger.head if name is None else self._ledger.by_hash.get(name)

    def _state(self, name: str | None) -> dict[bytes, bytes]:
        block = self._block(name)
        if block is None:
            raise RpcError(-32000, "Client error: UnknownBlock: Header was not found in the database")
        if block is self._ledger.head:
            return self._ledger.state
        if block.state is None:
            raise RpcError(4003, f"Client error: UnknownBlock: State already discarded for {block.hash}")
        return block.state

    def _block_hash(self, number: int | str | None = None) -> str | None:
        if number is None:
            return self._ledger.head.hash
        block = self._ledger.by_number.get(int(number, 16) if isinstance(number, str) else number)
        return block and block.hash

    def _header(self, name: str | None = None) -> dict[str, Any] | None:
        block = self._block(name)
        return block and block.header()

    def _metadata(self, _at: str | None = None) -> str:
        return self._codec.v14_hex

    def _whole_block(self, name: str | None = None) -> Value:
        block = self._block(name)
        if block is None:
            return None
        content = {"header": block.header(), "extrinsics": [to_hex(one) for one in block.extrinsics]}
        return {"block": content, "justifications": None}

    def _runtime_version(self, _at: str | None = None) -> dict[str, Any]:
        network = self._codec.network
        return {
            "specName": "node-subtensor",
            "implName": "node-subtensor",
            "authoringVersion": 1,
            "specVersion": network.spec_version,
            "implVersion": 1,
            "apis": [["0xdf6acb689907609b", 5], ["0x37e397fc7c91f5e4", 2]],
            "transactionVersion": network.transaction_version,
            "stateVersion": 1,
            "systemVersion": 1,
        }

    def _storage(self, key: str, at: str | None = None) -> str | None:
        value = self._state(at).get(unhex(key))
        return None if value is None else to_hex(value)

    def _query_storage(self, keys: list[str], at: str | None = None) -> Value:
        block = self._block(at)
        changes = [[key, self._storage(key, at)] for key in keys]
        return [{"block": block and block.hash, "changes": changes}]

    def _keys_paged(self, prefix: str, count: int, start: str | None = None, at: str | None = None) -> list[str]:
        first = unhex(start) if start and start != prefix else b""
        wanted = unhex(prefix)
        keys = sorted(key for key in self._state(at) if key.startswith(wanted) and key > first)
        return [to_hex(key) for key in keys[:count]]

    def _state_call(self, method: str, data: str = "", at: str | None = None) -> str:
        call = self._state_calls.get(method)
        block = self._block(at)
        if call is None or block is None:
            raise RpcError(-32000, f"Client error: Execution failed: Exported method {method} is not found")
        return to_hex(call(unhex(data), block))

    def _metadata_at_version(self, data: bytes, _block: Block) -> bytes:
        return self._codec.v15_option if int.from_bytes(data[:4], "little") == 15 else b"\0"

    def _query_info(self, _data: bytes, _block: Block) -> bytes:
        info = {"weight": {"ref_time": 1, "proof_size": 1}, "class": "Normal", "partial_fee": 0}
        return self._codec.encode(self._codec.output("TransactionPaymentApi", "query_info"), info)

    def _submit(self, raw: str) -> str:
        extrinsic = self._parts.checker.check(unhex(raw))
        self._parts.pool.take(extrinsic)
        self._parts.stats.submitted += 1
        return extrinsic.hash

    async def _submit_and_watch(self, peer: Peer, raw: str) -> str:
        extrinsic = self._parts.checker.check(unhex(raw))
        name = self._subscriptions.name()

        async def tell(status: str, value: Value) -> None:
            if status == self._parts.behaviour.close_at:
                await peer.hang_up()
                return
            await peer.notify("author_extrinsicUpdate", name, status if value is None else {status: value})

        self._parts.pool.take(extrinsic, tell)
        self._parts.stats.submitted += 1
        return name

    async def _subscribe_heads(self, peer: Peer) -> str:
        return self._subscriptions.add(peer, "chain_newHead")

    async def _subscribe_final(self, peer: Peer) -> str:
        return self._subscriptions.add(peer, "chain_finalizedHead")
