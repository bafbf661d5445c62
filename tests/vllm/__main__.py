"""`python -m tests.vllm [pytest's own arguments]`: the tests with a real vLLM on the CPU, which is made if need be.

Its own recipe (`just test-vllm`), because of the gigabytes and the minute of each of its starts.
"""

import os
import subprocess
import sys
from typing import Final

from tests.miner.process import ROOT
from tests.vllm.conftest import PARTS_IN
from tests.vllm.parts import NotToBeHad, Parts, cache

WHERE: Final = "tests/vllm"


def main(arguments: list[str]) -> int:
    """pytest's exit code; 2 when vLLM can't be had here."""
    parts = Parts(cache())
    try:
        parts.make()
    except NotToBeHad as why:
        sys.stderr.write(f"{why}\n")
        return 2
    # A failed start is found within a run; one process, as the server takes all cores there are.
    environment = os.environ | {PARTS_IN: str(parts.root)}
    command = [sys.executable, "-m", "pytest", "-s", "-v", *(arguments or [WHERE])]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
