"""What the doctor says of the machine below the miner."""

import msgspec
import pytest

from app.doctor.check import Status, Verdict
from app.doctor.machine_checks import MachineChecks
from app.domain.compute.hardware import Disk, Hardware, Memory, Os, Problem, Processor
from app.domain.compute.profile import Reasons
from tests.doctor.machine import GB, GIB, look, machine, server


async def _judge(code: str, hardware: Hardware, *, embedded: bool = False) -> Verdict:
    return await look(MachineChecks(machine(hardware, Reasons(())), embedded=embedded, here=True), code)


@pytest.mark.parametrize("code", ["os", "cpu", "memory", "detection", "disk"])
async def test_a_good_machine_is_well(code: str) -> None:
    assert (await _judge(code, server())).status == "ok"


@pytest.mark.parametrize("code", ["os", "cpu", "memory", "disk"])
async def test_what_can_not_be_told_is_skipped(code: str) -> None:
    assert (await _judge(code, Hardware())).status == "skipped"


@pytest.mark.parametrize(
    ("system", "status"),
    [
        (Os(id="debian", version="13"), "ok"),
        (Os(id="debian", version="11"), "warning"),
        (Os(id="ubuntu", version="22.04"), "ok"),
        (Os(id="nixos", version="26.05"), "ok"),
        (Os(id="fedora", version="42"), "warning"),
    ],
)
async def test_known_systems(system: Os, status: Status) -> None:
    assert (await _judge("os", msgspec.structs.replace(server(), os=system))).status == status


async def test_processors() -> None:
    arm = Processor(architecture="aarch64", threads=64)
    assert (await _judge("cpu", msgspec.structs.replace(server(), cpu=arm))).status == "failed"
    few = Processor(architecture="x86_64", cores=4, threads=8)
    verdict = await _judge("cpu", msgspec.structs.replace(server(), cpu=few))
    assert verdict.status == "warning"
    assert "asks for 8" in verdict.what


async def test_a_machine_sold_as_64_gb_is_one() -> None:
    shown = Memory(total=int(62.6 * GIB), swap=8 * GB)
    assert (await _judge("memory", msgspec.structs.replace(server(), memory=shown))).status == "ok"
    half = Memory(total=32 * GIB, swap=8 * GB)
    assert (await _judge("memory", msgspec.structs.replace(server(), memory=half))).status == "warning"
    no_swap = await _judge("memory", msgspec.structs.replace(server(), memory=Memory(total=64 * GIB)))
    assert no_swap.status == "warning"
    assert "swapon" in no_swap.fix


async def test_disks() -> None:
    full = Disk(path="/", total=1500 * GB, free=2 * GB)
    assert (await _judge("disk", msgspec.structs.replace(server(), disk=full))).status == "failed"
    small = msgspec.structs.replace(server(), disk=Disk(path="/", total=100 * GB, free=80 * GB, kind="ssd"))
    assert (await _judge("disk", small)).status == "warning"
    assert (await _judge("disk", small, embedded=True)).status == "ok", "a laptop needs no 500 GB"
    turning = Disk(path="/", total=1500 * GB, free=900 * GB, kind="disk")
    assert (await _judge("disk", msgspec.structs.replace(server(), disk=turning))).status == "warning"


async def test_what_could_not_be_read_is_told() -> None:
    hardware = msgspec.structs.replace(server(), problems=(Problem("nvidia", "NVML did not answer within 5 s"),))
    verdict = await _judge("detection", hardware)
    assert verdict.status == "warning"
    assert "NVML did not answer" in verdict.what
