"""site.yml from a bare Debian to a miner that answers, without a GPU: real boxes, the real program, the real model."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import pytest
import testinfra  # pyright: ignore[reportMissingTypeStubs]

from tests.ansible.playing import ROOT, Played, Site
from tests.boxes.boxes import Box, Boxes, why_not
from tests.boxes.offline import app_wheel, offline_dir
from tests.chain.registered import write_hotkey

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.timeout(2400),
]
CLI: Final = Path(sys.executable).parent / "loosh-miner"
# What Debian's archive gives; a box without a way out has them from a mirror, or its image.
PACKAGES: Final = ("python3-apt", "python3-venv", "unattended-upgrades", "systemd-timesyncd", "nftables")


@dataclass(frozen=True)
class Provisioned:
    """A box after its first run; what a check before it said."""

    site: Site
    box: Box
    checked: Played
    first: Played


def _site(folder: Path, box: Box, **variables: Any) -> Site:  # noqa: ANN401 - Ansible's variables
    write_hotkey(folder)
    given: dict[str, Any] = {
        "miner_hotkey_src": str(folder / "hotkey"),
        "miner_offline_dir": str(offline_dir()),
        "app_release_wheel": str(app_wheel(folder)),
        "engine_profile_backend": "llamacpp",
        "selftest_wallet": str(folder / "asker"),
        "monitoring_enabled": False,
        # Nobody is there: the miner serves those that its settings name, which is the self-test alone.
        "miner_settings": {
            "SUBTENSOR_NETWORK": "local",
            "SUBTENSOR_ADDRESS": "ws://127.0.0.1:9",
            "CHALLENGE_API_URL": "http://127.0.0.1:9",
        },
    }
    return Site(folder, {"miner": [box], "inference": [box]}, **given | variables)


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def provisioned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provisioned]:
    suite: str = request.param
    folder = tmp_path_factory.mktemp(suite)
    with Boxes() as boxes:
        box = boxes.create(f"site-{suite[:4]}", suite)
        # trixie is provisioned without a way out but for what its archive gave it before.
        site = _site(folder, box)
        checked = site.play(check=True)
        if suite == "trixie":
            box.sh(f"DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends {' '.join(PACKAGES)}")
            box.egress(on=False)
        yield Provisioned(site, box, checked, site.play())


def _asked(provisioned: Provisioned, *options: str) -> subprocess.CompletedProcess[str]:
    wallet = ("--wallet-name", "asker", "--hotkey", "asker")
    question = (
        "challenge",
        "Say yes.",
        "--json",
        "--max-tokens",
        "8",
        "--url",
        f"http://{provisioned.box.address}:8000",
    )
    return subprocess.run(
        [str(CLI), *question, *wallet, "--env-file", "/dev/null", *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        env={"WALLET_PATH": str(provisioned.site.folder), "HOME": str(provisioned.site.folder), "PATH": "/usr/bin"},
    )


def test_a_check_of_a_fresh_box_tells_what_would_come_and_does_nothing_of_it(provisioned: Provisioned) -> None:
    assert provisioned.checked.changed > 0
    assert "loosh-miner.service" in provisioned.checked.output
    # Without a release of its own the box had no miner: all of it came with the first run.
    assert provisioned.first.changed > provisioned.checked.changed // 2


def test_the_first_run_ends_with_an_answer_and_the_second_changes_nothing(provisioned: Provisioned) -> None:
    assert "TASK [selftest : Say what it answered]" in provisioned.first.output
    second = provisioned.site.play()
    print(  # noqa: T201 - the figures, with -s
        f"\n{provisioned.box.suite}: first {provisioned.first.seconds:.0f} s, {provisioned.first.changed} changed;"
        f" second {second.seconds:.0f} s, {second.changed} changed"
    )
    assert second.changed == 0, second.output


def test_the_hosts_challenge_is_answered_and_a_strangers_is_not(provisioned: Provisioned) -> None:
    answered = _asked(provisioned)
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout)
    stranger = subprocess.run(
        [str(CLI), "challenge", "Say yes.", "--url", f"http://{provisioned.box.address}:8000"],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=provisioned.site.folder,
    )
    assert stranger.returncode == 3, stranger.stderr


def test_it_answers_again_within_a_minute_of_a_reboot(provisioned: Provisioned) -> None:
    provisioned.box.stop()
    began = time.monotonic()
    provisioned.box.start()
    while _asked(provisioned, "--timeout", "60").returncode != 0:
        assert time.monotonic() - began < 60, provisioned.box.sh("journalctl -u loosh-miner -n 20 --no-pager").stdout
        time.sleep(1)
    assert provisioned.box.exec("systemctl", "is-active", "loosh-miner").stdout.strip() == "active"


def test_units_modes_and_ports_are_as_they_should_be(provisioned: Provisioned) -> None:
    config = provisioned.box.ssh_config
    # It brings no types.
    host = cast("Any", testinfra).get_host(f"ssh://{provisioned.box.name}", ssh_config=str(config), sudo=True)
    unit = host.service("loosh-miner")
    assert unit.is_running
    assert unit.is_enabled
    for path, mode, user in (
        ("/etc/loosh-miner", 0o750, "root"),
        ("/etc/loosh-miner/miner.env", 0o640, "root"),
        ("/etc/loosh-miner/hotkey.cred", 0o600, "root"),
        ("/etc/loosh-miner/credentials", 0o700, "root"),
        ("/var/lib/loosh-miner", 0o700, "loosh-miner"),
    ):
        assert (host.file(path).mode, host.file(path).user) == (mode, user), path
    assert host.file("/opt/loosh-miner/current").linked_to.startswith("/opt/loosh-miner/releases/")
    assert host.user("loosh-miner").shell == "/usr/sbin/nologin"
    assert host.socket("tcp://0.0.0.0:8000").is_listening
    assert host.socket("tcp://127.0.0.1:8010").is_listening
    assert not host.socket("tcp://0.0.0.0:8010").is_listening


def test_the_hotkey_is_nowhere_in_clear(provisioned: Provisioned) -> None:
    seed = json.loads((provisioned.site.folder / "hotkey").read_text())["secretSeed"].removeprefix("0x")
    found = provisioned.box.sh(f"grep -rlIs {seed} /etc /opt/loosh-miner /var/lib /var/log /tmp /home || true").stdout
    assert not found
    assert seed not in provisioned.first.output + provisioned.checked.output
    assert seed not in provisioned.box.sh("journalctl --no-pager -o cat").stdout


def test_the_units_sandbox_is_shut(provisioned: Provisioned) -> None:
    scored = provisioned.box.sh(
        "systemd-analyze security --no-pager --offline=true --threshold=15 /etc/systemd/system/loosh-miner.service",
        check=False,
    )
    assert scored.returncode == 0, scored.stdout[-600:] + scored.stderr
    print(scored.stdout.strip().splitlines()[-1])  # noqa: T201 - the figure, with -s
    shown = provisioned.box.sh("systemctl show loosh-miner -p KillMode -p KillSignal -p TimeoutStopUSec").stdout
    assert set(shown.splitlines()) == {"KillMode=mixed", "KillSignal=15", "TimeoutStopUSec=1min 25s"}
