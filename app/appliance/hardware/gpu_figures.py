"""The GPUs' figures as they are now, for who looks at the running miner; from a child that may hang without harm."""

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Final

import msgspec

from app.domain.gpu_figures import GpuReading

_DEVICE: Final = Path("/dev/nvidiactl")
_EVERY_SECONDS: Final = 5
_SILENCE_SECONDS: Final = 20.0
_AGAIN_SECONDS: Final = 60.0
_LINE_BYTES: Final = 256 * 1024


class GpuWatch:
    """Keeps the last reading. A machine without NVIDIA's device node costs nothing."""

    def __init__(self, device: Path = _DEVICE, again_seconds: float = _AGAIN_SECONDS) -> None:
        self._device = device
        self._again_seconds = again_seconds
        self._reading: GpuReading | None = None

    def reading(self) -> GpuReading | None:
        """The last figures, at most some seconds old; None where there is no GPU to read."""
        return self._reading

    async def run(self) -> None:
        """Read for as long as the miner runs."""
        while True:
            if self._device.exists():
                self._reading = GpuReading(problem=await self._follow())
            await asyncio.sleep(self._again_seconds)

    async def _follow(self) -> str:
        """Read what a child writes until that ends; gives why it did."""
        # One task stays in the child's pipe: this process's own way to its end is closing it.
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app.appliance.hardware.gpu_figures_child", str(_EVERY_SECONDS)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
            limit=_LINE_BYTES,
        )
        try:
            while True:
                async with asyncio.timeout(_SILENCE_SECONDS):
                    line = await child.stdout.readline() if child.stdout is not None else b""
                if not line:
                    return "reading the GPUs ended by itself: see `loosh-miner doctor --only gpu`"
                self._reading = msgspec.json.decode(line, type=GpuReading)
        except TimeoutError:
            return "the NVIDIA driver does not answer: it is wedged; reboot, see dmesg for Xid"
        except (ValueError, msgspec.DecodeError):
            return "what reads the GPUs wrote something else: see `loosh-miner doctor --only gpu`"
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
