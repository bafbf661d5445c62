"""Reads NVML again and again: `python -m app.appliance.hardware.gpu_figures_child SECONDS`, a JSON line each time.

In a process of its own, because a call into a wedged driver never comes back. It ends when its standard input does.
"""

import importlib
import select
import sys
from typing import Any

import msgspec

from app.appliance.hardware.nvml_child import ask, throttles, written
from app.domain.gpu_figures import GpuFigures, GpuReading


def figures(nvml: Any) -> GpuReading:  # noqa: ANN401 - a module without types
    """Ask for everything once."""
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return GpuReading(tuple(_figures(nvml, index, handle) for index, handle in enumerate(handles)))
    except nvml.NVMLError as error:  # fallen off the bus, say
        return GpuReading(problem=str(error))


def _figures(nvml: Any, index: int, handle: object) -> GpuFigures:  # noqa: ANN401 - a module without types
    memory = ask(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    busy = ask(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    power = ask(nvml, nvml.nvmlDeviceGetPowerUsage, handle)
    limit = ask(nvml, nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    return GpuFigures(
        index=index,
        name=written(nvml.nvmlDeviceGetName(handle)) or "",
        utilisation=None if busy is None else int(busy.gpu),
        memory_used=None if memory is None else int(memory.used),
        memory=None if memory is None else int(memory.total),
        temperature=ask(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        power=None if power is None else power / 1000,
        power_limit=None if limit is None else limit / 1000,
        clock_mhz=ask(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
        ecc_uncorrected=ask(
            nvml,
            nvml.nvmlDeviceGetTotalEccErrors,
            handle,
            nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            nvml.NVML_VOLATILE_ECC,
        ),
        throttle=tuple(throttles(int(ask(nvml, nvml.nvmlDeviceGetCurrentClocksEventReasons, handle) or 0))),
    )


def main(seconds: float) -> None:
    """Read and write until standard input ends."""
    nvml: Any = importlib.import_module("pynvml")  # it has no types
    started = False
    while True:
        try:
            if not started:
                nvml.nvmlInit()
                started = True
            reading = figures(nvml)
        except nvml.NVMLError as error:
            reading = GpuReading(problem=str(error))
        sys.stdout.buffer.write(msgspec.json.encode(reading) + b"\n")
        sys.stdout.buffer.flush()
        if select.select([sys.stdin], [], [], seconds)[0]:
            return


if __name__ == "__main__":
    main(float(sys.argv[1]))
