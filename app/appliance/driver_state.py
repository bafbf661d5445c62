"""What stands between an NVIDIA card and its engine: modules, versions, Secure Boot, the daemons."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import msgspec

from app.domain.compute.hardware import Hardware

_SECONDS: Final = 3.0
_MODULE_VERSION: Final = re.compile(r"(?:Kernel Module\s+|Kernel Module for \S+\s+)(\d+(?:\.\d+)+)")
_VERSION: Final = re.compile(r"\d+(?:\.\d+)+")
_SECURE_BOOT: Final = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_NVSWITCH: Final = "proc/driver/nvidia-nvswitch/devices"
_PERSISTENCED: Final = "run/nvidia-persistenced/socket"
_ATTRIBUTE_BYTES: Final = 4
_LIBRARY_DIFFERS: Final = "version mismatch"
"""In NVML's own words (NVML_ERROR_LIB_RM_VERSION_MISMATCH): it then tells neither version nor GPUs."""


class DriverState(msgspec.Struct, frozen=True, kw_only=True):
    """None means that it could not be read."""

    module: str | None = None
    """Version of the kernel's `nvidia` module that is loaded."""
    fabric_manager: str | None = None
    """Version of the fabric manager, where one is installed."""
    nvswitch: bool = False
    """The machine has NVSwitches: without the fabric manager its GPUs do not work."""
    nouveau: bool = False
    """The kernel's own module holds the cards."""
    secure_boot: bool | None = None
    persistenced: bool = False

    def versions(self, hardware: Hardware) -> dict[str, str]:
        """Give what is known of the versions that must agree."""
        found = {"library": hardware.nvidia.driver, "module": self.module, "fabric manager": self.fabric_manager}
        return {name: version for name, version in found.items() if version is not None}

    def differs(self, hardware: Hardware) -> bool:
        """Say whether they disagree, as after an upgrade without a reboot: CUDA does not start then."""
        told = any(problem.probe == "nvidia" and _LIBRARY_DIFFERS in problem.text for problem in hardware.problems)
        return told or len(set(self.versions(hardware).values())) > 1


def read_driver_state(root: Path = Path("/")) -> DriverState:
    """Read it from a machine's file system; blocks for `_SECONDS` at most."""
    modules = _text(root / "proc/modules")
    return DriverState(
        module=_module_version(_text(root / "proc/driver/nvidia/version")),
        fabric_manager=_fabric_manager(),
        nvswitch=_has_entries(root / _NVSWITCH),
        nouveau=any(line.startswith("nouveau ") for line in modules.splitlines()),
        secure_boot=_secure_boot(root / _SECURE_BOOT),
        persistenced=(root / _PERSISTENCED).exists(),
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _module_version(text: str) -> str | None:
    found = _MODULE_VERSION.search(text)
    return found[1] if found else None


def _has_entries(directory: Path) -> bool:
    try:
        return any(directory.iterdir())
    except OSError:
        return False


def _secure_boot(variable: Path) -> bool | None:
    """Read the firmware's variable: four bytes of attributes, then one that says on or off (UEFI, 8.2)."""
    try:
        raw = variable.read_bytes()
    except OSError:
        return None
    return raw[_ATTRIBUTE_BYTES] == 1 if len(raw) > _ATTRIBUTE_BYTES else None


def _fabric_manager() -> str | None:
    program = shutil.which("nv-fabricmanager")
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - found on PATH, fixed argument
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = _VERSION.search(done.stdout.decode("utf-8", "replace"))
    return found[0] if found else None
