"""Asks NVML, in a process of its own: `python -m app.appliance.hardware.nvml_child`, one JSON object on stdout.

A call into a wedged driver never comes back and can't be interrupted, so nobody who waits for it may be in this
process.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from app.domain.compute.hardware import Gpu, Nvidia

# The lowest bit, a clock that is low because nothing runs, is no throttle.
_THROTTLES: Final = (
    (0x2, "application clocks"),
    (0x4, "power cap"),
    (0x8, "hardware slowdown"),
    (0x10, "sync boost"),
    (0x20, "thermal, software"),
    (0x40, "thermal, hardware"),
    (0x80, "power brake"),
    (0x100, "display clocks"),
)


class Answer(msgspec.Struct):
    """What the child says: what it read, or why it could not."""

    nvidia: Nvidia = Nvidia()
    problem: str = ""


def read() -> Answer:
    """Ask for everything; what a card can't tell is None."""
    nvml: Any = importlib.import_module("pynvml")  # it has no types
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Answer(problem=str(error))
    try:
        driver = written(ask(nvml, nvml.nvmlSystemGetDriverVersion))
        cuda = ask(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2)
        gpus: list[Gpu] = []
        problems: list[str] = []
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                gpus.append(_gpu(nvml, index))
            except nvml.NVMLError as error:  # fallen off the bus, say
                problems.append(f"GPU {index}: {error}")
    except nvml.NVMLError as error:
        return Answer(problem=str(error))
    version = f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None
    gpus.sort(key=lambda gpu: gpu.index)
    return Answer(Nvidia(driver=driver, cuda=version, gpus=tuple(gpus)), "; ".join(problems))


def _gpu(nvml: Any, index: int) -> Gpu:  # noqa: ANN401 - a module without types
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    ecc = ask(nvml, nvml.nvmlDeviceGetEccMode, handle)
    mig = ask(nvml, nvml.nvmlDeviceGetMigMode, handle)
    persistence = ask(nvml, nvml.nvmlDeviceGetPersistenceMode, handle)
    throttle = ask(nvml, nvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    return Gpu(
        index=index,
        name=written(nvml.nvmlDeviceGetName(handle)) or "",
        memory=int(memory.total),
        memory_free=int(memory.free),
        compute_capability=(int(major), int(minor)),
        memory_clock_mhz=ask(nvml, nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_MEM),
        memory_bus_bits=ask(nvml, nvml.nvmlDeviceGetMemoryBusWidth, handle),
        ecc=bool(ecc[0]) if ecc else None,
        ecc_uncorrected=ask(
            nvml,
            nvml.nvmlDeviceGetTotalEccErrors,
            handle,
            nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            nvml.NVML_VOLATILE_ECC,
        ),
        mig=bool(mig[0]) if mig else None,
        persistence=None if persistence is None else bool(persistence),
        throttle=None if throttle is None else tuple(throttles(int(throttle))),
        temperature=ask(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
    )


def throttles(reasons: int) -> Iterator[str]:
    for bit, name in _THROTTLES:
        if reasons & bit:
            yield name


def ask(nvml: Any, call: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - a module without types
    """Give the answer, or None where the card or the driver does not know the question."""
    try:
        return call(*arguments)
    except nvml.NVMLError:
        return None


def written(value: object) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value if isinstance(value, str) else None


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(read()))
