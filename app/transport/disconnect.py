"""Ending work that nobody waits for any more."""

import asyncio
from collections.abc import Awaitable
from typing import Final

from app.transport.body import ClientGone, PlainRequest

# Watching takes a task, which doesn't pay for a fast answer: a caller that leaves is seen this much later.
_WATCH_AFTER_SECONDS: Final = 0.1


async def while_connected[T](request: PlainRequest, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the caller closes the connection. Errors: `ClientGone`.

    To be called after the body was read: the next message is then the end of the connection.
    """
    watch = _Watch(request)
    try:
        return await work
    except asyncio.CancelledError:
        if watch.gone:
            raise ClientGone from None
        raise
    finally:
        watch.stop()


class _Watch:
    """Cancels the task it was made in when the caller's connection ends."""

    __slots__ = ("_request", "_task", "_timer", "_watcher", "gone")

    def __init__(self, request: PlainRequest) -> None:
        self.gone = False
        self._request = request
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_SECONDS, self._start)

    def stop(self) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _start(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._task is not None:
            self._task.cancel()
