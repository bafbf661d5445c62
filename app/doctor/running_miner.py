"""The miner that runs on this machine, as its admin listener tells of it."""

import asyncio

import msgspec

from app.admin_client import NoMiner, ask_miner
from app.domain.health_detail import HealthDetail


class Seen(msgspec.Struct, frozen=True):
    """What was found on ADMIN_PORT: the miner's own account, or why there is none."""

    health: HealthDetail | None
    problem: str = ""


class RunningMiner:
    """Asks once, however many checks want to know."""

    def __init__(self, admin_port: int) -> None:
        self._port = admin_port
        self._asking: asyncio.Task[Seen] | None = None

    async def seen(self) -> Seen:
        """Give what the miner tells of itself."""
        if self._asking is None:
            self._asking = asyncio.create_task(asyncio.to_thread(self._ask))
        return await asyncio.shield(self._asking)

    def _ask(self) -> Seen:
        try:
            return Seen(ask_miner(self._port, "/health", HealthDetail))
        except NoMiner as error:
            return Seen(None, str(error))
