"""bittensor's SDK, imported at the top: over a second, so this module is only imported where the chain is used."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, cast, override

import bittensor as bt

_CLOSE_SECONDS = 2.0


class _Substrate(bt.RpcSubstrate):
    """Keeps its connections in reach: the SDK drops one whose start is given up, and leaves its socket open."""

    def __init__(self, node: str) -> None:
        super().__init__(node)
        self.opened: list[Any] = []

    @override
    def _interface(self, endpoint: str, fallbacks: list[str]) -> Any:
        connection = cast("Any", super())._interface(endpoint, fallbacks)  # noqa: SLF001 - the SDK's own hook, see above
        self.opened.append(connection)
        return connection


@contextlib.asynccontextmanager
async def connected(node: str) -> AsyncGenerator[bt.Client]:
    """A client connected to this very node, and to no other."""
    substrate = _Substrate(node)
    try:
        yield await bt.Client(node, substrate=cast("Any", substrate)).connect()
    finally:
        for connection in substrate.opened:
            # A node that hangs would hold up even the good-bye.
            with contextlib.suppress(TimeoutError, OSError):
                await asyncio.wait_for(connection.close(), _CLOSE_SECONDS)
