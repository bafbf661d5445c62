"""Whether a miner answers at the address that it posts: the validator's first question, asked from here."""

from typing import Literal

import msgspec

from app.protocol.hotkeys import Hotkey
from app.validator.client import ValidatorClient
from app.validator.errors import MinerRefused, NotAnswered


class Reach(msgspec.Struct, frozen=True):
    """What came of `GET /availability`; `detail` is for people."""

    answer: Literal["available", "not available", "other", "none"]
    detail: str


async def reach(address: str, hotkey: Hotkey) -> Reach:
    """Ask `address` (host:port) once; never fails."""
    url = f"http://{address}"
    try:
        async with ValidatorClient(url, hotkey) as client:
            said = await client.availability()
    except MinerRefused as error:
        return Reach("other", f"{url}/availability answers with status {error.status}")
    except NotAnswered as error:
        return Reach("none", f"{error}; behind a NAT that says nothing: ask {url}/availability from outside")
    if said.available:
        return Reach(
            "available", f"{url}/availability answers, and the miner is ready; a firewall in between may differ"
        )
    return Reach("not available", f"{url}/availability answers, but the miner is not ready: {said.reason}")
