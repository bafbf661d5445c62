"""Make .venv exactly what the locks say, or do nothing if it already is.

    install_env.py [--dev]

Started by the Justfile with whatever python3 there is (>= 3.9), with uv on the PATH. The long part is llama.cpp,
which comes as source: it is built once, kept in uv's cache, and counted aloud while it lasts.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator, TextIO

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "made-from.json"
LOG = ROOT / ".tools" / "env.log"
LOCKS = {"runtime": ROOT / "requirements.lock", "dev": ROOT / "requirements-dev.lock"}
BUILD_LOCK = ROOT / "toolchain" / "build.lock"
INPUTS = (ROOT / ".python-version", ROOT / "pyproject.toml", BUILD_LOCK, *LOCKS.values())

BUILDING = re.compile(r"^\s*Building[: ].*llama[-_]cpp[-_]python")
STEP = re.compile(r"\[(\d+)/(\d+)\] (?:Building|Linking|Creating)")  # ninja's counter
DEBUG = re.compile(r"^(?:DEBUG|TRACE) |^\s*(?:uv_|new_)")
COMPILER_SAID = re.compile(r"\berror\b|FAILED:|fatal|CMake Error|No such file|not found|No space|Killed|cannot find", re.I)
MINUTES_OF_TWO_CORES = 4  # measured, see CONTRIBUTING.md
TERMINAL_EVERY, LOG_EVERY = 1.0, 15.0  # seconds between two signs of life


class InstallError(Exception):
    """The environment could not be made; the text says what to do about it."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dev", action="store_true", help="also what tests and checks need")
    kind = "dev" if parser.parse_args().dev else "runtime"
    inputs = fingerprint()
    if is_current(kind, inputs):
        return 0
    try:
        with only_one():
            if not is_current(kind, inputs):
                install(kind, inputs)
    except (InstallError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def fingerprint() -> str:
    """What the environment depends on. CMAKE_ARGS counts only while it is set: a build for CUDA stays."""
    digest = hashlib.sha256()
    for path in INPUTS:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def is_current(kind: str, inputs: str) -> bool:
    made = read_stamp()
    enough = made.get("kind") == "dev" or made.get("kind") == kind
    same_flags = os.environ.get("CMAKE_ARGS") in (None, made.get("cmake_args"))
    return made.get("inputs") == inputs and enough and same_flags and (VENV / "bin" / "loosh-miner").exists()


def read_stamp() -> dict[str, str]:
    try:
        return json.loads(STAMP.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold the lock beside .venv: the kernel lets go of it however this process ends."""
    LOG.parent.mkdir(exist_ok=True)
    with (LOG.parent / "env.lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another command is making .venv: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install(kind: str, inputs: str) -> None:
    made = read_stamp()
    if made.get("kind") == "dev":
        kind = "dev"  # never take the test tools away from someone who has them
    # A set but empty CMAKE_ARGS means "back to the default build"; an unset one keeps what .venv was made with.
    cmake_args = os.environ.get("CMAKE_ARGS", made.get("cmake_args", ""))
    STAMP.unlink(missing_ok=True)
    ensure_venv()
    started = time.monotonic()
    with LOG.open("w", encoding="utf-8") as log:
        Uv(log, build_environment(cmake_args)).run(sync_command(kind, cmake_args))
        Uv(log, build_environment(cmake_args)).run(project_command())
    STAMP.write_text(json.dumps({"kind": kind, "inputs": inputs, "cmake_args": cmake_args}), encoding="utf-8")
    say(f".venv is ready ({time.monotonic() - started:.0f} s)")


def ensure_venv() -> None:
    """Keep an environment whose python still works and is the wanted one, otherwise begin anew."""
    wanted = (ROOT / ".python-version").read_text(encoding="utf-8").strip()
    probe = [str(VENV / "bin" / "python"), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    with contextlib.suppress(OSError):
        found = subprocess.run(probe, check=False, capture_output=True, text=True)
        if found.returncode == 0 and (found.stdout.strip() == wanted or "UV_PYTHON" in os.environ):
            return
    made = subprocess.run(
        ["uv", "venv", "--quiet", "--clear", str(VENV)], check=False, cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    if made.returncode:
        raise InstallError(
            f"no python {wanted} to be found or fetched. Install one (Debian 13+, Ubuntu 24.04+: apt install "
            f"python3-dev; or pyenv install {wanted}), or name one with UV_PYTHON=/path/to/python.\n{made.stderr.strip()}"
        )


def sync_command(kind: str, cmake_args: str) -> list[str]:
    """Exactly the lock, every byte hashed, the build's own tools too."""
    command = ["uv", "pip", "sync", "--verbose", "--python", str(VENV), "--require-hashes", str(LOCKS[kind])]
    command += ["--build-constraints", str(BUILD_LOCK), "--require-build-hashes"]
    if cmake_args:
        # scikit-build-core reads CMAKE_ARGS itself, after our flags. uv must see that this is another wheel, though.
        mark = hashlib.sha256(cmake_args.encode()).hexdigest()[:16]
        command += ["--config-settings-package", f"llama-cpp-python:cmake.define.OPERATORS_CMAKE_ARGS={mark}"]
    return command


def project_command() -> list[str]:
    command = ["uv", "pip", "install", "--verbose", "--python", str(VENV), "--no-deps", "--editable", str(ROOT)]
    return [*command, "--build-constraints", str(BUILD_LOCK), "--require-build-hashes"]


def build_environment(cmake_args: str) -> dict[str, str]:
    environment = {**os.environ, "NO_COLOR": "1", "RUST_LOG": "", "CMAKE_ARGS": cmake_args}
    environment.setdefault("CMAKE_BUILD_PARALLEL_LEVEL", str(cores()))
    if not cmake_args:
        del environment["CMAKE_ARGS"]
    return environment


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Uv:
    """One run of uv, whose own progress display says nothing of a build, watched on its verbose output."""

    log: TextIO
    environment: dict[str, str]
    building: bool = False
    step: str = ""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=400))

    def run(self, command: list[str]) -> None:
        started = shown = time.monotonic()
        lines: queue.Queue[str | None] = queue.Queue()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        threading.Thread(target=self._pump, args=(process.stdout, lines), daemon=True).start()
        every = TERMINAL_EVERY if sys.stderr.isatty() else LOG_EVERY
        try:
            while True:
                with contextlib.suppress(queue.Empty):
                    line = lines.get(timeout=every)
                    if line is None:
                        break
                    self._read(line)
                now = time.monotonic()
                if now - shown >= every:
                    self._show(now - started)
                    shown = now
        finally:
            clear_line()
            if process.poll() is None and sys.exc_info()[0] is not None:
                process.terminate()
            status = process.wait()
        if status:
            raise InstallError(self._failure())

    @staticmethod
    def _pump(stream: TextIO, lines: queue.Queue[str | None]) -> None:
        for line in stream:
            lines.put(line)
        lines.put(None)

    def _read(self, line: str) -> None:
        self.log.write(line)
        self.log.flush()
        text = line.rstrip()
        self.tail.append(text)
        if not self.building and BUILDING.search(text):
            self.building = True
            say(
                f"building llama.cpp once, about {MINUTES_OF_TWO_CORES} minutes on 2 cores (here: {cores()}); "
                "the result is kept for next time"
            )
        counter = STEP.search(text)
        if counter:
            self.step = f"{counter[1]} of {counter[2]} steps, "

    def _show(self, seconds: float) -> None:
        what = f"building llama.cpp: {self.step}" if self.building else "fetching and installing: "
        status = f"  {what}{seconds:.0f} s"
        if sys.stderr.isatty():
            print(f"\r\x1b[K{status}", end="", file=sys.stderr, flush=True)
        else:
            print(status, file=sys.stderr, flush=True)

    def _failure(self) -> str:
        said = [line for line in self.tail if not DEBUG.search(line) and line.strip()]
        shown = "\n".join(f"  {line[:240]}" for line in said[-30:])
        causes = "\n".join(f"  {line[:240]}" for line in said[:-30] if COMPILER_SAID.search(line))
        return "\n".join(part for part in (f"uv could not finish; the end of what it said:\n{causes}", shown, self._advice()) if part)

    def _advice(self) -> str:
        text = "\n".join(self.tail)
        compilers = [self.environment.get("CXX", ""), "c++", "g++", "clang++"]
        if self.building and not any(name and shutil.which(name) for name in compilers):
            advice = "There is no C++ compiler. Debian, Ubuntu: apt install g++; then the same command again."
        elif self.building and re.search(r"Killed|internal compiler error", text):
            advice = "The compiler ran out of memory: CMAKE_BUILD_PARALLEL_LEVEL=1 and the same command again."
        elif re.search(r"error sending request|dns error|Connection refused|timed out|Failed to fetch", text):
            advice = "The package registry could not be reached: check the network (or UV_DEFAULT_INDEX), then again."
        else:
            advice = "Nothing half-made is kept: the same command tries again."
        return f"{advice} All of the output: {LOG.relative_to(ROOT)}"


def say(text: str) -> None:
    clear_line()
    print(text, file=sys.stderr, flush=True)


def clear_line() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
