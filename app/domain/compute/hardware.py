"""What a machine is made of, as far as it decides about models: detected, or read from a recording.

Sizes are in bytes. None means that it could not be read, never that it is absent.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from app.domain.compute.catalogue import Capability

VERSION: Final = 1

type Bytes = Annotated[int, Meta(ge=0)]


class Gpu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One NVIDIA GPU, as NVML tells it."""

    index: Annotated[int, Meta(ge=0)]
    """In the order of the PCI bus."""
    name: str
    """For people only: nothing is ever decided by it."""
    memory: Bytes
    """In all; `nvidia-smi` shows the same in MiB."""
    memory_free: Bytes | None = None
    compute_capability: Capability
    memory_clock_mhz: Annotated[int, Meta(ge=0)] | None = None
    memory_bus_bits: Annotated[int, Meta(ge=0)] | None = None
    ecc: bool | None = None
    ecc_uncorrected: Annotated[int, Meta(ge=0)] | None = None
    """Uncorrected errors since the driver was loaded."""
    mig: bool | None = None
    persistence: bool | None = None
    throttle: tuple[str, ...] | None = None
    """Why its clocks are lowered right now; being idle does not count."""
    temperature: int | None = None
    """Degrees Celsius."""

    @property
    def bandwidth(self) -> float | None:
        """Bytes a second between the chip and its memory: two transfers a clock over the bus."""
        if not self.memory_clock_mhz or not self.memory_bus_bits:
            return None
        return self.memory_clock_mhz * 1e6 * 2 * self.memory_bus_bits / 8


class Nvidia(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The driver and its GPUs."""

    driver: str | None = None
    """As 580.95.05; None where no driver answers."""
    cuda: str | None = None
    """The newest CUDA the driver can do, as 13.0."""
    gpus: tuple[Gpu, ...] = ()
    xids: tuple[int, ...] | None = None
    """Xid errors in the kernel's log since the boot; None where the log can't be read."""


class Processor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The host's processors."""

    model: str = ""
    architecture: str
    cores: Annotated[int, Meta(ge=0)] | None = None
    """Physical ones."""
    threads: Annotated[int, Meta(ge=1)]
    """Those this process may use."""
    isa: tuple[str, ...] = ()
    """The extensions that matter to llama.cpp."""
    numa_nodes: Annotated[int, Meta(ge=1)] | None = None


class Memory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """RAM and swap; in a container its limit, where that is less."""

    total: Bytes
    available: Bytes | None = None
    swap: Bytes = 0


class Disk(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file system that weights are downloaded to."""

    path: str
    total: Bytes
    free: Bytes
    kind: Literal["ssd", "disk"] | None = None


class Os(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The operating system."""

    id: str = ""
    """As `debian`, `ubuntu`, `nixos`."""
    version: str = ""
    name: str = ""
    kernel: str = ""


class Problem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A probe that did not give all it should have, and why."""

    probe: Literal["nvidia", "cpu", "memory", "disk", "os"]
    text: str


class Hardware(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine."""

    version: Literal[1] = VERSION
    nvidia: Nvidia = Nvidia()
    cpu: Processor | None = None
    memory: Memory | None = None
    disk: Disk | None = None
    os: Os | None = None
    problems: tuple[Problem, ...] = ()
