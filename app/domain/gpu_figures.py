"""What is shown of each GPU while the miner runs: eight figures that NVML tells at once."""

import msgspec


class GpuFigures(msgspec.Struct, frozen=True):
    """One GPU now; None where the card or the driver does not tell. Memory in bytes, power in watts."""

    index: int
    name: str
    utilisation: int | None = None
    """Percent of the last moments in which anything ran."""
    memory_used: int | None = None
    memory: int | None = None
    temperature: int | None = None
    """Degrees Celsius."""
    power: float | None = None
    power_limit: float | None = None
    clock_mhz: int | None = None
    ecc_uncorrected: int | None = None
    """Since the driver was loaded."""
    throttle: tuple[str, ...] = ()
    """Why the clock is lower than it could be; empty when it is not, or only because nothing runs."""


class GpuReading(msgspec.Struct, frozen=True):
    """All GPUs, or why they can't be read."""

    gpus: tuple[GpuFigures, ...] = ()
    problem: str = ""
