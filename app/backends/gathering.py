"""Letting a stream's pieces gather: to wake for each token costs more than everything else about an answer."""

import asyncio
import time
from typing import Final

import aiohttp

_SHARE: Final = 1 / 8
_LEAST_SECONDS: Final = 0.01
_MOST_SECONDS: Final = 0.1
_LEAST_PIECES: Final = 3


class Gathering:
    """Pauses between two reads of one answer.

    A pause is an eighth of the time since the first piece, and 10 to 100 ms: a long answer comes 0.1 s later at most,
    a short one by little. The kernel holds meanwhile what the engine writes, and gives it all at once. Without several
    pieces to come in that time there is no pause: it would cost more than it saves. None goes beyond `until` (monotonic
    seconds), from when on somebody looks for the end of a sentence.
    """

    def __init__(self, response: aiohttp.ClientResponse, until: float) -> None:
        self._response = response
        self._until = until
        self._began = time.monotonic()

    def seconds(self, pieces: int) -> float:
        """How long to pause, 0 for not at all; `pieces` came so far."""
        now = time.monotonic()
        elapsed = now - self._began
        seconds = min(_MOST_SECONDS, max(_LEAST_SECONDS, elapsed * _SHARE))
        worth = seconds * pieces >= elapsed * _LEAST_PIECES and now + seconds <= self._until
        return seconds if worth else 0.0

    async def pause(self, seconds: float) -> None:
        """Leave the engine's connection alone for so long; comes back at once when the answer has been read."""
        connection = self._response.connection
        transport = None if connection is None else connection.transport
        if transport is None or transport.is_closing():
            return
        transport.pause_reading()
        try:
            await asyncio.sleep(seconds)
        finally:
            if not transport.is_closing():
                transport.resume_reading()
