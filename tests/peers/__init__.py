"""Real engines of others, built for the tests and the benchmark."""

import sys
from pathlib import Path

# toolchain/ holds scripts, no package: pytest is told in pyproject.toml where it is, `python -m tests...` is told here.
sys.path.append(str(Path(__file__).resolve().parents[2] / "toolchain"))
