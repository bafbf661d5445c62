"""Runs checks: all at the same time, each within its own time, none able to end the others."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Final

from app.doctor.check import SECTIONS, Check, Finding, Report, Status, Verdict, failed, parted
from app.errors import ChainError, MinerError

EXAMINATION_SECONDS: Final = 7.5
"""The whole; every check's own time is shorter."""
_PROMISED_SECONDS: Final = 10.0
"""Of the whole process, from its start to its last line."""
_ENDING_SECONDS: Final = 1.0
_LEAST_SECONDS: Final = 6.0
"""The driver's probe waits nearly that long before it can say that the driver does not answer."""
_WORST_FIRST: Final[tuple[Status, ...]] = ("failed", "warning")


async def examine(checks: Iterable[Check], seconds: float = EXAMINATION_SECONDS) -> Report:
    """Look at everything, in `seconds` at most; findings come in the order of the sections."""
    started = time.perf_counter()
    ordered = sorted(checks, key=lambda check: SECTIONS.index(check.section))
    findings = tuple(await asyncio.gather(*(_find(check, seconds) for check in ordered)))
    return Report(worst(findings), findings, round(time.perf_counter() - started, 3))


def seconds_left(age: float) -> float:
    """How long an examination may take in a process that started `age` seconds ago: it needs some to end, too."""
    return round(min(EXAMINATION_SECONDS, max(_LEAST_SECONDS, _PROMISED_SECONDS - _ENDING_SECONDS - age)), 1)


def worst(findings: Sequence[Finding]) -> Status:
    """Give the worst status; what was skipped is no fault."""
    statuses = {finding.status for finding in findings}
    for status in _WORST_FIRST:
        if status in statuses:
            return status
    return "ok"


async def _find(check: Check, whole: float) -> Finding:
    started = time.perf_counter()
    seconds = min(check.seconds, whole)
    try:
        async with asyncio.timeout(seconds):
            verdict = await check.look()
    except TimeoutError:
        verdict = failed(f"no result within {seconds:g} s", f"run `loosh-miner doctor --only {check.code}` again")
    except ChainError as error:
        verdict = failed(error.cause, error.remedy)
    except MinerError as error:
        verdict = parted(str(error))
    except OSError as error:
        verdict = Verdict("warning", f"can't be looked at: {error.strerror or type(error).__name__}", "run it as root")
    return Finding(
        code=check.code,
        section=check.section,
        status=verdict.status,
        what=verdict.what,
        fix=verdict.fix,
        seconds=round(time.perf_counter() - started, 3),
    )
