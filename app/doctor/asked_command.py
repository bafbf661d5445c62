"""What a small command of the system says, in time or not at all."""

import asyncio
from typing import Final

_SECONDS: Final = 2.0


async def output_of(*command: str) -> str:
    """Give what a command prints; empty when it can't be run, or takes longer than two seconds."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(_SECONDS):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    return out.decode("utf-8", "replace").strip()
