"""What the doctor says of cards and drivers, for machines as operators have had them."""

from pathlib import Path

import msgspec
import pytest

from app.appliance.driver_state import DriverState, read_driver_state
from app.doctor.check import Verdict
from app.doctor.gpu_checks import GpuChecks
from app.domain.compute.hardware import Nvidia, Problem
from app.domain.compute.profile import EngineProfile, Reason, Reasons
from tests.doctor.machine import a100, look, machine, server, write

PROFILE = EngineProfile(
    engine="vllm", purpose="earning", model="qwen2.5-32b-instruct", served_name="Qwen/Qwen2.5-32B-Instruct",
    context=32768, parallel=64,
)  # fmt: skip
GOOD = DriverState(module="580.95.05", secure_boot=False, persistenced=True)
VERSION = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22)  Tue\n"
OLD_VERSION = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


async def _judge(
    code: str, nvidia: Nvidia | None = None, state: DriverState | None = GOOD, *, embedded: bool = False
) -> Verdict:
    return await look(GpuChecks(machine(server(nvidia=nvidia), PROFILE), state, embedded=embedded), code)


@pytest.mark.parametrize(
    "code",
    ["gpu", "gpu-driver", "gpu-versions", "gpu-nouveau", "gpu-secure-boot", "gpu-persistence", "gpu-health", "gpu-fit"],
)
async def test_a_good_machine_is_well(code: str) -> None:
    assert (await _judge(code)).status == "ok"


@pytest.mark.parametrize(
    ("driver", "status"), [("535.183.01", "failed"), ("580.65.06", "ok"), ("590.48", "ok"), ("x", "failed")]
)
async def test_the_driver_must_be_580(driver: str, status: str) -> None:
    verdict = await _judge("gpu-driver", Nvidia(driver=driver, gpus=(a100(),)))
    assert verdict.status == status
    assert ("nvidia-open" in verdict.fix) == (status == "failed")


async def test_module_and_library_that_differ_want_a_reboot() -> None:
    verdict = await _judge("gpu-versions", state=msgspec.structs.replace(GOOD, module="580.82.07"))
    assert verdict.status == "failed"
    assert "580.82.07" in verdict.what
    assert "580.95.05" in verdict.what
    assert "reboot" in verdict.fix


async def test_nvmls_word_of_a_mismatch_counts_though_it_tells_no_version() -> None:
    silent = msgspec.structs.replace(
        server(nvidia=Nvidia()), problems=(Problem("nvidia", "Driver/library version mismatch"),)
    )
    verdict = await look(GpuChecks(machine(silent, PROFILE), GOOD, embedded=False), "gpu-versions")
    assert verdict.status == "failed"
    assert "reboot" in verdict.fix


async def test_the_fabric_manager_must_agree_and_be_there_with_nvswitches() -> None:
    other = await _judge("gpu-versions", state=msgspec.structs.replace(GOOD, fabric_manager="580.82.07", nvswitch=True))
    assert other.status == "failed"
    none = await _judge("gpu-versions", state=msgspec.structs.replace(GOOD, nvswitch=True))
    assert none.status == "failed"
    assert "nvidia-fabricmanager-580" in none.fix


async def test_nouveau_and_secure_boot() -> None:
    assert (await _judge("gpu-nouveau", state=msgspec.structs.replace(GOOD, nouveau=True))).status == "failed"
    locked_out = msgspec.structs.replace(GOOD, secure_boot=True, module=None)
    assert (await _judge("gpu-secure-boot", state=locked_out)).status == "failed"
    signed = msgspec.structs.replace(GOOD, secure_boot=True)
    assert (await _judge("gpu-secure-boot", state=signed)).status == "ok"


async def test_a_card_that_is_ill() -> None:
    fallen = await _judge("gpu-health", Nvidia(driver="580.95.05", gpus=(a100(),), xids=(31, 79)))
    assert fallen.status == "failed"
    assert "79" in fallen.what
    assert "31" not in fallen.what, "a program's own fault is no reason to change the card"
    errors = msgspec.structs.replace(a100(), ecc_uncorrected=3)
    assert (await _judge("gpu-health", Nvidia(gpus=(errors,)))).status == "failed"
    hot = msgspec.structs.replace(a100(), throttle=("hw_thermal_slowdown",))
    assert (await _judge("gpu-health", Nvidia(gpus=(hot,)))).status == "warning"


async def test_persistence_by_the_daemon_or_the_mode() -> None:
    off = Nvidia(driver="580.95.05", gpus=(msgspec.structs.replace(a100(), persistence=False),))
    assert (await _judge("gpu-persistence", off, DriverState())).status == "warning"
    assert (await _judge("gpu-persistence", off)).status == "ok"


async def test_without_a_gpu() -> None:
    assert (await _judge("gpu", Nvidia())).status == "failed"
    assert (await _judge("gpu", Nvidia(), embedded=True)).status == "skipped"
    for code in ("gpu-driver", "gpu-persistence", "gpu-health"):
        assert (await _judge(code, Nvidia(), DriverState())).status == "skipped"


async def test_a_recording_tells_nothing_of_modules() -> None:
    for code in ("gpu-versions", "gpu-nouveau", "gpu-secure-boot"):
        assert (await _judge(code, state=None)).status == "skipped"


async def test_what_does_not_fit_says_the_sum() -> None:
    reasons = Reasons((Reason("memory", "needs 41.5 GB of 24.1 GB", "choose another"),))
    verdict = await look(GpuChecks(machine(server(), reasons), GOOD, embedded=False), "gpu-fit")
    assert verdict == Verdict("failed", "needs 41.5 GB of 24.1 GB", "choose another")
    toy = msgspec.structs.replace(PROFILE, purpose="development", engine="llamacpp")
    assert (await look(GpuChecks(machine(server(), toy), GOOD, embedded=True), "gpu-fit")).status == "warning"


def test_reads_the_drivers_state_from_a_machine(tmp_path: Path) -> None:
    write(tmp_path, "proc/driver/nvidia/version", VERSION)
    write(tmp_path, "proc/modules", "nvidia 123 0 - Live 0x0\nnouveau_not 1 0 - Live 0x0\n")
    write(tmp_path, SECURE_BOOT, b"\x06\x00\x00\x00\x01")
    write(tmp_path, "proc/driver/nvidia-nvswitch/devices/0000:c1:00.0/information", "x")
    write(tmp_path, "run/nvidia-persistenced/socket", "")
    state = read_driver_state(tmp_path)
    assert state.module == "580.95.05"
    assert state.secure_boot is True
    assert state.nvswitch
    assert state.persistenced
    assert not state.nouveau


def test_reads_an_old_machine_and_an_empty_one(tmp_path: Path) -> None:
    assert read_driver_state(tmp_path / "none").module is None
    assert read_driver_state(tmp_path / "none").secure_boot is None
    write(tmp_path, "proc/driver/nvidia/version", OLD_VERSION)
    write(tmp_path, "proc/modules", "nouveau 2600960 1 - Live 0x0\n")
    write(tmp_path, SECURE_BOOT, b"\x06\x00\x00\x00\x00")
    state = read_driver_state(tmp_path)
    assert (state.module, state.nouveau, state.secure_boot) == ("535.183.01", True, False)
