"""The command line as a person or a script starts it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

ROOT: Final = Path(__file__).parents[2]


class Outcome(msgspec.Struct, frozen=True):
    """What a command left behind."""

    code: int
    out: str
    err: str

    def object(self) -> Any:  # noqa: ANN401 - JSON
        """Read stdout as one JSON value."""
        return json.loads(self.out)


def environment(home: Path, **given: str) -> dict[str, str]:
    """Build an environment with nothing of this machine's in it."""
    return {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), **given}


def command(*arguments: str) -> list[str]:
    """Name the command; the same code as the `loosh-miner` script runs."""
    return [sys.executable, "-m", "app", *arguments]


def run(home: Path, *arguments: str | bytes, seconds: float = 60, **given: str) -> Outcome:
    """Run one command to its end, in `home`."""
    done = subprocess.run(
        [*command(), *arguments],
        cwd=home,
        env=environment(home, **given),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=seconds,
        check=False,
    )
    outcome = Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in outcome.err, outcome.err
    assert "Traceback" not in outcome.out
    return outcome
