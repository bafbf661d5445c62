"""The Challenge API's stand-in as a process: started, told how to behave, and ended by its id."""

import json
import subprocess
import sys
from typing import Self

import msgspec

from tests.miner.process import LOCAL, OK, ROOT, fetch
from tests.stubs.challenge_api import Stats


class ChallengeApiProcess:
    """`python -m tests.stubs.challenge_api`."""

    def __init__(self, *flags: str) -> None:
        command = [sys.executable, "-m", "tests.stubs.challenge_api", *flags]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        ports: dict[str, int] = json.loads(self.process.stdout.readline())
        self.port = ports["port"]
        self.control_port = ports["control_port"]

    @property
    def url(self) -> str:
        """What goes into CHALLENGE_API_URL."""
        return f"http://{LOCAL}:{self.port}"

    def behave(self, *validators: object, **behaviour: object) -> None:
        """List these entries from now on, and otherwise behave as `tests.stubs.challenge_api.Behaviour` says."""
        order = json.dumps({"validators": validators, **behaviour}).encode()
        status, _, body = fetch(self.control_port, "/stub", method="POST", body=order)
        assert status == OK, body

    def stats(self) -> Stats:
        """What the API saw since `behave`."""
        return msgspec.json.decode(fetch(self.control_port, "/stub")[2], type=Stats)

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
