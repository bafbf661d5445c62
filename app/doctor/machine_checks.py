"""The machine below the miner: operating system, processors, memory, disk; detected here, or read from a recording."""

from typing import Final

from app.doctor.check import Check, Verdict, failed, ok, skipped, warning
from app.doctor.machine import Machine
from app.domain.compute.catalogue import GB

_GIB: Final = 1024**3
_KNOWN: Final = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04"), "nixos": ()}
_LEAST_FREE: Final = 10 * _GIB
_NEARLY: Final = 0.95
"""Of what is asked for: the kernel and the file system keep some for themselves, so a 64 GB machine shows less."""


class MachineChecks:
    """Compares a machine with `compute_spec.miner` of min_compute.yml; `embedded`: no engine of its own is planned."""

    def __init__(self, machine: Machine, *, embedded: bool, here: bool) -> None:
        self._machine = machine
        self._embedded = embedded
        self._here = here

    def checks(self) -> tuple[Check, ...]:
        """List them."""
        return (
            Check(code="os", section="system", title="An operating system the appliance knows", look=self._os),
            Check(code="cpu", section="system", title="x86-64, enough cores", look=self._cpu),
            Check(code="memory", section="system", title="Enough memory and swap", look=self._memory),
            Check(code="detection", section="system", title="All of the machine could be read", look=self._detection),
            Check(code="disk", section="disk", title="Enough disk, and room on it", look=self._disk),
        )

    async def _os(self) -> Verdict:
        system = (await self._machine.hardware()).os
        if system is None or not system.id:
            return skipped("can't be told")
        name = system.name or f"{system.id} {system.version}"
        versions = _KNOWN.get(system.id)
        if versions is None or (versions and system.version not in versions):
            return warning(
                f"{name}: the playbooks are made for Debian 12, 13, Ubuntu 22.04, 24.04 and NixOS",
                "install one of those, or set the engine up by hand (`loosh-miner engine render`)",
            )
        return ok(name)

    async def _cpu(self) -> Verdict:
        cpu = (await self._machine.hardware()).cpu
        if cpu is None:
            return skipped("can't be told")
        if cpu.architecture not in {"x86_64", "amd64"}:
            return failed(f"{cpu.architecture}: the engines come for x86_64 only", "use an x86_64 machine")
        cores = cpu.cores or cpu.threads
        said = f"{cores} cores, {cpu.threads} threads usable" + (f", {cpu.model}" if cpu.model else "")
        least = (await self._machine.needs()).cpu.min_cores
        if cores < least:
            return warning(f"{said}: the subnet asks for {least}", f"rent a machine with {least} cores or more")
        return ok(said)

    async def _memory(self) -> Verdict:
        memory = (await self._machine.hardware()).memory
        if memory is None:
            return skipped("can't be told")
        said = f"{memory.total / GB:.0f} GB, swap {memory.swap / GB:.0f} GB"
        needs = (await self._machine.needs()).memory
        if memory.total < needs.min_ram * GB * _NEARLY:
            return warning(f"{said}: the subnet asks for {needs.min_ram} GB", "rent a machine with more memory")
        if memory.swap < needs.min_swap * GB * _NEARLY:
            return warning(
                f"{said}: the subnet asks for {needs.min_swap} GB of swap",
                f"fallocate -l {needs.min_swap}GB /swapfile, chmod 600, mkswap, swapon, and a line in /etc/fstab",
            )
        return ok(said)

    async def _detection(self) -> Verdict:
        if not self._here:
            return ok("read from a recording")
        # Who serves from the processor need not have NVIDIA's library.
        found = (await self._machine.hardware()).problems
        problems = [problem for problem in found if not (self._embedded and problem.probe == "nvidia")]
        if problems:
            said = "; ".join(f"{problem.probe}: {problem.text}" for problem in problems)
            if all(problem.probe == "nvidia" for problem in problems):
                return warning(said, "install NVIDIA's driver, or choose LLM_BACKEND=llamacpp")
            return warning(said, "run it as root, and look at `dmesg`")
        return ok("nothing missing")

    async def _disk(self) -> Verdict:
        disk = (await self._machine.hardware()).disk
        if disk is None:
            return skipped("can't be told")
        said = f"{disk.free / GB:.0f} of {disk.total / GB:.0f} GB free at {disk.path}"
        least = (await self._machine.needs()).storage.min_space
        if disk.free < _LEAST_FREE:
            return failed(said, "make room: `journalctl --vacuum-size=500M`, old weights in the model cache")
        if disk.total < least * GB * _NEARLY and not self._embedded:
            return warning(f"{said}: the subnet asks for {least} GB", "put HF_HOME on a larger disk")
        if disk.kind == "disk" and not self._embedded:
            return warning(
                f"{said}; the kernel calls it a rotating disk: weights load slowly",
                "put HF_HOME on an SSD (the disk of a virtual machine may be one, and the kernel not know)",
            )
        return ok(said)
