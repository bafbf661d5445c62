"""Machines to be judged, and the one verdict that is asked for."""

from pathlib import Path

from app.appliance.compute.catalogue_file import read_catalogue
from app.appliance.compute.lock_file import Lock
from app.appliance.compute.selection import Selection
from app.doctor.check import Checks, Verdict
from app.doctor.machine import Machine
from app.domain.compute.hardware import Disk, Gpu, Hardware, Memory, Nvidia, Os, Processor
from app.domain.compute.profile import EngineProfile, Reasons, Wishes

GB = 10**9
GIB = 1024**3


def a100() -> Gpu:
    return Gpu(
        index=0, name="A100", memory=81920 * 1024**2, compute_capability=(8, 0), persistence=True, ecc_uncorrected=0,
        throttle=(), temperature=41,
    )  # fmt: skip


def server(*, nvidia: Nvidia | None = None) -> Hardware:
    """A good one."""
    return Hardware(
        nvidia=nvidia or Nvidia(driver="580.95.05", cuda="13.0", gpus=(a100(),), xids=()),
        cpu=Processor(model="EPYC", architecture="x86_64", cores=16, threads=32),
        memory=Memory(total=128 * GB, available=120 * GB, swap=16 * GB),
        disk=Disk(path="/", total=1500 * GB, free=900 * GB, kind="ssd"),
        os=Os(id="ubuntu", version="24.04", name="Ubuntu 24.04.3 LTS", kernel="6.8"),
    )


def machine(hardware: Hardware, chosen: EngineProfile | Reasons) -> Machine:
    """Put it under examination, judged by the catalogue that is shipped."""
    return Machine(
        lambda: Selection(hardware=hardware, catalogue=read_catalogue(), lock=Lock(), wishes=Wishes(), chosen=chosen)
    )


async def look(checks: Checks, code: str) -> Verdict:
    """Do one of the checks."""
    (check,) = (one for one in checks.checks() if one.code == code)
    return await check.look()


def write(root: Path, name: str, content: str | bytes) -> None:
    """Put a file into a machine's file system."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
