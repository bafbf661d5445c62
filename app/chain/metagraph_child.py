"""The metagraph, read in a short-lived child process: the miner's loop and memory stay out of it."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
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
_ARGUMENTS: Final = ("-P", "-m", "app.chain.metagraph_process")
"""-P: not from the current directory, whatever lies there."""


class ChildMetagraph:
    """A `MetagraphSource`: a process for each reading, ended with it. It takes a second or two of processor time.

    A thread starts it: the event loop's own way copies the page tables of the whole miner first, and with a model in
    memory no request was answered for some 60 ms meanwhile.
    """

    def __init__(self, subnet: Subnet, *, read_seconds: float = READ_SECONDS) -> None:
        self._order = Order(subnet, read_seconds)

    async def metagraph(self) -> Metagraph:
        """Read it. Errors: `ChainError`, with the child's own words where it had any."""
        reader = _Reader(msgspec.json.encode(self._order))
        # A task of its own: whoever gives the reading up still waits for the end of its process.
        reading = asyncio.create_task(asyncio.to_thread(reader.run))
        try:
            async with asyncio.timeout(longest_life(self._order.read_seconds) + _GRACE_SECONDS):
                said = await asyncio.shield(reading)
        except TimeoutError:
            raise _failed("the process that reads the metagraph did not end in time", code="timeout") from None
        except OSError as error:
            why = f"the process that reads the metagraph can't be started ({error.strerror})"
            raise _failed(why, code="crashed") from None
        finally:
            reader.end()
            await asyncio.wait([reading])
        return _metagraph(said)


class _Said(msgspec.Struct, frozen=True):
    """What a child left behind."""

    status: int
    answer: bytes
    complaint: str


class _Reader:
    """One child process, from a thread; `end` may come from another at any time."""

    def __init__(self, order: bytes) -> None:
        self._order = order
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False
        self._lock = threading.Lock()

    def run(self) -> _Said:
        """Start it, tell it what to read, and wait for its end. Errors: `OSError` when it can't be started."""
        command = [sys.executable, *_ARGUMENTS]
        # Its complaints go to memory: nobody has to read them while it runs, and a full disk is no hindrance.
        with os.fdopen(os.memfd_create("complaint"), "w+b") as complaint:
            with subprocess.Popen(  # noqa: S603 - our own module
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaint
            ) as process:
                self._started(process)
                if process.stdin is None or process.stdout is None:
                    raise AssertionError("opened as pipes above")
                with contextlib.suppress(OSError):  # it may be gone already: then its exit code and words tell
                    process.stdin.write(self._order)
                    process.stdin.close()
                answer = process.stdout.read(_MOST_BYTES)
            complaint.seek(0)
            said = complaint.read(_MOST_COMPLAINT).decode(errors="replace")
        return _Said(process.returncode, answer, said.strip().rpartition("\n")[2])

    def _started(self, process: "subprocess.Popen[bytes]") -> None:
        with self._lock:
            self._process = process
            if self._ended:
                process.kill()

    def end(self) -> None:
        """End the process, if there is one or is to be one."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()


def _metagraph(said: _Said) -> Metagraph:
    try:
        outcome = msgspec.json.decode(said.answer, type=Outcome)
    except msgspec.DecodeError:
        why = f"the process that reads the metagraph failed with status {said.status}"
        raise _failed(f"{why} ({shown(said.complaint)})" if said.complaint else why, code="crashed") from None
    if outcome.error is not None:
        raise ChainError(outcome.error.cause, remedy=outcome.error.remedy, code=outcome.error.code)
    if outcome.metagraph is None:
        raise _failed("the process that reads the metagraph gave none", code="crashed")
    return outcome.metagraph


def _failed(cause: str, *, code: str) -> ChainError:
    return ChainError(cause, remedy="it is tried again; if it lasts, see `loosh-miner register --dry-run`", code=code)
