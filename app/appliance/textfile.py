"""What is looked at now and then, as metrics that node_exporter's textfile collector reads from a file."""

from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from app.appliance.driver_state import DriverState
from app.domain.compute.hardware import Gpu, Hardware

SUFFIX: Final = ".prom"
"""The collector reads no other files."""


def write_textfile(path: Path, registry: CollectorRegistry) -> None:
    """Replace the file in one step, so that nobody reads half of it. Errors: `OSError`."""
    write_to_textfile(str(path), registry)


def gpu_metrics(hardware: Hardware, state: DriverState, xids: tuple[int, ...] | None) -> CollectorRegistry:
    """Give the GPUs and their driver as metrics; what a card does not tell is left out, never zero."""
    registry = CollectorRegistry()
    nvidia = hardware.nvidia
    driver = Gauge(
        "loosh_gpu_driver_info", "Versions that must agree", ["library", "module", "fabric_manager"], registry=registry
    )
    driver.labels(nvidia.driver or "", state.module or "", state.fabric_manager or "").set(1)
    Gauge("loosh_gpu_driver_mismatch", "1 when they differ: CUDA does not start", registry=registry).set(
        state.differs(hardware)
    )
    Gauge("loosh_gpus", "GPUs that answer", registry=registry).set(len(nvidia.gpus))
    problems = sum(problem.probe == "nvidia" for problem in hardware.problems)
    Gauge("loosh_gpu_problems", "What could not be read of driver and GPUs", registry=registry).set(problems)
    errors = Gauge("loosh_gpu_xid_errors", "Xid errors in the kernel's log since the boot", ["xid"], registry=registry)
    for xid in xids or ():
        errors.labels(str(xid)).inc()
    readable = Gauge("loosh_gpu_xid_readable", "1 when the kernel's log could be read", registry=registry)
    readable.set(xids is not None)
    _cards(nvidia.gpus, registry)
    return registry


def _cards(gpus: tuple[Gpu, ...], registry: CollectorRegistry) -> None:
    card = ["gpu"]
    info = Gauge("loosh_gpu_info", "The card", ["gpu", "name"], registry=registry)
    memory = Gauge("loosh_gpu_memory_bytes", "Memory in all", card, registry=registry)
    free = Gauge("loosh_gpu_memory_free_bytes", "Memory that nothing uses", card, registry=registry)
    temperature = Gauge("loosh_gpu_temperature_celsius", "Temperature", card, registry=registry)
    ecc = Gauge("loosh_gpu_ecc_uncorrected_errors", "Since the driver was loaded", card, registry=registry)
    throttled = Gauge("loosh_gpu_throttled", "1 when its clocks are lowered", ["gpu", "reason"], registry=registry)
    for gpu in gpus:
        index = str(gpu.index)
        info.labels(index, gpu.name).set(1)
        memory.labels(index).set(gpu.memory)
        if gpu.memory_free is not None:
            free.labels(index).set(gpu.memory_free)
        if gpu.temperature is not None:
            temperature.labels(index).set(gpu.temperature)
        if gpu.ecc_uncorrected is not None:
            ecc.labels(index).set(gpu.ecc_uncorrected)
        for reason in gpu.throttle or ():
            throttled.labels(index, reason).set(1)
