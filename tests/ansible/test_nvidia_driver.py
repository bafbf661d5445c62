"""The role `nvidia_driver` on its real path: apt, a signed repository, units, reboots; the kernel's part is played."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ansible.playing import EACH_ROLE
from tests.ansible.role_play import RolePlay
from tests.ansible.stub_apt.nvidia import HARDWARE, KERNELS, NEW, OLD, UBUNTU, nvidia_packages
from tests.ansible.stub_apt.repository import TOOLS, build, end_agent, sign
from tests.boxes.boxes import Box, Boxes, why_not

pytestmark = [
    pytest.mark.slow,
    EACH_ROLE,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in TOOLS),
        reason=f"the stub repository needs {TOOLS}: apt install gnupg",
    ),
    pytest.mark.timeout(1200),
]

REPOSITORY = "/opt/stub-apt"
EFIVARS = "/etc/stub/efivars"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The signed repository, and its key's fingerprint."""
    folder = tmp_path_factory.mktemp("apt")
    home = tmp_path_factory.mktemp("gpg")
    # The fabric manager is there in the newest driver's version and in one that fits none.
    build(nvidia_packages(NEW, "580.105.08"), folder / "nvidia", folder / "made")
    build(UBUNTU, folder / "ubuntu", folder / "made")
    fingerprint = sign(folder / "nvidia", home)
    yield folder, fingerprint
    end_agent(home)


@pytest.fixture(scope="module")
def shared_box(repository: tuple[Path, str]) -> Iterator[Box]:
    with Boxes() as boxes:
        box = boxes.create("gpu", read_only=[(repository[0], REPOSITORY)])
        for path, text in HARDWARE.items():
            box.write(path, text, 0o644 if path.endswith(".service") else 0o755)
        # What the role `base` brings: without it Ansible's apt can't tell what it would do.
        box.sh("apt-get -qq update && apt-get -qq -y install python3-apt gnupg >/dev/null")
        box.sh(
            "mkdir -p /etc/stub /etc/apt/keyrings && systemctl daemon-reload && systemctl enable -q --now stub-hardware"
        )
        yield box


@pytest.fixture
def box(shared_box: Box) -> Box:
    """The box without driver, keys and switches, freshly as booted."""
    shared_box.sh(
        "systemctl stop nvidia-persistenced nvidia-fabricmanager 2>/dev/null;"
        " apt-get -qq -y purge '*nvidia*' dkms linux-headers-amd64 >/dev/null 2>&1;"
        " rm -rf /etc/stub/* /run/stub-nouveau /lib/modules /var/lib/dkms /proc/driver/nvidia /etc/modprobe.d/loosh*"
        " /etc/apt/sources.list.d/nvidia* /etc/apt/keyrings/* /etc/apt/apt.conf.d/52loosh*"
        " /etc/apt/preferences.d/00-loosh*;"
        " systemctl restart stub-hardware"
    )
    return shared_box


@pytest.fixture
def play(box: Box, repository: tuple[Path, str], tmp_path: Path) -> RolePlay:
    return RolePlay(
        box,
        tmp_path,
        nvidia_driver_repository=f"file:{REPOSITORY}/nvidia",
        nvidia_driver_key_src=str(repository[0] / "nvidia" / "key.pub"),
        nvidia_driver_key_fingerprint=repository[1],
        nvidia_driver_efivars=EFIVARS,
    )


def booted(box: Box) -> str:
    return box.sh("stat -c %Y /proc/1; systemctl show --value -p UserspaceTimestampMonotonic").stdout


def installed(box: Box, package: str) -> str:
    return box.sh(f"dpkg-query -W -f '${{Version}}' {package}", check=False).stdout


def test_a_bare_box_gets_the_pinned_branch_without_a_reboot_and_stays_so(box: Box, play: RolePlay) -> None:
    before = booted(box)
    tried = play("nvidia_driver", check=True)
    assert not tried.failed, tried.output
    assert not installed(box, "nvidia-open")

    done = play("nvidia_driver")
    assert not done.failed, done.output
    assert done.changed > 0
    # The repository has 590 as well: the pin came first.
    assert installed(box, "nvidia-open") == f"{NEW}-1"
    assert box.sh("systemctl is-active nvidia-persistenced").stdout.strip() == "active"
    assert booted(box) == before
    assert "blacklist nouveau" in box.read("/etc/modprobe.d/loosh-nvidia.conf")
    exclusions = box.sh("apt-config dump Unattended-Upgrade::Package-Blacklist").stdout
    assert '"^nvidia-"' in exclusions
    assert "nvidia-fabricmanager" in exclusions
    assert not box.sh("command -v nv-fabricmanager", check=False).stdout

    again = play("nvidia_driver")
    assert not again.failed, again.output
    assert again.changed == 0, again.output


def test_a_loaded_module_of_another_version_is_changed_by_one_reboot_but_never_of_this_machine_itself(
    box: Box, play: RolePlay
) -> None:
    old = play("nvidia_driver", nvidia_driver_version=OLD)
    assert not old.failed, old.output
    assert OLD in box.sh("nvidia-smi").stdout
    # As after an upgrade by hand: new packages, the old module still in the kernel.
    packages = " ".join(f"{name}={NEW}-1" for name in ("nvidia-open", "nvidia-kernel-open-dkms", "nvidia-driver-cuda"))
    box.sh(f"apt-get -qq -y purge 'nvidia-driver-pinning*' && apt-get -qq -y install {packages}")
    assert "mismatch" in box.sh("nvidia-smi", check=False).stdout
    before = booted(box)

    told = play("nvidia_driver", nvidia_driver_local=True)
    assert told.failed
    assert f"nvidia {OLD} loaded and {NEW} is installed: this machine must be rebooted" in told.said
    assert "not done on a local connection. Reboot it, then run the playbook again" in told.said
    assert booted(box) == before

    done = play("nvidia_driver")
    assert not done.failed, done.output
    assert booted(box) != before
    assert NEW in box.sh("nvidia-smi").stdout


def test_nouveau_is_driven_out_by_a_reboot(box: Box, play: RolePlay) -> None:
    box.sh("touch /etc/stub/nouveau && systemctl restart stub-hardware")
    assert "nouveau" in box.sh("lsmod").stdout
    done = play("nvidia_driver")
    assert not done.failed, done.output
    assert "nouveau" not in box.sh("lsmod").stdout
    assert NEW in box.sh("nvidia-smi").stdout


def test_a_module_that_dkms_could_not_build_is_seen_although_apt_is_content(box: Box, play: RolePlay) -> None:
    box.write("/etc/stub/dkms-fails", KERNELS[0] + "\n")
    told = play("nvidia_driver")
    assert told.failed
    assert installed(box, "nvidia-open") == f"{NEW}-1"
    assert f"DKMS has not built nvidia {NEW} for kernel {KERNELS[0]}, whatever apt said" in told.said
    assert f"apt install linux-headers-{KERNELS[0]}" in told.said


def test_the_fabric_manager_comes_in_the_drivers_very_version(box: Box, play: RolePlay) -> None:
    box.sh("touch /etc/stub/fabric && systemctl restart stub-hardware")
    done = play("nvidia_driver")
    assert not done.failed, done.output
    # 580.105.08 is newer and in the same repository.
    assert installed(box, "nvidia-fabricmanager-580") == f"{NEW}-1"
    assert box.sh("systemctl is-active nvidia-fabricmanager").stdout.strip() == "active"
    # One that something else put in its place.
    box.write("/usr/local/sbin/nv-fabricmanager", "#!/bin/sh\necho 'Fabric Manager version is : 580.105.08'\n", 0o755)
    try:
        mixed = play("nvidia_driver")
    finally:
        box.sh("rm /usr/local/sbin/nv-fabricmanager")
    assert mixed.failed
    assert f"The fabric manager is Fabric Manager version is : 580.105.08 and the driver {NEW}" in mixed.said


def test_a_driver_without_a_fabric_manager_of_its_version_is_refused(box: Box, play: RolePlay) -> None:
    box.sh("touch /etc/stub/fabric && systemctl restart stub-hardware")
    told = play("nvidia_driver", nvidia_driver_version=OLD)
    assert told.failed
    assert f"nvidia-fabricmanager-580 is not to be had in the driver's version {OLD}" in told.said


def test_secure_boot_is_refused_before_anything_changes(box: Box, play: RolePlay) -> None:
    variable = f"{EFIVARS}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    box.write(variable, b"\x06\x00\x00\x00\x01")
    told = play("nvidia_driver")
    assert told.failed
    assert told.changed == 0
    assert "Secure Boot is on" in told.said
    assert "nvidia_driver_source: distro" in told.said


def test_a_key_of_another_fingerprint_is_never_trusted(box: Box, play: RolePlay, repository: tuple[Path, str]) -> None:
    told = play("nvidia_driver", nvidia_driver_key_fingerprint="EB693B3035CD5710E231E123A4B469963BF863CC")
    assert told.failed
    assert "is not the one with fingerprint EB693B3035CD5710E231E123A4B469963BF863CC" in told.said
    assert not box.sh("ls /etc/apt/keyrings").stdout
    assert not box.sh("ls /etc/apt/sources.list.d | grep nvidia", check=False).stdout
    assert repository[1] not in told.said


def test_a_box_without_a_card_is_left_alone(box: Box, play: RolePlay) -> None:
    box.sh("rm -rf /sys/bus/pci/devices/*")
    done = play("nvidia_driver")
    assert not done.failed, done.output
    assert done.changed == 0


def test_what_cannot_work_is_refused_with_its_remedy(box: Box, play: RolePlay) -> None:
    assert "older than 580" in play("nvidia_driver", nvidia_driver_branch="570").said
    assert "no release of Debian has driver 580" in play("nvidia_driver", nvidia_driver_source="distro").said
    box.sh("echo 0x1b06 >/etc/stub/card; systemctl restart stub-hardware")
    assert "older than Turing" in play("nvidia_driver").said


def test_ubuntus_signed_modules_serve_under_secure_boot(box: Box, play: RolePlay) -> None:
    box.write(f"{EFIVARS}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\x06\x00\x00\x00\x01")
    debian = box.read("/etc/os-release")
    box.sh("cp -L /etc/os-release /etc/stub-os-release; rm -f /etc/os-release")
    box.write(
        "/etc/os-release", 'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\nVERSION="24.04.3 LTS"\n'
    )
    box.sh(
        f"echo 'deb [trusted=yes] file:{REPOSITORY}/ubuntu /' >/etc/apt/sources.list.d/nvidia-ubuntu.list;"
        " apt-get -qq update"
    )
    try:
        done = play("nvidia_driver", nvidia_driver_source="distro", nvidia_driver_kernel_flavour="generic")
        assert not done.failed, done.output
        assert installed(box, "nvidia-utils-580-server").startswith(NEW)
        assert not box.sh("ls /etc/apt/sources.list.d/nvidia-cuda.sources", check=False).stdout
        again = play("nvidia_driver", nvidia_driver_source="distro", nvidia_driver_kernel_flavour="generic")
        assert again.changed == 0, again.output
    finally:
        box.write("/etc/os-release", debian)
        box.sh("apt-get -qq -y purge '*nvidia*' >/dev/null; rm -f /etc/apt/sources.list.d/nvidia-ubuntu.list")
