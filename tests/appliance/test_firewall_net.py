"""The firewall's rules under real packets: a validator, a stranger, a container, in network namespaces.

The rules are loaded by the command an operator types, inside the miner's namespace, from a list as the miner keeps it.
"""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest

from app.domain.firewall.ruleset import ruleset
from app.domain.firewall.sources import Sources
from tests.appliance.kept_list import keep_list
from tests.appliance.namespaces import SECONDS, EchoServer, Machine, Net, echoed
from tests.chain.api_process import ChallengeApiProcess
from tests.chain.registered import on_chain, write_hotkey
from tests.cli.command import Outcome
from tests.cli.command import run as run_command
from tests.miner.process import MinerProcess, StubEngine

PORT = 8000
SSH = 2222
V4, V6 = "192.0.2.1", "2001:db8::1"
MINER = (V4, V6)
VALIDATOR = ("192.0.2.2", "2001:db8::2")
OTHER = ("192.0.2.3", "2001:db8::3")
AUDIT = """
table inet audit {
    chain arriving {
        type filter hook prerouting priority -310;
        tcp dport 8000 tcp flags & (syn | ack) == syn ip saddr 192.0.2.2 counter
    }
    chain let_in {
        type filter hook input priority 0;
        tcp dport 8000 tcp flags & (syn | ack) == syn ip saddr 192.0.2.2 counter
        tcp dport 8000 ip saddr 192.0.2.66 counter
    }
}
"""

KNOCKS = f"""
import socket
while True:
    with socket.socket() as attempt:
        attempt.settimeout(0)
        attempt.connect_ex(("{V4}", {PORT}))
"""
"""Attempts without end; each is broken off as soon as it is made."""


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    with Net() as net:
        yield net


@pytest.fixture
def clean(net: Net) -> Net:
    """The net, without any rules in the miner's machine."""
    net.miner.nft("flush", "ruleset")
    return net


@pytest.fixture
def servers(clean: Net) -> Iterator[Net]:
    """What listens on the miner's port, and an SSH server's stand-in."""
    with EchoServer(clean.miner, PORT), EchoServer(clean.miner, SSH):
        yield clean


def firewall(net: Net, home: Path, *arguments: str, **given: str) -> Outcome:
    settings = {"STATE_DIR": str(home / "state"), "API_PORT": str(PORT)} | given
    return net.miner.inside(lambda: run_command(home, "firewall", *arguments, seconds=60, **settings))


def apply(net: Net, home: Path, *arguments: str, **given: str) -> Outcome:
    """Apply, letting in addresses that are for documentation only."""
    done = firewall(net, home, "apply", "--allow-private", *arguments, **given)
    assert done.code == 0, done.err
    return done


@pytest.mark.slow
def test_a_validator_is_answered_and_a_stranger_hears_nothing(clean: Net, tmp_path: Path) -> None:
    """The real miner, its own list of the Challenge API's validators, and a whole challenge through the rules."""
    home, wallets = tmp_path / "miner", tmp_path / "wallets"
    home.mkdir()
    write_hotkey(home)
    listed: list[dict[str, str]] = []
    for name, address in zip(("v4", "v6"), VALIDATOR, strict=True):
        wallet = wallets / name / "hotkeys"
        wallet.mkdir(parents=True)
        listed.append({"hotkey_ss58": write_hotkey(wallet).ss58, "status": "active", "ip": address})
    with ExitStack() as stack:
        engine = stack.enter_context(clean.miner.inside(StubEngine))
        api = stack.enter_context(clean.miner.inside(ChallengeApiProcess))
        clean.miner.inside(engine.behave)
        clean.miner.inside(lambda: api.behave(*listed))
        settings: dict[str, object] = {
            "LLM_BACKEND": "vllm",
            "VLLM_API_BASE": engine.base_url,
            "DEFAULT_MODEL": engine.model,
            **on_chain(home, None, api, API_HOST="::", API_PORT=PORT),
        }
        miner = MinerProcess(home, settings)
        miner.port = PORT
        clean.miner.inside(miner.start)
        stack.callback(miner.stop)
        given = {name: str(value) for name, value in settings.items()} | {"STATE_DIR": str(miner.state)}
        apply(clean, tmp_path, **given)

        def ask(wallet: str, address: str) -> Outcome:
            asked = ("challenge", "Who are you?", "--url", f"http://{address}:{PORT}")
            named = ("--wallet-name", wallet, "--hotkey", "hotkey")
            return run_command(tmp_path, *asked, *named, WALLET_PATH=str(wallets))

        for wallet, address in (("v4", V4), ("v6", f"[{V6}]")):
            done = clean.validator.inside(partial(ask, wallet, address))
            assert done.code == 0, done.err
        for address in MINER:
            assert not clean.stranger.gets_in(address, PORT)
        assert clean.miner.gets_in("127.0.0.1", PORT)


def test_ssh_udp_and_the_machine_itself_are_untouched(servers: Net, tmp_path: Path) -> None:
    keep_list(tmp_path / "state", {"validator": VALIDATOR})
    apply(servers, tmp_path)
    for address in MINER:
        assert servers.validator.gets_in(address, PORT)
        assert not servers.stranger.gets_in(address, PORT)
        assert servers.stranger.gets_in(address, SSH)
        assert servers.miner.gets_in(address, PORT), "the machine calls its own address"
    for address in ("127.0.0.1", "::1"):
        assert servers.miner.gets_in(address, PORT)
    with servers.miner.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as here:
        here.bind((V4, PORT))
        here.settimeout(SECONDS)
        with servers.stranger.inside(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as there:
            there.sendto(b"UDP", (V4, PORT))
        assert here.recv(16) == b"UDP"
    assert "dropped    0 packets" not in firewall(servers, tmp_path, "status").out


def test_open_connections_of_validators_stay_and_strangers_end(servers: Net, tmp_path: Path) -> None:
    with ExitStack() as stack:
        kept = [stack.enter_context(servers.validator.connect(address, PORT)) for address in MINER]
        ended = [stack.enter_context(servers.stranger.connect(address, PORT)) for address in MINER]
        assert all(map(echoed, [*kept, *ended]))
        keep_list(tmp_path / "state", {"validator": VALIDATOR})
        apply(servers, tmp_path)
        assert all(map(echoed, kept))
        assert not any(map(echoed, ended))
        keep_list(tmp_path / "state", {"validator": VALIDATOR, "other": OTHER})
        assert apply(servers, tmp_path).out.startswith("loaded")
        assert all(map(echoed, kept))


def test_replies_to_own_connections_come_in(servers: Net, tmp_path: Path) -> None:
    """Also where the machine calls a stranger from the very port that is judged."""
    keep_list(tmp_path / "state", {"validator": VALIDATOR})
    apply(servers, tmp_path, FIREWALL_PORT="45000")
    with (
        EchoServer(servers.stranger, SSH),
        servers.miner.connect("192.0.2.66", SSH, source=(V4, 45000)) as v4,
        servers.miner.connect("2001:db8::66", SSH, source=(V6, 45000)) as v6,
    ):
        assert echoed(v4)
        assert echoed(v6)


def test_a_containers_published_port_is_covered(clean: Net, tmp_path: Path) -> None:
    """DNAT comes after the rules: they see the published number, and the container's own traffic passes."""
    container = clean.container()
    clean.miner.nft(
        "-f",
        "-",
        text="""
        table inet engine {
            chain published {
                type nat hook prerouting priority dstnat;
                fib daddr type local tcp dport 9000 dnat ip to 172.30.0.2:8000
                fib daddr type local tcp dport 9000 dnat ip6 to [fd30::2]:8000
            }
            chain out {
                type nat hook postrouting priority srcnat;
                ip saddr 172.30.0.0/24 oifname "eth0" masquerade
                ip6 saddr fd30::/64 oifname "eth0" masquerade
            }
        }
        """,
    )
    before = clean.miner.rules()
    keep_list(tmp_path / "state", {"validator": VALIDATOR})
    with EchoServer(container, PORT), EchoServer(clean.stranger, PORT):
        assert clean.stranger.gets_in(V4, 9000)
        apply(clean, tmp_path, FIREWALL_PORT="9000")
        for address in MINER:
            with clean.validator.connect(address, 9000) as connection:
                assert echoed(connection)
            assert not clean.stranger.gets_in(address, 9000)
        # Out through the machine, to the number that is judged: not to this machine, so not judged.
        apply(clean, tmp_path, FIREWALL_PORT=str(PORT))
        for address in ("192.0.2.66", "2001:db8::66"):
            with container.connect(address, PORT) as connection:
                assert echoed(connection)
    assert firewall(clean, tmp_path, "remove").code == 0
    assert clean.miner.rules() == before


def test_requests_are_answered_while_rules_are_replaced(servers: Net, tmp_path: Path) -> None:
    done = threading.Event()
    answered = [0]

    def call() -> None:
        while not done.is_set():
            with socket.create_connection((V4, PORT), SECONDS) as connection:
                assert echoed(connection, b"challenge")
            answered[0] += 1

    keep_list(tmp_path / "state", {"validator": VALIDATOR})
    apply(servers, tmp_path)
    with ThreadPoolExecutor(1) as callers:
        calls = callers.submit(lambda: servers.validator.inside(call))
        try:
            for turn in range(3):
                before = answered[0]
                keep_list(tmp_path / "state", {"validator": VALIDATOR, "other": (f"198.51.100.{turn + 1}",)})
                assert apply(servers, tmp_path).out.startswith("loaded")
                assert answered[0] > before
        finally:
            done.set()
        calls.result()


@pytest.mark.slow
def test_no_attempt_is_lost_and_none_slips_in_while_rules_are_replaced(servers: Net) -> None:
    """As the kernel counts: each of the validator's attempts passes each of many replacements, none of the stranger's.

    An interval set would lose one or two attempts in a hundred replacements.
    """
    rules = [
        ruleset(
            Sources(
                addresses=tuple(ip_address(f"198.51.100.{number}") for number in range(turn + 1, turn + 20))
                + tuple(map(ip_address, VALIDATOR)),
                networks=(),
                published=VALIDATOR,
                validators=1,
                unreachable=(),
                unfit=(),
            ),
            PORT,
        ).as_nft()
        for turn in (0, 100)
    ]
    servers.miner.nft("-f", "-", text=rules[0] + AUDIT)
    knock = [sys.executable, "-c", KNOCKS]
    with ExitStack() as stack:
        for machine in (servers.validator, servers.validator, servers.stranger):
            knocking = machine.inside(lambda: subprocess.Popen(knock, stdin=subprocess.DEVNULL))
            stack.callback(knocking.wait)
            stack.callback(knocking.kill)
        for turn in range(100):
            servers.miner.nft("-f", "-", text=rules[turn % 2])
    arrived, let_in, strangers = settled(lambda: counters(servers.miner))
    assert arrived == let_in > 1000
    assert strangers == 0


def settled(read: Callable[[], list[int]]) -> list[int]:
    """What is read once it changes no more."""
    before, now = [-1], read()
    while before != now:
        before, now = now, read()
    return now


def counters(machine: Machine) -> list[int]:
    """Packets of each of the audit's rules."""
    words = machine.nft("list", "table", "inet", "audit").split()
    return [int(words[at + 1]) for at, word in enumerate(words) if word == "packets"]


def test_removing_takes_everything(servers: Net, tmp_path: Path) -> None:
    before = servers.miner.rules()
    keep_list(tmp_path / "state", {"validator": VALIDATOR})
    apply(servers, tmp_path)
    assert not servers.stranger.gets_in(V4, PORT)
    assert firewall(servers, tmp_path, "remove").out == "removed: anybody may reach the port again\n"
    assert servers.stranger.gets_in(V4, PORT)
    assert servers.miner.rules() == before
    assert {file.name for file in (tmp_path / "state").iterdir()} <= {"miner.db", "miner.db-wal", "miner.db-shm"}
    assert firewall(servers, tmp_path, "remove").out == "nothing to remove\n"
