"""From the engine's thread to one reader on the event loop."""

import asyncio
import threading

from app.backends.llama_local.order import Piece


class Mailbox:
    """Pieces of one answer. The loop is woken once for all pieces that come before it looks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._pieces: list[Piece] = []
        self._arrived = asyncio.Event()

    def put(self, piece: Piece) -> None:
        """Called in the engine's thread."""
        with self._lock:
            self._pieces.append(piece)
            first = len(self._pieces) == 1
        if first:
            try:
                self._loop.call_soon_threadsafe(self._arrived.set)
            except RuntimeError:  # the loop is closed: nobody reads any more
                return

    async def take(self) -> list[Piece]:
        """Wait for the next pieces; all that have come."""
        await self._arrived.wait()
        self._arrived.clear()
        with self._lock:
            pieces, self._pieces = self._pieces, []
        return pieces
