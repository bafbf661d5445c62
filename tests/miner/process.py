"""Real processes for tests and benchmark: the miner as an operator starts it, and the engine stub.

Both are ended by their process ids. The stub also ends when our end of its standard input closes, so that even a
killed test run leaves no engine behind.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import msgspec
import psutil

from tests.miner.canary import API_KEY, Evidence
from tests.miner.http import LOCAL, Connection, Reply
from tests.miner.validator import Hotkey, Validator
from tests.stubs.engine import Stats

ROOT: Final = Path(__file__).resolve().parents[2]
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 90.0
OK: Final = 200
_addresses = count()


def free_port() -> int:
    """A port that nobody listens on, as the kernel gives it."""
    with socket.socket() as sock:
        sock.bind((LOCAL, 0))
        return int(sock.getsockname()[1])


def strange_address() -> str:
    """A loopback address that no other call gave: a source with a fresh rate budget."""
    number = next(_addresses)
    return f"127.{100 + number // 64_000 % 100}.{number // 250 % 256}.{number % 250 + 2}"


def fetch(
    port: int,
    path: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    seconds: float = 5,
) -> tuple[int, dict[str, str], bytes]:
    """One blocking request from a fresh source address: status, headers, body."""
    connection = http.client.HTTPConnection(LOCAL, port, timeout=seconds, source_address=(strange_address(), 0))
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_seconds(pid: int) -> float:
    """Processor time that a process tree has used so far, to 10 ms."""
    total = 0.0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def pss_bytes(pid: int) -> int:
    """Memory of a process tree, shared pages counted by their share."""
    return _rollup_bytes(pid, "Pss:")


def anonymous_bytes(pid: int) -> int:
    """Memory of a process tree that no file stands behind, swapped out or not: what a leak would make grow.

    Pages of libraries are left out: a process' share of them moves by megabytes whenever another one that uses the same
    libraries starts or ends.
    """
    return _rollup_bytes(pid, "Pss_Anon:", "SwapPss:")


def _rollup_bytes(pid: int, *fields: str) -> int:
    """These fields of smaps_rollup (proc(5), in kB), over a process tree."""
    total = 0
    for process in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
                if line.startswith(fields):
                    total += int(line.split()[1]) * 1024
    return total


class StubEngine:
    """The engine stub in a process of its own."""

    MODULE: ClassVar[str] = "tests.stubs.engine"

    def __init__(self, *flags: str, model: str = "stub/model") -> None:
        self.model = model
        command = [sys.executable, "-m", self.MODULE, "--model", model, *flags]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        ports: dict[str, int] = json.loads(self.process.stdout.readline())
        self.port = ports["port"]
        self.control_port = ports["control_port"]

    @property
    def base_url(self) -> str:
        """What goes into VLLM_API_BASE."""
        return f"http://{LOCAL}:{self.port}/v1"

    def behave(self, *, reset: bool = True, **behaviour: object) -> None:
        """Behave so from the next request on; without arguments as a plain good engine."""
        order = json.dumps({"reset": reset, **behaviour}).encode()
        status, _, body = fetch(self.control_port, "/stub", method="POST", body=order)
        assert status == OK, body

    def stats(self) -> Stats:
        """What the engine saw since `behave` reset it."""
        return msgspec.json.decode(fetch(self.control_port, "/stub")[2], type=Stats)

    def wait_probed(self, seconds: float = 20) -> None:
        """Wait until a miner has probed the engine as it behaves now, and knows the outcome."""
        until = time.monotonic() + seconds
        while not self.stats().probes:
            assert time.monotonic() < until, "the miner does not probe its engine"
            time.sleep(0.05)
        time.sleep(0.05)

    def stop(self) -> None:
        """End the process."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class MinerProcess:
    """`python -m app serve` with a clean environment, in a directory of its own."""

    def __init__(self, home: Path, settings: Mapping[str, object], evidence: Evidence | None = None) -> None:
        self.home = home
        self.evidence = evidence
        self.port = free_port()
        self.admin_port = free_port()
        self.log = home / "miner.log"
        self.state = home / "state"
        self.settings = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(ROOT),
            "STATE_DIR": str(self.state),
            "DEVELOPMENT_MODE": "on",
            "API_PORT": str(self.port),
            "ADMIN_PORT": str(self.admin_port),
            "LOG_FORMAT": "json",
            "CHALLENGE_API_KEY": API_KEY,
        } | {name: str(value) for name, value in settings.items()}
        self.process: subprocess.Popen[bytes] | None = None
        self.known: list[psutil.Process] = []

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self.process is not None
        return self.process.pid

    def start(self, *, wait: bool = True) -> Self:
        """Start, and wait until validators are served unless told not to."""
        assert self.process is None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve"],
                cwd=self.home,
                env=self.settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait for `{"available": true}`."""
        for body in self.polls(seconds):
            if body.get("available") is True:
                self.known = tree(self.pid)
                return
        raise AssertionError(f"not available within {seconds} s\n{self.tail()}")

    def polls(self, seconds: float, pause: float = 0.02) -> Iterator[dict[str, Any]]:
        """Ask `/availability` again and again; gives each 200's body."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the miner ended with {self.process.returncode}\n{self.tail()}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                status, _, body = fetch(self.port, "/availability")
                if status == OK:
                    yield json.loads(body)
            time.sleep(pause)

    def tail(self, lines: int = 40) -> str:
        """The end of the log, for a failed test."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    @property
    def alive(self) -> bool:
        """Whether the process that was started still runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def admin_token(self) -> str:
        """What an operator finds in the state directory."""
        return (self.state / "admin-token").read_text(encoding="utf-8").strip()

    @property
    def admin_token_mode(self) -> int:
        """Who may read it."""
        return (self.state / "admin-token").stat().st_mode & 0o777

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for the end; gives the exit code."""
        assert self.process is not None
        return self.process.wait(seconds)

    def stop(self) -> int | None:
        """Stop as systemd does, and see that nothing is left behind; gives the exit code."""
        process = self.process
        if process is None:
            return None
        self.known = [*self.known, *tree(process.pid)]
        if process.poll() is None:
            self.collect()
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self.kill_rest()
        self.process = None
        if self.evidence is not None:
            self.evidence.add(self.log.name, self.log.read_bytes())
        return process.returncode

    def kill(self) -> None:
        """`kill -9` of the started process alone: what is below it must notice by itself."""
        assert self.process is not None
        self.known = [*self.known, *tree(self.process.pid)]
        self.process.kill()
        self.process.wait()

    def survivors(self) -> list[psutil.Process]:
        """Processes of this miner that still run."""
        return [one for one in self.known if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    def kill_rest(self) -> None:
        """End whatever is left of the tree."""
        for process in self.survivors():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def restart(self, *, wait: bool = True) -> None:
        """The next start in the same place, after the last process ended."""
        self.process = None
        self.known = []
        self.start(wait=wait)

    def collect(self) -> None:
        """Keep what the miner shows of itself, for the canaries."""
        if self.evidence is None:
            return
        pages = [(self.port, path) for path in ("/docs", "/openapi.json", "/readyz", "/availability")]
        pages += [(self.admin_port, path) for path in ("/metrics", "/health", "/", "/overview")]
        for port, path in pages:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.evidence.add(path, fetch(port, path)[2])
        with contextlib.suppress(OSError):
            self.evidence.secrets.add(self.admin_token.encode())

    def keep(self, reply: Reply) -> None:
        """Keep an error's body, for the canaries."""
        if self.evidence is not None:
            self.evidence.add("error", reply.body)

    def cpu(self) -> float:
        """Processor seconds so far."""
        return cpu_seconds(self.pid)

    def pss(self) -> int:
        """Memory now."""
        return pss_bytes(self.pid)

    def anonymous(self) -> int:
        """Memory of all its processes that no file stands behind, in bytes."""
        return anonymous_bytes(self.pid)

    def rss(self) -> int:
        """Resident memory of the tree now."""
        total = 0
        for process in tree(self.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def fds(self) -> int:
        """Open file descriptors of the tree."""
        return sum(process.num_fds() for process in tree(self.pid))

    def listening(self) -> set[tuple[str, int]]:
        """Addresses that the tree listens on."""
        return {
            (entry.laddr.ip, entry.laddr.port)
            for process in tree(self.pid)
            for entry in process.net_connections("inet")
            if entry.status == psutil.CONN_LISTEN
        }

    async def connect(self, source: str = LOCAL) -> Connection:
        """A connection to the public port."""
        return await Connection.open(self.port, source=source, keep=self.keep)

    async def validator(self, source: str = LOCAL, hotkey: Hotkey | None = None) -> Validator:
        """A validator on a connection of its own."""
        return Validator(await self.connect(source), hotkey)

    def __enter__(self) -> Self:
        return self if self.process is not None else self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
