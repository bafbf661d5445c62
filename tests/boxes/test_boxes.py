"""The boxes are what the playbooks' tests take them for."""

from collections.abc import Iterator

import pytest

from tests.boxes.boxes import HOST, Box, Boxes, why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with Boxes() as boxes:
        yield boxes.create("self")


def test_a_box_is_a_whole_system_reached_as_an_operator_does(box: Box) -> None:
    assert box.exec("systemctl", "is-system-running", check=False).stdout.strip() in {"running", "degraded"}
    assert box.ssh("sudo", "id", "-u").stdout.strip() == "0"
    assert "bookworm" in box.read("/etc/os-release")


def test_its_way_out_is_cut_and_given_back(box: Box) -> None:
    mirror = box.sh("awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources").stdout.split("/")[2]
    host, _, port = mirror.partition(":")
    reach = f"timeout 20 bash -c '</dev/tcp/{host}/{port or 443}' || timeout 20 bash -c '</dev/tcp/{host}/80'"
    box.egress(on=False)
    try:
        assert box.sh(reach, check=False).returncode != 0
        assert box.sh(f"ping -c1 -W5 {HOST}").returncode == 0
    finally:
        box.egress(on=True)
    assert box.sh(reach).returncode == 0


def test_a_reboot_comes_back(box: Box) -> None:
    before = box.read("/proc/sys/kernel/random/boot_id"), box.sh("stat -c %Y /proc/1").stdout
    box.stop()
    box.start()
    assert (box.read("/proc/sys/kernel/random/boot_id"), box.sh("stat -c %Y /proc/1").stdout) != before
