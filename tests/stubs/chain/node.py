"""The node: its websocket, its clock of blocks, and the orders on its standard input."""

import asyncio
import contextlib
import os
import sys
from http import HTTPStatus
from typing import Any, Final

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.stubs.chain.codec import Codec, Value
from tests.stubs.chain.extrinsics import Checker, RpcError
from tests.stubs.chain.ledger import Ledger
from tests.stubs.chain.orders import Orders
from tests.stubs.chain.parts import Parts
from tests.stubs.chain.pool import Pool
from tests.stubs.chain.rpc import Rpc, Subscriptions
from tests.stubs.chain.subtensor import Subtensor

MOST_BYTES: Final = 64 * 1024 * 1024


class Connection:
    """One client's websocket."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket

    async def notify(self, method: str, subscription: str, result: Value) -> None:
        update = {"jsonrpc": "2.0", "method": method, "params": {"subscription": subscription, "result": result}}
        await self.send(update)

    async def send(self, message: Value) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._socket.send(msgspec.json.encode(message).decode())

    async def hang_up(self) -> None:
        """Without a word, as a dying node does."""
        self._socket.transport.abort()


class Node:
    """Everything, put together."""

    def __init__(self, codec: Codec, *, network: str, block_ms: float, first_block: int, finality_blocks: int) -> None:
        ledger = Ledger(codec, network=network, first_block=first_block, finality_blocks=finality_blocks)
        subtensor = Subtensor(ledger)
        self.parts = Parts(ledger, subtensor, Checker(ledger, subtensor), Pool(ledger, subtensor))
        self._block_seconds = block_ms / 1000
        self._subscriptions = Subscriptions()
        self._new: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        rpc = Rpc(self.parts, self._subscriptions)
        self._watching = rpc.watching()
        self._orders = Orders(self.parts, self.new_block).methods()
        self._methods = rpc.methods() | self._orders

    def new_block(self) -> None:
        """Build a block, and let finality follow unless it is stalled."""
        block = self.parts.pool.build_block(self.parts.behaviour)
        self._new.put_nowait(("chain_newHead", block))
        if self.parts.behaviour.stall_finality:
            return
        for final in self.parts.ledger.finalize():
            self.parts.pool.finalized(final)
            self._new.put_nowait(("chain_finalizedHead", final))

    async def run(self, host: str, port: int) -> None:
        """Serve until the input closes."""
        async with (
            serve(
                self._serve, host, port, max_size=MOST_BYTES, process_request=self._greet, compression=None
            ) as server,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._keep_time())
            tasks.create_task(self._tell_heads())
            taken = next(iter(server.sockets)).getsockname()[1]
            _say({"port": taken, "genesis": self.parts.ledger.genesis.hash})
            await self._take_orders()
            os._exit(0)  # whatever hangs: connections that a test left unanswered, above all

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(self._block_seconds)
            if not self.parts.behaviour.stall_head:
                self.new_block()

    async def _tell_heads(self) -> None:
        while True:
            method, block = await self._new.get()
            await self._subscriptions.tell(method, block)

    async def _take_orders(self) -> None:
        reader = asyncio.StreamReader(limit=MOST_BYTES)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            order = msgspec.json.decode(line)
            try:
                _say({"result": _call(self._orders[order["method"]], order.get("params") or [])})
            except (ValueError, TypeError, KeyError) as error:
                _say({"error": f"{type(error).__name__}: {error}"})

    async def _greet(self, _socket: ServerConnection, _request: Request) -> Response | None:
        self.parts.stats.connections += 1
        behaviour = self.parts.behaviour
        if not behaviour.handshake:
            await asyncio.Event().wait()
        if behaviour.http_status:
            return _socket.respond(HTTPStatus(behaviour.http_status), "no\n")
        return None

    async def _serve(self, socket: ServerConnection) -> None:
        connection = Connection(socket)
        try:
            async for message in socket:
                await self._answer(connection, socket, message)
        except ConnectionClosed:
            pass
        finally:
            self._subscriptions.drop(connection)

    async def _answer(self, connection: Connection, socket: ServerConnection, message: str | bytes) -> None:
        single = message[:1] in {"{", b"{"}
        text = message.decode() if isinstance(message, bytes) else message
        batch = msgspec.json.decode(f"[{text}]" if single else text, type=list[dict[str, Any]])
        answers: list[dict[str, Any]] = []
        for request in batch:
            answer = await self._one(connection, request)
            if answer is None:
                return
            answers.append(answer)
        if self.parts.behaviour.rubbish:
            with contextlib.suppress(ConnectionClosed):
                await socket.send("<html>not JSON</html>")
            return
        await connection.send(answers[0] if single else answers)

    async def _one(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to one request; None where there is none to give."""
        behaviour, method = self.parts.behaviour, request["method"]
        seen = self.parts.stats.methods
        seen[method] = seen.get(method, 0) + 1
        frame = {"jsonrpc": "2.0", "id": request.get("id")}
        if behaviour.slow_ms:
            await asyncio.sleep(behaviour.slow_ms / 1000)
        if behaviour.silent:
            return None
        if method == behaviour.close_before:
            await connection.hang_up()
            return None
        outcome = await self._outcome(connection, method, request.get("params") or [])
        if method == behaviour.close_after:
            await connection.hang_up()
            return None
        return frame | outcome

    async def _outcome(self, connection: Connection, method: str, params: Value) -> dict[str, Any]:
        forced = self.parts.behaviour.rpc_errors.get(method)
        if forced is not None:
            return {"error": forced}
        try:
            return {"result": await self._do(connection, method, params)}
        except RpcError as error:
            return {"error": error.body}
        except (ValueError, TypeError, KeyError) as error:
            return {"error": {"code": -32603, "message": f"{type(error).__name__}: {error}"}}

    async def _do(self, connection: Connection, method: str, params: Value) -> Value:
        if method in self._watching:
            return await self._watching[method](connection, *params)
        if method not in self._methods:
            raise RpcError(-32601, f"Method not found: {method}")
        return _call(self._methods[method], params)


def _call(method: Value, params: Value) -> Value:
    return method(**params) if isinstance(params, dict) else method(*params)


def _say(message: Value) -> None:
    sys.stdout.write(msgspec.json.encode(message).decode() + "\n")
    sys.stdout.flush()
