"""The machine under examination: detected once, however many checks want to know, or read from a recording."""

import asyncio
from collections.abc import Callable

from app.appliance.compute.selection import Selection
from app.domain.compute.catalogue import MinerNeeds
from app.domain.compute.hardware import Hardware
from app.domain.compute.profile import EngineProfile, Reasons


class Machine:
    """Looks in a thread: probes of hardware block. Errors of all: those of `select`."""

    def __init__(self, select: Callable[[], Selection]) -> None:
        self._select = select
        self._looking: asyncio.Task[Selection] | None = None

    async def hardware(self) -> Hardware:
        """What the machine is made of."""
        return (await self._selection()).hardware

    async def needs(self) -> MinerNeeds:
        """What the subnet asks of a miner's machine."""
        return (await self._selection()).catalogue.compute_spec.miner

    async def choice(self) -> EngineProfile | Reasons:
        """The engine profile, or why there is none."""
        return (await self._selection()).chosen

    async def _selection(self) -> Selection:
        if self._looking is None:
            self._looking = asyncio.create_task(asyncio.to_thread(self._select))
        return await asyncio.shield(self._looking)
