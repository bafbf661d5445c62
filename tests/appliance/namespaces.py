"""A small internet of network namespaces: machines that reach each other over one switch, with real packets.

Nothing of the host's own network is touched. A thread that has joined a namespace opens its sockets and starts its
processes there; they stay there, whoever uses them later.
"""

import itertools
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pytest

SECONDS: Final = 20.0
SILENT_SECONDS: Final = 1.5
"""After so long without an answer to an attempt, we are dropped: the kernel answers at once otherwise."""
_numbers: Final = itertools.count()


def why_not() -> str | None:
    """What this machine lacks for namespaces and packet filters; None when all is there."""
    if os.geteuid() != 0:
        return "network namespaces need root: run the tests as root to try the firewall's real rules"
    missing = [name for name in ("ip", "nft") if shutil.which(name) is None]
    if missing:
        return (
            f"{' and '.join(missing)} not installed: `apt install iproute2 nftables` to try the firewall's real rules"
        )
    tried = subprocess.run(["unshare", "--net", "nft", "list", "tables"], capture_output=True, text=True, check=False)
    return f"no namespaces or no nf_tables here: {tried.stderr.strip()}" if tried.returncode else None


def run(*command: str, text: str = "") -> str:
    """Run a command to its end; gives stdout."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class Machine:
    """One namespace, with `lo` up and as many cards as it is given."""

    def __init__(self, role: str) -> None:
        self.name = f"lm{os.getpid()}-{next(_numbers)}-{role}"
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> None:
        """Configure it."""
        run("ip", "-n", self.name, *arguments)

    def plug(self, card: str, other: "Machine", other_card: str, *addresses: str) -> None:
        """Lay a cable to another machine and give our end its addresses."""
        self.ip("link", "add", card, "type", "veth", "peer", "name", other_card, "netns", other.name)
        other.ip("link", "set", other_card, "up")
        self.ip("link", "set", card, "up")
        for address in addresses:
            self.ip("addr", "add", address, "dev", card, *(("nodad",) if ":" in address else ()))

    def nft(self, *arguments: str, text: str = "") -> str:
        """Run `nft`."""
        return self.inside(lambda: run("nft", *arguments, text=text))

    def rules(self, table: str | None = None) -> str:
        """All rules, or one table's, without counters' figures."""
        return self.nft("-s", "list", "ruleset" if table is None else "table", *(table or "").split())

    def inside[T](self, job: Callable[[], T]) -> T:
        """Do a job in a thread that has joined this namespace; give what it gives, raise what it raises."""
        results: list[T] = []
        errors: list[BaseException] = []

        def joined() -> None:
            try:
                with Path(f"/run/netns/{self.name}").open("rb") as namespace:
                    os.setns(namespace.fileno(), os.CLONE_NEWNET)
                results.append(job())
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
                errors.append(error)

        thread = threading.Thread(target=joined)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def connect(
        self, address: str, port: int, *, seconds: float = SECONDS, source: tuple[str, int] | None = None
    ) -> socket.socket:
        """Connect from here. Errors: TimeoutError when nothing answers, ConnectionRefusedError."""
        return self.inside(lambda: socket.create_connection((address, port), seconds, source))

    def gets_in(self, address: str, port: int) -> bool:
        """Whether a connection comes about; False when the attempt is dropped, an error when it is refused."""
        try:
            self.connect(address, port, seconds=SILENT_SECONDS).close()
        except TimeoutError:
            return False
        return True

    def remove(self) -> None:
        """Take it off the net; its cables go with it."""
        run("ip", "netns", "del", self.name)


class EchoServer(AbstractContextManager["EchoServer"]):
    """Sends back what it receives, on every address of a machine, IPv4 and IPv6."""

    def __init__(self, machine: Machine, port: int) -> None:
        self._socket = machine.inside(
            lambda: socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
        )
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=_echo, args=(connection,), daemon=True).start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in (self._socket, *self._open):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
            finally:
                one.close()
        self._thread.join()
        for one in self._open:  # the last one may have come while the others were closed
            one.close()


def _echo(connection: socket.socket) -> None:
    try:
        while data := connection.recv(4096):
            connection.sendall(data)
    except OSError:
        return


def echoed(connection: socket.socket, text: bytes = b"are you there?") -> bool:
    """Whether the other end still sends back what it gets; False when nothing comes."""
    connection.settimeout(SILENT_SECONDS)
    connection.sendall(text)
    try:
        return connection.recv(4096) == text
    except TimeoutError:
        return False


class Net:
    """A miner's machine, a validator's and a stranger's, on one switch.

    192.0.2.1, .2 and .66; 2001:db8::1, ::2 and ::66.
    """

    def __init__(self) -> None:
        self.machines = []

    machines: list[Machine]
    miner: Machine
    validator: Machine
    stranger: Machine

    def _build(self) -> None:
        self._switch = self._add("switch")
        self._switch.ip("link", "add", "ports", "type", "bridge")
        self._switch.ip("link", "set", "ports", "up")
        self.miner = self.machine("miner", "192.0.2.1/24", "2001:db8::1/64")
        self.validator = self.machine("validator", "192.0.2.2/24", "2001:db8::2/64")
        self.stranger = self.machine("stranger", "192.0.2.66/24", "2001:db8::66/64")

    def _add(self, role: str) -> Machine:
        machine = Machine(role)
        self.machines.append(machine)
        return machine

    def machine(self, role: str, *addresses: str) -> Machine:
        """One more machine on the switch."""
        machine = self._add(role)
        machine.plug("eth0", self._switch, role, *addresses)
        self._switch.ip("link", "set", role, "master", "ports")
        return machine

    def container(self) -> Machine:
        """A machine behind the miner's, as a container engine makes it: own network, NAT, a published port's DNAT."""
        container = self._add("container")
        container.plug("eth0", self.miner, "pod0", "172.30.0.2/24", "fd30::2/64")
        self.miner.ip("addr", "add", "172.30.0.1/24", "dev", "pod0")
        self.miner.ip("addr", "add", "fd30::1/64", "dev", "pod0", "nodad")
        container.ip("route", "add", "default", "via", "172.30.0.1")
        container.ip("route", "add", "default", "via", "fd30::1")
        self.miner.inside(_forward)
        return container

    def remove(self) -> None:
        """Take all of it away."""
        for machine in reversed(self.machines):
            machine.remove()

    def __enter__(self) -> Self:
        """Build it, or skip the test and say why."""
        if reason := why_not():
            pytest.skip(reason)
        try:
            self._build()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def _forward() -> None:
    for switch in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", switch).write_text("1", encoding="ascii")
