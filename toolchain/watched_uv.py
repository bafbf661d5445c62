"""Run uv so that a person sees it is alive, and sees why when it fails.

uv shows nothing of a build, and llama.cpp builds for minutes: so its verbose output is read here, ninja's counter is
shown, the whole of it goes to a log, and the part that tells the cause is repeated on failure.
"""

from __future__ import annotations

import contextlib
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
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MINUTES_ON_TWO_CORES = 3
TERMINAL_SECONDS, FILE_SECONDS = 1.0, 15.0  # between two signs of life
SHOWN_LINES = 25

BUILDING = re.compile(r"Build(?:ing|.*directory).*llama[-_]cpp[-_]python")
STEP = re.compile(r"\[(\d+)/(\d+)\] ")  # ninja's counter
WAITING = re.compile(r"Waiting to acquire")
OFFLINE = re.compile(r"[Nn]etwork (?:was|connectivity is) disabled|not found in the cache")
CHATTER = re.compile(r"^(?:DEBUG|TRACE)\b(?!.*\berror:)|^\s*$")
COMPILER_COMPLAINT = re.compile(r"\berror\b|FAILED:|CMake Error|No space left|Killed", re.IGNORECASE)


class UvError(Exception):
    """uv did not finish; the text holds the cause and what to do."""


@dataclass
class WatchedUv:
    """uv, started in the project's folder (its settings are there), its output going to `log`."""

    folder: Path
    log: TextIO
    environment: dict[str, str]
    _building: bool = False
    _step: str = ""
    _tail: deque[str] = field(default_factory=lambda: deque(maxlen=400))

    def run(self, *arguments: str) -> None:
        """Run `uv --verbose arguments` to its end, or raise UvError."""
        self._tail.clear()
        self._building, self._step = False, ""
        command = ["uv", "--verbose", *arguments]
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                self._watch(process)
            except BaseException:  # Ctrl-C too: nothing of ours goes on in the background
                process.terminate()
                raise
            finally:
                clear_line()
        if process.returncode:
            raise UvError(self._failure())

    def _watch(self, process: subprocess.Popen[str]) -> None:
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
        every = TERMINAL_SECONDS if sys.stderr.isatty() else FILE_SECONDS
        started = shown = time.monotonic()
        while True:
            with contextlib.suppress(queue.Empty):
                line = lines.get(timeout=every)
                if line is None:
                    return
                self._read(line)
            now = time.monotonic()
            if now - shown >= every:
                self._show(now - started)
                shown = now

    def _read(self, line: str) -> None:
        self.log.write(line)
        self.log.flush()
        text = line.rstrip()
        self._tail.append(text)
        if not self._building and BUILDING.search(text):
            self._building = True
            say(
                f"building llama.cpp once, about {MINUTES_ON_TWO_CORES} minutes on 2 cores ({cores()} here); it is kept"
            )
        if WAITING.search(text):
            say("another command of this machine's uv fetches or builds the same: waiting for it")
        counter = STEP.search(text)
        if counter:
            self._step = f"step {counter[1]} of {counter[2]}, "

    def _show(self, seconds: float) -> None:
        what = f"building llama.cpp: {self._step}" if self._building else "fetching and installing: "
        status = f"  {what}{seconds:.0f} s"
        if sys.stderr.isatty():
            print(f"\r\x1b[K{status}", end="", file=sys.stderr, flush=True)
        else:
            say(status)

    def lacked_network(self) -> bool:
        """Whether uv stopped for want of something that it was not allowed to fetch."""
        return any(OFFLINE.search(line) for line in self._tail)

    def _failure(self) -> str:
        said = [line[:200] for line in self._tail if not CHATTER.search(line)]
        causes = [line for line in said[:-SHOWN_LINES] if COMPILER_COMPLAINT.search(line)][:SHOWN_LINES]
        return "\n".join(["uv stopped; this is what it said last:", *causes, *said[-SHOWN_LINES:], self._advice()])

    def _advice(self) -> str:
        text = "\n".join(self._tail)
        if self._building and not has_compiler(self.environment):
            return "There is no C++ compiler here. Debian, Ubuntu: apt install g++. Then the same command again."
        if self._building and re.search(r"Killed|internal compiler error|cannot allocate", text):
            return "The compiler ran out of memory: the same command again with CMAKE_BUILD_PARALLEL_LEVEL=1 before it."
        if re.search(r"error sending request|dns error|[Cc]onnection refused|timed out|[Ff]ailed to fetch", text):
            return "The package registry did not answer: check the network, then the same command again."
        return "Nothing half-made is kept: the same command tries again."


def _pump(stream: Iterable[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def has_compiler(environment: dict[str, str]) -> bool:
    names = filter(None, (environment.get("CXX"), "c++", "g++", "clang++"))
    return any(shutil.which(name, path=environment.get("PATH")) for name in names)


def cores() -> int:
    """Count the cores that this process may use, which can be fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def say(text: str) -> None:
    clear_line()
    print(text, file=sys.stderr, flush=True)


def clear_line() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
