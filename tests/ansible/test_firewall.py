"""Role firewall on a real box, with packets from addresses of other machines: strangers out, SSH never."""

import itertools
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.ansible.playing import EACH_ROLE, Played, Site
from tests.appliance.kept_list import keep_list
from tests.appliance.namespaces import SECONDS, Machine, run
from tests.boxes.boxes import BRIDGE, NET, Box, Boxes, why_not
from tests.boxes.offline import app_wheel, offline_dir

PORT: Final = 8000
OTHER_PORT: Final = 8123
VALIDATOR: Final = f"{NET}.251"
STRANGER: Final = f"{NET}.252"
MOST_VALIDATORS_MISSING: Final = 3
TABLE: Final = ("nft", "-s", "list", "table", "inet", "loosh_host")
_numbers: Final = itertools.count()

pytestmark = [pytest.mark.slow, EACH_ROLE, pytest.mark.timeout(900)]


class Neighbour(Machine):
    """A machine of its own on the boxes' bridge."""

    def __init__(self, role: str, address: str) -> None:
        super().__init__(role)
        port = f"lmn{os.getpid() % 10000}-{next(_numbers)}"
        self.ip("link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", "1")
        run("ip", "link", "set", port, "master", BRIDGE, "up")
        self.ip("link", "set", "eth0", "up")
        self.ip("addr", "add", f"{address}/24", "dev", "eth0")


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    if reason := why_not():
        pytest.skip(reason)
    with Boxes() as boxes:
        box = boxes.create("fwone", "bookworm")
        for port in (PORT, OTHER_PORT):
            box.exec("systemd-run", f"--unit=listen-{port}", "python3", "-m", "http.server", str(port))
        yield box


@pytest.fixture(scope="module")
def around(box: Box) -> Iterator[dict[str, Neighbour]]:
    """A validator and a stranger, who both reach the box's net."""
    assert box.address.startswith(NET)
    machines: dict[str, Neighbour] = {}
    try:
        for role, address in (("validator", VALIDATOR), ("stranger", STRANGER)):
            machines[role] = Neighbour(role, address)
        yield machines
    finally:
        for machine in machines.values():
            machine.remove()


@pytest.fixture
def site(box: Box, tmp_path: Path) -> Site:
    plays: list[dict[str, Any]] = [{"hosts": "miner", "become": True, "roles": ["firewall"]}]
    (tmp_path / "firewall.yml").write_text(yaml.safe_dump(plays), encoding="utf-8")
    return Site(tmp_path, {"miner": [box], "inference": [box]})


def play(site: Site, **variables: Any) -> Played:  # noqa: ANN401 - Ansible's variables
    return site.play(str(site.folder / "firewall.yml"), **variables)


def until_it_listens(machine: Machine, address: str, port: int) -> None:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        try:
            machine.connect(address, port).close()
        except ConnectionRefusedError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"nothing listens on {port}")


def test_strangers_reach_ssh_and_the_miner_and_nothing_else(site: Site, box: Box, around: dict[str, Neighbour]) -> None:
    stranger = around["stranger"]
    play(site, firewall_enabled=False)
    until_it_listens(stranger, box.address, OTHER_PORT)
    until_it_listens(stranger, box.address, PORT)
    play(site)
    assert stranger.gets_in(box.address, 22)
    assert stranger.gets_in(box.address, PORT)
    assert not stranger.gets_in(box.address, OTHER_PORT)
    again = play(site)
    assert again.changed == 0, again.output
    site.play(str(site.folder / "firewall.yml"), check=True)
    # nftables' own service takes all tables away whenever it is started: ours comes back.
    box.exec("systemctl", "restart", "nftables.service")
    until = time.monotonic() + SECONDS
    while "policy drop" not in box.exec(*TABLE, check=False).stdout:
        assert time.monotonic() < until, "the rules do not come back"
        time.sleep(0.2)
    # Somebody's own hands: the next run puts it right.
    box.exec("nft", "add", "rule", "inet", "loosh_host", "input", "tcp", "dport", "7", "accept")
    assert play(site).changed > 0
    assert stranger.gets_in(box.address, 22)
    box.exec("systemctl", "is-enabled", "loosh-host-firewall.service")


def test_rules_that_nft_refuses_are_never_loaded(site: Site, box: Box) -> None:
    play(site)
    before = box.exec(*TABLE).stdout
    done = site.play(
        str(site.folder / "firewall.yml"), fails=True, firewall_extra_rules=[{"port": 99, "sources": ["no address"]}]
    )
    assert "failed to validate" in done.said
    assert box.exec(*TABLE).stdout == before
    assert "99" not in box.read("/etc/loosh-miner/firewall/candidate.nft")


def test_rules_that_lock_ssh_out_are_taken_back_by_the_box_itself(
    site: Site, box: Box, around: dict[str, Neighbour]
) -> None:
    play(site)
    before = box.exec(*TABLE).stdout
    done = site.play(
        str(site.folder / "firewall.yml"), fails=True, _firewall_ssh_ports=[2222], firewall_rollback_seconds=15
    )
    assert "timed out" in done.said
    until = time.monotonic() + 60
    while box.exec(*TABLE).stdout != before:
        assert time.monotonic() < until, "the old rules are not put back"
        time.sleep(0.5)
    assert around["stranger"].gets_in(box.address, 22)
    assert "2222" not in box.read("/etc/loosh-miner/firewall/host.nft")
    assert play(site).failed == 0


def test_a_list_for_ssh_without_the_operator_is_refused(site: Site, box: Box, around: dict[str, Neighbour]) -> None:
    book = str(site.folder / "firewall.yml")
    done = site.play(book, fails=True, firewall_ssh_sources=["203.0.113.0/24"])
    assert f"does not hold {NET}.1" in done.said
    play(site, firewall_ssh_sources=[f"{NET}.1"])
    assert not around["stranger"].gets_in(box.address, 22)
    play(site)
    assert around["stranger"].gets_in(box.address, 22)


def test_only_validators_reach_the_port_and_an_empty_list_keeps_the_last_good_rules(
    site: Site, box: Box, around: dict[str, Neighbour], tmp_path: Path
) -> None:
    """The app's own `firewall apply`, by the role, on the box."""
    wheel = app_wheel(tmp_path)
    book = [
        {
            "hosts": "miner",
            "become": True,
            "vars": {"app_release_repository": str(Path(__file__).parents[2])},
            "roles": ["base", "python_runtime", "app_release"],
        }
    ]
    (tmp_path / "app.yml").write_text(yaml.safe_dump(book), encoding="utf-8")
    tools = str(Path(__file__).parents[2] / "toolchain" / "tools.lock")
    site.play(
        str(tmp_path / "app.yml"),
        miner_offline_dir=str(offline_dir()),
        app_release_wheel=str(wheel),
        python_runtime_lock=tools,
        base_swap_gb=0,
    )
    state = "/var/lib/loosh-miner"
    box.write("/etc/loosh-miner/miner.env", f"STATE_DIR={state}\nAPI_PORT={PORT}\n")
    validator, stranger = around["validator"], around["stranger"]

    def listed(addresses: dict[str, tuple[str, ...]], age: float = 0) -> None:
        kept = tmp_path / "kept"
        shutil.rmtree(kept, ignore_errors=True)
        keep_list(kept, addresses, age=age)
        for file in kept.iterdir():
            box.write(f"{state}/{file.name}", file.read_bytes())

    # No list yet: open to all, and said.
    assert "Not only validators reach" in play(site, firewall_validators_only=True).said
    assert stranger.gets_in(box.address, PORT)
    # The addresses here are private, which the role's own call never lets in: so the first time by hand.
    listed({"validator": (VALIDATOR,)})
    apply = (
        "/opt/loosh-miner/current/bin/loosh-miner",
        "firewall",
        "apply",
        "--env-file",
        "/etc/loosh-miner/miner.env",
    )
    box.exec(*apply, "--allow-private")
    for role in (1, 2):
        assert validator.gets_in(box.address, PORT), role
        assert not stranger.gets_in(box.address, PORT), role
        assert stranger.gets_in(box.address, 22), role
        listed({}, age=role)
        refused = box.exec(*apply, check=False)
        assert refused.returncode == MOST_VALIDATORS_MISSING, refused.stderr
        play(site, firewall_validators_only=True)
    play(site, firewall_validators_only=False)
    assert stranger.gets_in(box.address, PORT)
