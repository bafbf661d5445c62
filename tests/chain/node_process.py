"""The chain node's stand-in as a process: started, ordered about, and ended by its id."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from tests.stubs.chain.behaviour import Stats

ROOT: Final = Path(__file__).resolve().parents[2]
LOCAL: Final = "127.0.0.1"


class ChainNode:
    """`python -m tests.stubs.chain`; `flags` as there, for instance `--block-ms 20`."""

    def __init__(self, metadata: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "tests.stubs.chain", "--metadata", str(metadata), *flags]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._one_at_a_time = threading.Lock()
        self.port: Final[int] = self._read()["port"]

    @property
    def url(self) -> str:
        """What goes into SUBTENSOR_ADDRESS."""
        return f"ws://{LOCAL}:{self.port}"

    def order(self, method: str, /, **arguments: object) -> Any:  # noqa: ANN401 - JSON
        """Have a `dev_...` method done; works whatever the node is told to do to its clients."""
        assert self.process.stdin is not None
        with self._one_at_a_time:
            self.process.stdin.write(json.dumps({"method": method, "params": arguments}) + "\n")
            self.process.stdin.flush()
            answer = self._read()
        assert "error" not in answer, answer
        return answer["result"]

    def behave(self, **behaviour: object) -> None:
        """Behave so from now on (fields of `tests.stubs.chain.behaviour.Behaviour`); nothing given: as a good node."""
        self.order("dev_behave", **behaviour)

    def stats(self) -> Stats:
        """What the node saw since it was last told how to behave."""
        return msgspec.convert(self.order("dev_stats"), Stats)

    def add_subnet(self, netuid: int) -> None:
        """A subnet without neurons."""
        self.order("dev_addSubnet", netuid=netuid)

    def register(self, netuid: int, hotkey: str, **given: object) -> int:
        """A new neuron; `permit`, `stake` (TAO), `incentive` (0 to 1), `last_update`, `axon` ("ip:port"), `axon_block`,
        `coldkey`. Gives the UID.
        """
        return int(self.order("dev_register", netuid=netuid, hotkey=hotkey, **given))

    def change(self, netuid: int, hotkey: str, **given: object) -> None:
        """Change what is told of a neuron, with the words of `register`; `axon=""` takes its axon away."""
        self.order("dev_neuron", netuid=netuid, hotkey=hotkey, **given)

    def replace(self, netuid: int, uid: int, hotkey: str) -> None:
        """Give a UID to another hotkey: the one that had it is no longer registered."""
        self.order("dev_replace", netuid=netuid, uid=uid, hotkey=hotkey)

    def rate_limit(self, netuid: int, blocks: int) -> None:
        """Blocks between two posts of an axon; 50 on the live chain and here unless told."""
        self.order("dev_rateLimit", netuid=netuid, blocks=blocks)

    def new_blocks(self, count: int = 1) -> int:
        """Make blocks at once; gives the head's number."""
        return int(self.order("dev_newBlock", count=count))

    def axon(self, netuid: int, hotkey: str) -> dict[str, int] | None:
        """What the chain holds of an axon, as it stores it."""
        return self.order("dev_axon", netuid=netuid, hotkey=hotkey)

    def stop(self) -> None:
        """End the process."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the node ended"
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
