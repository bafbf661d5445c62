"""Posting the miner's endpoint: look at what is there, post if need be, and see that the chain holds it.

It spends no TAO, and it says that the endpoint is posted only when the chain says so.
"""

import asyncio
import contextlib
from typing import Final

import msgspec

from app.chain.chain_errors import not_held, not_registered, posted_elsewhere, rate_limited, unknown_outcome
from app.chain.own_endpoint import Endpoint
from app.chain.posted_file import PostedFile
from app.chain.subtensor import Subtensor
from app.domain.metagraph import Axon, Neuron
from app.domain.posting import BLOCK_SECONDS, Posting, Step, next_step
from app.errors import ChainError
from app.protocol.hotkeys import Hotkey

_VALIDATORS_STAKE: Final = 999
SETTLE_SECONDS: Final = 60.0
"""How long a post whose outcome is not known is looked for: some blocks."""
_LOOK_SECONDS: Final = BLOCK_SECONDS / 4


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What is there, and what is to be done."""

    uid: int
    held: Axon | None
    wanted: Axon
    step: Step
    blocks_to_wait: int
    warnings: tuple[str, ...]


class Registration:
    """One hotkey's endpoint on one subnet."""

    def __init__(
        self,
        chain: Subtensor,
        hotkey: Hotkey,
        endpoint: Endpoint,
        posted: PostedFile,
        *,
        wallet: str,
        watching: bool = False,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._chain = chain
        self._hotkey = hotkey
        self._endpoint = endpoint
        self._posted = posted
        self._wallet = wallet
        self._watching = watching
        self._settle_seconds = settle_seconds

    async def look(self) -> Outlook:
        """Read the chain and find our address; nothing is changed. Errors: `ChainError`."""
        self._endpoint.check()
        graph = await self._chain.metagraph()
        neuron = graph.neuron(self._hotkey.ss58)
        if neuron is None:
            raise not_registered(self._chain.subnet, self._hotkey.ss58, self._wallet)
        posting = await self._chain.posting(self._hotkey.ss58)
        wanted = await self._endpoint.find(posting.axon)
        step = next_step(posting.axon, wanted, watching=self._watching, last=self._posted.read())
        return Outlook(
            uid=neuron.uid,
            held=posting.axon,
            wanted=wanted,
            step=step,
            blocks_to_wait=posting.blocks_to_wait(),
            warnings=tuple(_warnings(neuron)),
        )

    @staticmethod
    def object_to(outlook: Outlook) -> None:
        """Raise what speaks against posting whenever it is done: a `ChainError`."""
        if outlook.step == "leave" and outlook.held is not None:
            raise posted_elsewhere(outlook.wanted, outlook.held)

    async def carry_out(self, outlook: Outlook) -> None:
        """Bring the chain to hold the wanted endpoint; returns only when it does. Errors: `ChainError`."""
        self.object_to(outlook)
        if outlook.step == "post":
            await self._post(outlook)
        self._posted.write(outlook.wanted)

    async def _post(self, outlook: Outlook) -> None:
        if outlook.blocks_to_wait:
            raise rate_limited(outlook.blocks_to_wait)
        try:
            await self._chain.serve_axon(self._hotkey, outlook.wanted)
        except ChainError as error:
            if error.code == "rate_limit":  # somebody else was quicker: the figures are no longer those we read
                raise rate_limited((await self._read()).blocks_to_wait()) from None
            if error.code != "unknown_outcome":
                raise
            if await self._turns_up(outlook.wanted):
                return
            raise
        held = (await self._read()).axon
        if held != outlook.wanted:
            raise not_held(outlook.wanted, held)

    async def _read(self) -> Posting:
        """Read back after a post; failing at that leaves its outcome unknown."""
        try:
            return await self._chain.posting(self._hotkey.ss58)
        except ChainError as error:
            raise unknown_outcome(f"reading back failed: {error.cause}") from None

    async def _turns_up(self, wanted: Axon) -> bool:
        """Look for a post whose outcome is not known; False when it is not there after some blocks."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settle_seconds):
                while True:
                    with contextlib.suppress(ChainError):
                        if (await self._chain.posting(self._hotkey.ss58)).axon == wanted:
                            return True
                    await asyncio.sleep(_LOOK_SECONDS)
        return False


def _warnings(neuron: Neuron) -> list[str]:
    if neuron.stake < _VALIDATORS_STAKE:
        return []
    return [
        f"the hotkey has a stake of {neuron.stake:.0f} TAO, and validators call nobody with {_VALIDATORS_STAKE} or more"
    ]
