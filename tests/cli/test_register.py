"""`register` and `fiber-post-ip` as commands: exit codes, what is said where, real wallets, a real node, a real miner.

All addresses here are loopback's: the commands ask the address that they post whether a miner answers there.
"""

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, cast

import bittensor_core  # pyright: ignore[reportMissingTypeStubs]
import pytest

from tests.chain.node_process import ChainNode
from tests.cli.command import Outcome, command, environment, run
from tests.conftest import StartChain
from tests.miner.process import MinerProcess

NETUID: Final = 78
CORE: Final[Any] = bittensor_core
PASSWORD: Final = "canary pässword"
HERE: Final = ("--address", "127.0.0.2", "--port", "8091", "--allow-private")


class Box:
    """A machine with a wallet."""

    def __init__(self, home: Path, node: ChainNode) -> None:
        self.home = home
        self.node = node
        keypair = CORE.Keypair.create_from_mnemonic(CORE.Keypair.generate_mnemonic(12))
        self.hotkey: str = keypair.ss58_address
        self.plain: bytes = CORE.serialized_keypair_to_keyfile_data(keypair)
        self.file = home / ".bittensor/wallets/miner/hotkeys/miner"
        self.file.parent.mkdir(parents=True)
        self.write(self.plain)

    def write(self, content: bytes) -> None:
        self.file.write_bytes(content)
        self.file.chmod(0o600)

    def run(self, *arguments: str, program: str = "register", **given: str) -> Outcome:
        settings: dict[str, Any] = {"SUBTENSOR_ADDRESS": self.node.url, **given}
        if program == "register":
            done = run(self.home, "register", *arguments, seconds=120, **settings)
        else:
            done = fiber_post_ip(self.home, *arguments, **settings)
        self.shows_no_secret(done.out + done.err)
        return done

    def shows_no_secret(self, text: str) -> None:
        for name, value in json.loads(self.plain).items():
            if name.startswith(("secret", "private")):
                assert str(value) not in text
        assert PASSWORD not in text

    def held(self) -> tuple[int, int] | None:
        axon = self.node.axon(NETUID, self.hotkey)
        return (axon["ip"], axon["port"]) if axon else None


def fiber_post_ip(home: Path, *arguments: str, **given: str) -> Outcome:
    """The console script that the package installs."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "fiber-post-ip"), *arguments],
        cwd=home,
        env=environment(home, **given),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def node(start_chain: StartChain) -> ChainNode:
    node = start_chain("--block-ms", "50")
    node.add_subnet(NETUID)
    return node


@pytest.fixture
def box(tmp_path: Path, node: ChainNode) -> Box:
    node.behave()
    return Box(tmp_path, node)


def test_an_encrypted_wallet_posts_and_the_second_time_there_is_nothing_to_do(box: Box) -> None:
    box.node.register(NETUID, box.hotkey)
    box.write(CORE.encrypt_keyfile_data(box.plain, PASSWORD))
    (box.home / "password").write_text(PASSWORD)
    (box.home / "password").chmod(0o600)
    given = {"HOTKEY_PASSWORD_FILE": str(box.home / "password")}
    first = box.run(*HERE, "--yes", "--json", **given)
    assert first.code == 0, first.err
    report = first.object()
    assert (report["outcome"], report["chain"], report["wanted"]) == ("posted", None, "127.0.0.2:8091")
    assert (report["hotkey"], report["netuid"], report["error"]) == (box.hotkey, NETUID, None)
    assert report["reach"]["answer"] == "none"
    assert box.held() == (0x7F000002, 8091)
    box.write(box.plain)
    second = box.run(*HERE)
    assert (second.code, second.err) == (0, ""), "nothing is asked when there is nothing to post"
    assert "the chain says so already: nothing to post" in second.out
    assert box.node.stats().submitted == 1


def test_the_posted_address_is_asked_as_a_validator_asks(box: Box, miner: MinerProcess) -> None:
    box.node.register(NETUID, box.hotkey)
    done = box.run("--address", "127.0.0.1", "--port", str(miner.port), "--allow-private", "--dry-run")
    assert (done.code, done.err) == (0, "")
    assert f"hotkey   {box.hotkey}, UID " in done.out
    assert f"wanted   127.0.0.1:{miner.port}\n" in done.out
    assert f"reach    http://127.0.0.1:{miner.port}/availability answers, and the miner is ready" in done.out
    assert box.node.stats().submitted == 0


def test_without_a_person_and_without_yes_it_refuses(box: Box) -> None:
    box.node.register(NETUID, box.hotkey)
    for form in ((), ("--json",)):
        done = box.run(*HERE, *form)
        assert done.code == 2
        assert "give --yes to post, or --dry-run to look" in done.err
    assert box.held() is None


@pytest.mark.parametrize(("answer", "code", "posted"), [("n", 1, 0), ("y", 0, 1)])
def test_a_person_is_asked(box: Box, answer: str, code: int, posted: int) -> None:
    box.node.register(NETUID, box.hotkey)
    person, terminal = pty.openpty()
    os.write(person, answer.encode() + b"\n")
    done = subprocess.run(
        command("register", *HERE, "--no-probe"),
        cwd=box.home,
        env=environment(box.home, SUBTENSOR_ADDRESS=box.node.url),
        stdin=terminal,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    os.close(person)
    os.close(terminal)
    assert "post this? [y/N]" in done.stderr
    assert (done.returncode, box.node.stats().submitted) == (code, posted)


def test_no_uid_ends_with_3_and_names_the_command(box: Box) -> None:
    done = box.run(*HERE, "--yes")
    assert (done.code, done.out) == (3, "")
    (line,) = done.err.splitlines()
    assert f"btcli subnet register --netuid 78 --network {box.node.url} --wallet miner --hotkey {box.hotkey}" in line


def test_a_silent_node_ends_it_in_time_with_cause_and_remedy(box: Box) -> None:
    box.node.behave(silent=True)
    started = time.monotonic()
    done = box.run(*HERE, "--yes", "--timeout", "2")
    assert (done.code, done.out) == (1, "")
    (line,) = done.err.splitlines()
    assert f"{box.node.url} did not answer within 2 s: see whether the node is up" in line
    assert time.monotonic() - started < 40, "two seconds, the start, and room for a loaded machine"
    failed = box.run(*HERE, "--yes", "--timeout", "1", "--json")
    assert failed.object()["error"]["code"] == "timeout"
    assert failed.code == 1


def test_wrong_wallet_settings_and_addresses_end_with_2(box: Box) -> None:
    for done in (
        box.run("--address", "192.168.1.1", "--yes"),
        box.run("--address", "8.8.8.8", "--allow-private", SUBTENSOR_ADDRESS=""),
        box.run(*HERE, "--yes", WALLET_NAME="none"),
        box.run(*HERE, "--port", "0"),
    ):
        assert (done.code, done.out) == (2, "")
        assert done.err
    assert box.node.stats().connections == 0, "all of it is seen without the chain"


def test_the_help_tells_the_exit_codes() -> None:
    for said in (run(Path("/"), "register", "--help").out, fiber_post_ip(Path("/"), "--help").out):
        flat = " ".join(said.split())
        assert "Exit codes: 0 the chain holds the address" in flat
        assert "4 a post was sent and its outcome is not known" in flat


FLAGS: Final = ("--netuid", "78", "--wallet.name", "owner", "--wallet.hotkey", "box", "--external_port", "8000")


def test_fiber_post_ip_takes_the_flags_that_operators_know(box: Box) -> None:
    box.node.register(NETUID, box.hotkey)
    named = box.home / ".bittensor/wallets/owner/hotkeys/box"
    named.parent.mkdir(parents=True)
    box.file.rename(named)
    # The wallet named by flags wins over a file that .env names.
    (box.home / ".env").write_text("HOTKEY_FILE=/nonexistent\nNETUID=1\n")
    network = ("--subtensor.network", "local", "--subtensor.chain_endpoint", box.node.url)
    done = box.run(*FLAGS, *network, "--external_ip", "127.0.0.3", program="fiber-post-ip", SUBTENSOR_ADDRESS="")
    assert done.code == 0, done.err
    assert "posted: the chain holds 127.0.0.3:8000" in done.out
    stored = cast("dict[str, int]", box.node.axon(NETUID, box.hotkey))
    assert {name: stored[name] for name in ("ip", "port", "ip_type", "protocol", "version")} == {
        "ip": 0x7F000003,
        "port": 8000,
        "ip_type": 4,
        "protocol": 4,
        "version": 1,
    }
    again = box.run(*FLAGS, *network, "--external_ip", "127.0.0.3", program="fiber-post-ip")
    assert again.code == 0
    assert box.node.stats().submitted == 1


def test_fiber_post_ip_is_honest_about_failures(box: Box) -> None:
    flags = ("--netuid", "78", "--wallet.name", "miner", "--wallet.hotkey", "miner", "--external_port", "8000")
    endpoint = ("--subtensor.chain_endpoint", box.node.url)
    private = box.run(*flags, *endpoint, "--external_ip", "10.0.0.1", program="fiber-post-ip")
    assert private.code == 2
    assert "10.0.0.1 is private" in private.err
    local = ("--subtensor.network", "local")
    unknown = box.run(*flags, *endpoint, *local, "--external_ip", "127.0.0.3", program="fiber-post-ip")
    assert unknown.code == 3
    missing = box.run("--netuid", "78", program="fiber-post-ip")
    assert missing.code == 2
    assert box.held() is None
