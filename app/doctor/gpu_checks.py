"""The NVIDIA cards: driver, versions that must agree, and whether a model fits."""

from typing import Final

from app.appliance.driver_state import DriverState
from app.doctor.check import Check, Verdict, failed, ok, skipped, warning
from app.doctor.machine import Machine
from app.domain.compute.hardware import Nvidia
from app.domain.compute.profile import EngineProfile, Reasons

_LEAST_DRIVER: Final = 580
_GIB: Final = 1024**3
GRAVE_XIDS: Final = frozenset({48, 63, 64, 74, 79, 92, 94, 95, 119, 120})
"""NVIDIA's catalogue: ECC, page retirement, NVLink, fallen off the bus, GSP: the card or its seat, not the program."""


class GpuChecks:
    """Judges a machine's cards; `state` is None for a recording, which tells nothing of modules and daemons."""

    def __init__(self, machine: Machine, state: DriverState | None, *, embedded: bool) -> None:
        self._machine = machine
        self._state = state
        self._embedded = embedded

    def checks(self) -> tuple[Check, ...]:
        """List them."""
        return (
            Check(code="gpu", section="gpu", title="NVIDIA GPUs are there", look=self._gpus),
            Check(code="gpu-driver", section="gpu", title=f"Driver {_LEAST_DRIVER} or newer", look=self._driver),
            Check(
                code="gpu-versions",
                section="gpu",
                title="Kernel module, library and fabric manager are of one version",
                look=self._versions,
            ),
            Check(code="gpu-nouveau", section="gpu", title="Nouveau does not hold the cards", look=self._nouveau),
            Check(
                code="gpu-secure-boot", section="gpu", title="Secure Boot lets the module in", look=self._secure_boot
            ),
            Check(code="gpu-persistence", section="gpu", title="The driver stays loaded", look=self._persistence),
            Check(code="gpu-health", section="gpu", title="No Xid, no ECC errors, no throttling", look=self._health),
            Check(code="gpu-fit", section="gpu", title="A model fits this machine", look=self._fit),
        )

    async def _gpus(self) -> Verdict:
        nvidia = (await self._machine.hardware()).nvidia
        gpus = nvidia.gpus
        if gpus:
            return ok(", ".join(f"{gpu.name} {gpu.memory / _GIB:.1f} GiB" for gpu in gpus))
        if self._embedded:
            return skipped("none; LLM_BACKEND=llamacpp needs none")
        fix = "install the driver: `ansible-playbook ansible/site.yml`"
        return failed("no GPU answers", fix if nvidia.driver is None else "look at `nvidia-smi` and `dmesg`")

    async def _driver(self) -> Verdict:
        nvidia = (await self._machine.hardware()).nvidia
        driver = nvidia.driver
        if driver is None:
            return skipped("no driver answers")
        major = driver.partition(".")[0]
        if not major.isdecimal() or int(major) < _LEAST_DRIVER:
            return failed(
                f"{driver}: vLLM's wheels need {_LEAST_DRIVER} or newer",
                f"apt install nvidia-driver-pinning-{_LEAST_DRIVER} nvidia-open, then reboot",
            )
        return ok(driver)

    async def _versions(self) -> Verdict:
        hardware = await self._machine.hardware()
        if self._state is None:
            return skipped("a recording does not tell")
        known = self._state.versions(hardware)
        said = ", ".join(f"{name} {version}" for name, version in known.items())
        if self._state.nvswitch and self._state.fabric_manager is None:
            return failed(
                "the machine has NVSwitches and no fabric manager: CUDA will not start",
                f"apt install nvidia-fabricmanager-{_branch(hardware.nvidia)}, then enable and start its unit",
            )
        if self._state.differs(hardware):
            return failed(
                f"they differ: {said or 'the driver says so'}",
                "reboot; then `apt-mark showhold` and NVIDIA's pin, so that it stays so",
            )
        return ok(said) if known else skipped("no driver here")

    async def _nouveau(self) -> Verdict:
        if self._state is None:
            return skipped("a recording does not tell")
        if self._state.nouveau:
            return failed(
                "the module nouveau is loaded, so NVIDIA's can't be",
                "echo 'blacklist nouveau' >/etc/modprobe.d/nouveau.conf, update-initramfs -u, reboot",
            )
        return ok("not loaded")

    async def _secure_boot(self) -> Verdict:
        if self._state is None or self._state.secure_boot is None:
            return skipped("can't be told here (no UEFI variables)")
        if not self._state.secure_boot:
            return ok("off")
        if self._state.module is not None:
            return ok("on, and NVIDIA's module is loaded")
        return failed(
            "on, and no NVIDIA module is loaded: unsigned ones are refused",
            "switch Secure Boot off in the firmware, or use Ubuntu's signed modules (nvidia_driver_source: distro)",
        )

    async def _persistence(self) -> Verdict:
        nvidia = (await self._machine.hardware()).nvidia
        if not nvidia.gpus:
            return skipped("no GPU")
        if (self._state is not None and self._state.persistenced) or all(gpu.persistence for gpu in nvidia.gpus):
            return ok("on")
        return warning(
            "off: each start of an engine loads the driver anew", "systemctl enable --now nvidia-persistenced"
        )

    async def _health(self) -> Verdict:
        nvidia = (await self._machine.hardware()).nvidia
        if not nvidia.gpus:
            return skipped("no GPU")
        grave = sorted(GRAVE_XIDS.intersection(nvidia.xids or ()))
        if grave:
            return failed(
                f"Xid {', '.join(map(str, grave))} since the boot",
                "`dmesg | grep Xid`; reboot; if it comes again, change the card",
            )
        errors = sum(gpu.ecc_uncorrected or 0 for gpu in nvidia.gpus)
        if errors:
            return failed(f"{errors} uncorrected memory errors", "`nvidia-smi -q -d ECC`; reboot; else change the card")
        slow = sorted({reason for gpu in nvidia.gpus for reason in gpu.throttle or ()})
        if slow:
            return warning(
                f"clocks are lowered: {', '.join(slow)}", "look at cooling and power: `nvidia-smi -q -d PERFORMANCE`"
            )
        return ok(f"well, {max((gpu.temperature or 0) for gpu in nvidia.gpus)} degrees")

    async def _fit(self) -> Verdict:
        match await self._machine.choice():
            case Reasons(reasons=reasons):
                first = reasons[0]
                return failed(first.text, first.remedy)
            case EngineProfile(purpose="development") as profile:
                return warning(
                    f"{profile.engine} with {profile.served_name}: runs, but will hardly earn",
                    "rent a GPU: `loosh-miner models` lists what each one can serve",
                )
            case EngineProfile() as profile:
                return ok(f"{profile.engine} with {profile.served_name}, {profile.context} tokens of context")


def _branch(nvidia: Nvidia) -> str:
    return (nvidia.driver or str(_LEAST_DRIVER)).partition(".")[0]
