"""The miner that runs on this machine, as its admin listener tells of it."""

import asyncio
from typing import Final

import aiohttp
import msgspec

from app.domain.health_detail import HealthDetail

_SECONDS: Final = 3.0
_MOST_BYTES: Final = 1024 * 1024
_OK: Final = 200


class Seen(msgspec.Struct, frozen=True):
    """What was found on ADMIN_PORT: the miner's own account, or why there is none."""

    health: HealthDetail | None
    problem: str = ""
    listening: bool = False
    """Something answers there, be it a miner or not."""


class RunningMiner:
    """Asks once, however many checks want to know."""

    def __init__(self, admin_port: int) -> None:
        self._url = f"http://127.0.0.1:{admin_port}/health"
        self._asking: asyncio.Task[Seen] | None = None

    async def seen(self) -> Seen:
        """Give what the miner tells of itself."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> Seen:
        timeout = aiohttp.ClientTimeout(total=_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(self._url, allow_redirects=False) as response,
            ):
                body = await response.content.read(_MOST_BYTES)
                if response.status != _OK:
                    return Seen(None, f"{self._url} answers with status {response.status}", listening=True)
        except TimeoutError:
            return Seen(None, f"{self._url} does not answer within {_SECONDS:g} s", listening=True)
        except aiohttp.ClientConnectorError:
            return Seen(None, f"nothing listens at {self._url}")
        except (aiohttp.ClientError, OSError) as error:
            return Seen(None, f"{self._url}: {type(error).__name__}", listening=True)
        try:
            return Seen(msgspec.json.decode(body, type=HealthDetail), listening=True)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Seen(None, f"what answers at {self._url} is no miner of this version", listening=True)
