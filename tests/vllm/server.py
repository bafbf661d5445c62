"""The real vLLM server as processes of its own, ended by their ids."""

import contextlib
import os
import subprocess
import time
from http.client import HTTPException
from pathlib import Path
from typing import Final, Self

import psutil
import pytest

from tests.miner.http import LOCAL
from tests.miner.process import fetch, free_port, tree
from tests.vllm.parts import Parts

MODEL: Final = "smollm2"
ALIAS: Final = "smollm2-too"
"""Its other name: with two of them there is a choice to be made."""
CONTEXT: Final = 2048
AT_ONCE: Final = 8
START_SECONDS: Final = 600.0
"""A minute on a quiet machine; reading the libraries alone takes as long on a busy one."""
OK: Final = 200
_FLAGS: Final = (
    *("--served-model-name", MODEL, ALIAS, "--host", LOCAL, "--dtype", "bfloat16"),
    *("--max-model-len", str(CONTEXT), "--max-num-seqs", str(AT_ONCE)),
    *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
)
COMPILE: Final = "VLLM_TEST_COMPILE"
"""Set to have vLLM compile the model, for figures: minutes at the first start, then several times the tokens/s."""


class VllmServer:
    """vLLM with the embedded model on a free port."""

    def __init__(self, parts: Parts, log: Path) -> None:
        self.port = free_port()
        self.log = log
        self._parts = parts
        self._process: subprocess.Popen[bytes] | None = None
        self._known: list[psutil.Process] = []

    @property
    def base_url(self) -> str:
        """What goes into VLLM_API_BASE."""
        return f"http://{LOCAL}:{self.port}/v1"

    def start(self) -> float:
        """Start it, on the same port each time; gives the seconds until its `/health` says 200."""
        environment = {
            "PATH": f"{self._parts.python.parent}:{os.environ['PATH']}",
            "HOME": str(self._parts.root / "home"),
            "TORCHINDUCTOR_CACHE_DIR": str(self._parts.root / "home" / "inductor"),
            "LANG": "C.UTF-8",
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
        }
        command = [str(self._parts.python), "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--model", str(self._parts.model), "--port", str(self.port), *_FLAGS]
        command += [] if os.environ.get(COMPILE) else ["--enforce-eager"]
        began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        while time.monotonic() - began < START_SECONDS:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError, HTTPException):
                if fetch(self.port, "/health")[0] == OK:
                    self._known = tree(self._process.pid)
                    return time.monotonic() - began
            time.sleep(0.2)
        self.kill()
        pytest.fail(f"vLLM did not start\n{self.log.read_text(encoding='utf-8', errors='replace')[-4000:]}")

    def kill(self) -> None:
        """`kill -9` of all its processes at once, as the kernel does where memory runs out."""
        assert self._process is not None
        for process in {*self._known, *tree(self._process.pid)}:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def kill_the_model(self) -> None:
        """`kill -9` of the processes that hold the model; the one that speaks HTTP is left to find out."""
        for process in self._known[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def ended(self) -> bool:
        """Whether the process that speaks HTTP has ended."""
        return self._process is not None and self._process.poll() is not None

    def gauge(self, name: str) -> float:
        """One of its own metrics, summed over its labels."""
        text = fetch(self.port, "/metrics", seconds=20)[2].decode()
        lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        assert lines, f"vLLM has no metric {name}"
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def running(self) -> int:
        """How many requests it writes for now."""
        return int(self.gauge("vllm:num_requests_running") + self.gauge("vllm:num_requests_waiting"))

    def wait_idle(self, seconds: float = 20) -> float:
        """Wait until it writes for nobody; gives the seconds."""
        began = time.monotonic()
        while self.running():
            assert time.monotonic() - began < seconds, f"vLLM still runs {self.running()} requests"
            time.sleep(0.05)
        return time.monotonic() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()
