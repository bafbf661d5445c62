"""What a machine may lack: each refusal of the role preflight names its remedy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.playing import EACH_ROLE, Site
from tests.boxes.boxes import Boxes, why_not

pytestmark = [
    pytest.mark.slow,
    EACH_ROLE,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.timeout(1200),
]
GPU = {"preflight_found_nvidia": True}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Boxes() as boxes:
        box = boxes.create("preflight")
        yield Site(tmp_path_factory.mktemp("preflight"), {"miner": [box], "inference": [box]}, miner_development=True)


def _refused(site: Site, **found: Any) -> str:  # noqa: ANN401 - Ansible's variables
    played = site.play("site.yml", "--tags", "preflight", fails=True, **found)
    assert played.failed == 1, played.output
    return played.said


def test_a_good_box_passes_and_nothing_changes(site: Site) -> None:
    assert site.play("site.yml", "--tags", "preflight").changed == 0


@pytest.mark.parametrize(
    ("found", "remedy"),
    [
        ({"preflight_found_memory_mb": 900}, "take a larger machine"),
        ({"preflight_found_disk_mb": "300M"}, "enlarge the disk"),
        ({"preflight_found_system": "Debian 11"}, "Have it installed anew"),
        ({"preflight_found_architecture": "aarch64"}, "rent another machine"),
        ({"preflight_found_clock_seconds": 300}, "timedatectl set-ntp true"),
        ({"preflight_found_listeners": ["8000 nginx"]}, "set miner_api_port"),
        (GPU | {"preflight_found_secure_boot": True}, "turn it off in the firmware"),
        (GPU | {"preflight_found_nouveau_users": 2}, "systemctl set-default multi-user.target"),
        ({"miner_development": False}, "miner_hotkey_src is empty"),
        ({"miner_hotkey_src": "/nowhere/hotkey"}, "is no file that can be read"),
        ({"miner_hotkey_src": "/etc/hostname", "miner_offline_dir": "/nowhere"}, "./justw offline-dir"),
    ],
    ids=["memory", "disk", "system", "arch", "clock", "port", "secure-boot", "nouveau", "hotkey", "no-file", "offline"],
)
def test_each_refusal_names_its_remedy(site: Site, found: dict[str, Any], remedy: str) -> None:
    assert remedy in _refused(site, **found)


def test_a_port_that_is_taken_is_seen(site: Site) -> None:
    box = site.groups["miner"][0]
    box.sh("systemd-run --quiet --unit=taker python3 -m http.server 8000")
    box.sh("for _ in $(seq 300); do ss -Hltn 'sport = :8000' | grep -q . && exit; sleep 0.2; done; exit 1")
    try:
        assert "8000 python3" in _refused(site)
    finally:
        box.sh("systemctl stop taker")


def test_a_signed_driver_needs_no_change_of_secure_boot(site: Site) -> None:
    found: dict[str, Any] = GPU | {"preflight_found_secure_boot": True, "nvidia_driver_source": "distro"}
    assert site.play("site.yml", "--tags", "preflight", **found).changed == 0


def test_an_inventory_without_a_miner_is_refused(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path, {"inference": site.groups["inference"]})
    assert "copy ansible/inventory.example.yml" in other.play(fails=True).said
