"""The metagraph, read in a short-lived child process: the miner's loop and memory stay out of it."""

import asyncio
import contextlib
import sys
from typing import Final

import msgspec

from app.chain.chain_errors import shown
from app.chain.metagraph_process import Order, Outcome, longest_life
from app.chain.networks import Subnet
from app.chain.subtensor import READ_SECONDS
from app.domain.metagraph import Metagraph
from app.errors import ChainError

_MOST_BYTES: Final = 8 * 1024 * 1024
_MOST_COMPLAINT: Final = 64 * 1024
_GRACE_SECONDS: Final = 5.0


class ChildMetagraph:
    """A `MetagraphSource`: a process for each reading, ended with it. It takes a second or two of processor time."""

    def __init__(self, subnet: Subnet, *, read_seconds: float = READ_SECONDS) -> None:
        self._order = Order(subnet, read_seconds)

    async def metagraph(self) -> Metagraph:
        """Read it. Errors: `ChainError`, with the child's own words where it had any."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # not from the current directory, whatever lies there
            "-m",
            "app.chain.metagraph_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(longest_life(self._order.read_seconds) + _GRACE_SECONDS):
                return await self._converse(process)
        except TimeoutError:
            raise _failed("the process that reads the metagraph did not end in time", code="timeout") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _converse(self, process: asyncio.subprocess.Process) -> Metagraph:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise AssertionError("opened as pipes above")
        with contextlib.suppress(OSError):  # it may be gone already: then its exit code and words tell
            process.stdin.write(msgspec.json.encode(self._order))
            await process.stdin.drain()
            process.stdin.close()
        answer, complaint = await asyncio.gather(
            _read(process.stdout, _MOST_BYTES), _read(process.stderr, _MOST_COMPLAINT)
        )
        status = await process.wait()
        try:
            outcome = msgspec.json.decode(answer, type=Outcome)
        except msgspec.DecodeError:
            last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
            why = f"the process that reads the metagraph failed with status {status}"
            raise _failed(f"{why} ({shown(last)})" if last else why, code="crashed") from None
        if outcome.error is not None:
            raise ChainError(outcome.error.cause, remedy=outcome.error.remedy, code=outcome.error.code)
        if outcome.metagraph is None:
            raise _failed("the process that reads the metagraph gave none", code="crashed")
        return outcome.metagraph


async def _read(stream: asyncio.StreamReader, most: int) -> bytes:
    """Read to the end, keeping no more than the bound."""
    kept = bytearray()
    while piece := await stream.read(65536):
        kept += piece[: most - len(kept)]
    return bytes(kept)


def _failed(cause: str, *, code: str) -> ChainError:
    return ChainError(cause, remedy="it is tried again; if it lasts, see `loosh-miner register --dry-run`", code=code)
