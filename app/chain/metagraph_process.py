"""`python -m app.chain.metagraph_process`: read the metagraph once, in a process that ends.

Takes one JSON object on standard input (`Order`), gives one on standard output (`Outcome`) and nothing else there.
Exit code 0 with a metagraph, 1 with an error. The SDK's import, its memory and its blocking end with the process.
"""

import asyncio
import contextlib
import os
import signal
import sys
from typing import Final

import msgspec

from app.chain.networks import Subnet
from app.chain.subtensor import READ_SECONDS, Subtensor
from app.domain.metagraph import Metagraph
from app.errors import ChainError

_NICENESS: Final = 10
_SLACK_SECONDS: Final = 30
"""Time for the import and the connection's end, beside the reading."""


class Order(msgspec.Struct, frozen=True):
    """What is to be read; no secrets, but the node's address may hold a key."""

    subnet: Subnet
    read_seconds: float = READ_SECONDS


class Failure(msgspec.Struct, frozen=True):
    """A `ChainError`'s parts."""

    cause: str
    remedy: str
    code: str


class Outcome(msgspec.Struct, frozen=True):
    """One of the two is there."""

    metagraph: Metagraph | None = None
    error: Failure | None = None


def longest_life(read_seconds: float) -> float:
    """Seconds after which the process ends itself, whatever it hangs on."""
    return read_seconds + _SLACK_SECONDS


def main() -> int:
    """Do it; gives the exit code."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not stand beside the answer
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    signal.alarm(round(longest_life(order.read_seconds)) or 1)
    with contextlib.suppress(PermissionError):  # a sandbox may forbid even that: the list matters more
        os.nice(_NICENESS)
    outcome = asyncio.run(_read(order))
    with answer:
        answer.write(msgspec.json.encode(outcome) + b"\n")
    return 0 if outcome.error is None else 1


async def _read(order: Order) -> Outcome:
    try:
        return Outcome(metagraph=await Subtensor(order.subnet, read_seconds=order.read_seconds).metagraph())
    except ChainError as error:
        return Outcome(error=Failure(error.cause, error.remedy, error.code))


if __name__ == "__main__":
    sys.exit(main())
