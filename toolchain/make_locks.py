"""Make every lock anew: with hashes, for all platforms, without the name of any registry.

    make_locks.py [uv pip compile's own options, for instance --upgrade or --upgrade-package granian]

Started by `just lock`, with uv on the PATH.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPILE = (
    *("uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes"),
    *("--no-header", "--no-annotate", "--no-emit-index-url"),
)
# What to lock, from which input, for which oldest python. The dev lock comes after the runtime's and agrees with it.
RUNTIME = ("pyproject.toml", "--extra", "embedded", "--python-version", "3.12")
# Torch is chosen by hand: see tests/vllm/torch.in.
TORCH = ("torch", "torchaudio", "torchcodec", "torchvision", "triton")
WITHOUT_TORCH = (
    *("--overrides", "tests/vllm/left_out.in"),
    *(option for name in TORCH for option in ("--no-emit-package", name)),
)
LOCKS = (
    ("requirements.lock", RUNTIME),
    ("requirements-dev.lock", (*RUNTIME, "--group", "dev", "--group", "docs", "--constraints", "requirements.lock")),
    ("toolchain/build.lock", ("toolchain/build.in", "--python-version", "3.12")),
    ("toolchain/tools.lock", ("toolchain/tools.in", "--python-version", "3.9")),
    ("tests/vllm/requirements.lock", ("tests/vllm/requirements.in", "--python-version", "3.11", *WITHOUT_TORCH)),
)


def main(options: list[str]) -> int:
    for lock, inputs in LOCKS:
        print(f"locking {lock}", file=sys.stderr, flush=True)
        command = [*COMPILE, *inputs, "--output-file", lock, *options]
        done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
