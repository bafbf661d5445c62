"""Format, lint and types, so that CI holds them too: the same commands as `just check`."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
BIN: Final = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command", [("ruff", "format", "--check", "."), ("ruff", "check", "."), ("pyright",)], ids=" ".join
)
def test_check_is_clean(command: tuple[str, ...]) -> None:
    program, *arguments = command
    done = subprocess.run(
        [str(BIN / program), *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
