"""NVIDIA's driver as packages without a driver: names, versions, dependencies, and what each leaves to be seen.

The kernel's part is played inside the box by `modprobe`, `lsmod` and a unit at boot: a module is loaded if it was built
for one of the kernels, and what is loaded stays until the next boot, as it does with a card in use.
Switches lie in /etc/stub: `dkms-fails` (the compiler fails, apt is content), `fabric` (NVSwitches are on the bus),
`nouveau` (the kernel's own module holds the cards until nouveau is blacklisted and the box rebooted).
"""

from tests.ansible.stub_apt.repository import Package

OLD, NEW, NEXT_BRANCH = "580.65.06", "580.95.05", "590.44.01"
KERNELS = ("6.1.0-40-amd64", "6.1.0-41-amd64")

_DKMS = """#!/bin/sh
# dkms status | dkms build VERSION
case $1 in
  status) cat /var/lib/dkms/stub 2>/dev/null ;;
  build)
    mkdir -p /var/lib/dkms
    : >/var/lib/dkms/stub
    for kernel in /lib/modules/*; do
      name=$(basename "$kernel")
      rm -f "$kernel/updates/dkms/nvidia.ko.xz"
      if [ -e /etc/stub/dkms-fails ] && [ "$(cat /etc/stub/dkms-fails)" = "$name" ]; then
        echo "nvidia/$2, $name, x86_64: added" >>/var/lib/dkms/stub
        continue
      fi
      mkdir -p "$kernel/updates/dkms"
      echo "$2" >"$kernel/updates/dkms/nvidia.ko.xz"
      echo "nvidia/$2, $name, x86_64: installed" >>/var/lib/dkms/stub
    done ;;
esac
"""
_BUILD = '#!/bin/sh\n[ "$1" = configure ] || exit 0\ndkms build {version}\n'
_SMI = """#!/bin/sh
loaded=$(sed -nE 's/.*x86_64 +([0-9.]+) .*/\\1/p' /proc/driver/nvidia/version 2>/dev/null)
if [ -z "$loaded" ]; then
  echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
  exit 9
fi
if [ "$loaded" != {version} ]; then
  echo "Failed to initialize NVML: Driver/library version mismatch"
  exit 18
fi
echo "0, NVIDIA A100 80GB PCIe, {version}, 81920 MiB"
"""
_PERSISTENCED = (
    "[Unit]\nDescription=stub\n[Service]\nExecStart=/usr/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
)
_FABRIC = """#!/bin/sh
echo "Fabric Manager version is : {version}"
"""


def _driver(version: str) -> list[Package]:
    branch = version.partition(".")[0]
    debian = f"{version}-1"
    kernel = Package(
        name="nvidia-kernel-open-dkms",
        version=debian,
        depends="dkms",
        postinst=_BUILD.replace("{version}", version),
    )
    tools = Package(
        name="nvidia-driver-cuda", version=debian, files={"/usr/bin/nvidia-smi": _SMI.replace("{version}", version)}
    )
    depends = f"nvidia-kernel-open-dkms (= {debian}), nvidia-driver-cuda (= {debian})"
    unit = {"/lib/systemd/system/nvidia-persistenced.service": _PERSISTENCED}
    pins = (f"Package: *nvidia*\nPin: version {wanted}*\nPin-Priority: 1001\n" for wanted in (branch, version))
    return [
        kernel,
        tools,
        Package(name="nvidia-open", version=debian, depends=depends),
        Package(name="nvidia-persistenced", version=debian, files=unit),
        Package(name="nvidia-modprobe", version=debian, files={"/usr/bin/nvidia-modprobe": "#!/bin/sh\n"}),
        *(
            Package(
                name=f"nvidia-driver-pinning-{name}",
                version=f"{name}-1",
                files={f"/etc/apt/preferences.d/nvidia-{name}.pref": text},
            )
            for name, text in zip((branch, version), pins, strict=True)
        ),
    ]


def fabric_manager(version: str) -> Package:
    """Give the fabric manager in one version."""
    return Package(
        name="nvidia-fabricmanager-580",
        version=f"{version}-1",
        files={
            "/usr/bin/nv-fabricmanager": _FABRIC.replace("{version}", version),
            "/lib/systemd/system/nvidia-fabricmanager.service": _PERSISTENCED,
        },
    )


def _unique(packages: list[Package]) -> list[Package]:
    return list({(package.name, package.version): package for package in packages}.values())


def nvidia_packages(*fabric: str) -> list[Package]:
    """Give all packages of three drivers; the fabric manager in the versions asked for."""
    headers = {f"/lib/modules/{kernel}/modules.builtin": "" for kernel in KERNELS}
    return _unique(
        [
            Package(name="dkms", version="99", files={"/usr/sbin/dkms": _DKMS}),
            # The kernels, too: the box has none of its own.
            Package(name="linux-headers-amd64", version="99", files=headers),
            *_driver(OLD),
            *_driver(NEW),
            *_driver(NEXT_BRANCH),
            *(fabric_manager(version) for version in fabric),
        ]
    )


UBUNTU = [
    Package(name=name, version="580.95.05-0ubuntu0.24.04.1", files=files)
    for name, files in {
        "linux-modules-nvidia-580-server-open-generic": {
            "/lib/modules/6.8.0-90-generic/updates/nvidia.ko.xz": f"{NEW}\n",
            "/lib/systemd/system/nvidia-persistenced.service": _PERSISTENCED,
        },
        "nvidia-headless-no-dkms-580-server-open": dict[str, str](),
        "nvidia-utils-580-server": {"/usr/bin/nvidia-smi": _SMI.replace("{version}", NEW)},
        "nvidia-modprobe": {"/usr/bin/nvidia-modprobe": "#!/bin/sh\n"},
    }.items()
]
"""Ubuntu's signed modules, as far as the role names them."""

_LOAD = """#!/bin/sh
# Plays the kernel: takes the module that was built last, unless one is loaded.
[ "$1" = nvidia ] || exit 1
[ -e /proc/driver/nvidia/version ] && exit 0
[ -e /run/stub-nouveau ] && { echo "modprobe: ERROR: could not insert 'nvidia': No such device" >&2; exit 1; }
file=$(ls /lib/modules/*/updates/dkms/nvidia.ko.xz /lib/modules/*/updates/nvidia.ko.xz 2>/dev/null | tail -1)
[ -n "$file" ] || { echo "modprobe: FATAL: Module nvidia not found." >&2; exit 1; }
mkdir -p /proc/driver/nvidia
echo "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  $(cat "$file")  Release Build  (dvs-builder)" \\
  >/proc/driver/nvidia/version
"""
_LSMOD = "#!/bin/sh\necho 'Module Size Used by'\n[ ! -e /run/stub-nouveau ] || echo 'nouveau 3096576 1'\n"
_BOOT = """#!/bin/sh
mount -t tmpfs tmpfs /proc/driver
mount -t tmpfs tmpfs /sys/bus/pci/devices
card() {
  mkdir -p "/sys/bus/pci/devices/$1" && cd "/sys/bus/pci/devices/$1"
  echo 0x10de >vendor; echo "$2" >class; echo "$3" >device
}
card 0000:01:00.0 0x030200 "$(cat /etc/stub/card 2>/dev/null || echo 0x20b5)"
[ ! -e /etc/stub/fabric ] || card 0000:02:00.0 0x068000 0x1af1
if [ -e /etc/stub/nouveau ] && ! grep -qs '^blacklist nouveau' /etc/modprobe.d/*; then touch /run/stub-nouveau; fi
modprobe nvidia || true
"""
_UNIT = """[Unit]
DefaultDependencies=no
Before=basic.target ssh.service
After=local-fs.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/stub-boot
[Install]
WantedBy=sysinit.target
"""
HARDWARE = {
    "/usr/local/sbin/modprobe": _LOAD,
    "/usr/local/sbin/lsmod": _LSMOD,
    "/usr/local/sbin/stub-boot": _BOOT,
    "/etc/systemd/system/stub-hardware.service": _UNIT,
}
"""What a box is given so that it looks like one with a card."""
