"""Machines made up for tests."""

from typing import Final

from app.appliance.compute.catalogue_file import read_catalogue
from app.domain.compute.catalogue import Catalogue
from app.domain.compute.choice import choose
from app.domain.compute.fit import GIB, MIB
from app.domain.compute.hardware import Gpu, Hardware, Memory, Nvidia
from app.domain.compute.profile import EngineProfile, Reason, Reasons, Wishes

CATALOGUE: Final[Catalogue] = read_catalogue()


def machine(mib: int = 0, capability: tuple[int, int] = (8, 6), count: int = 1, ram_gib: int = 64) -> Hardware:
    """A machine with `count` equal GPUs of so many MiB; none for 0."""
    gpus = tuple(
        Gpu(index=index, name="a card", memory=mib * MIB, compute_capability=capability)
        for index in range(count if mib else 0)
    )
    return Hardware(nvidia=Nvidia(driver="580.95.05", gpus=gpus), memory=Memory(total=ram_gib * GIB))


def accepted(hardware: Hardware, wishes: Wishes | None = None) -> EngineProfile:
    """The profile; it must be one."""
    chosen = choose(hardware, CATALOGUE, wishes or Wishes())
    assert isinstance(chosen, EngineProfile), chosen
    return chosen


def refused(hardware: Hardware, wishes: Wishes) -> Reason:
    """The first reason; there must be one."""
    chosen = choose(hardware, CATALOGUE, wishes)
    assert isinstance(chosen, Reasons), chosen
    return chosen.reasons[0]
