"""Ending work that nobody waits for any more."""

import asyncio
from collections.abc import Awaitable

from app.transport.body import ClientGone, PlainRequest


async def while_connected[T](request: PlainRequest, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the caller closes the connection. Errors: `ClientGone`.

    To be called after the body was read: the next message is then the end of the connection.
    """
    task = asyncio.current_task()
    if task is None:  # pragma: no cover - a coroutine that awaits is always in a task
        return await work
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if gone and not task.uncancel():
            raise ClientGone from None
        raise
    finally:
        watcher.cancel()
