"""schemathesis against the miner's own description of itself."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartMiner
from tests.miner.canary import PROMPT

CONFIG = """
# A handshake of the right shape is still refused without a right signature (one 400 for every cause, threat 23), and
# no schema can say that the hotkey's address holds a check sum (422).
[[operations]]
include-path = "/fiber/key-exchange"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "403", "422", "429", "5xx"]
"""


@pytest.mark.slow
def test_schemathesis_finds_nothing(start_miner: StartMiner, tmp_path: Path) -> None:
    miner = start_miner()
    (tmp_path / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    program = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            *(str(program), "run", f"http://127.0.0.1:{miner.port}/openapi.json"),
            *("--max-examples", "40", "--seed", "78", "--no-color", "--phases", "examples,coverage,fuzzing"),
            *("--header", f"x-canary: {PROMPT}"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    output = done.stdout + done.stderr
    print(output[-4000:])  # noqa: T201
    assert done.returncode == 0, output[-6000:]
    assert re.search(r"[1-9]\d* generated|Test cases", output), output
    assert miner.alive
