"""Checks run side by side, each within its own time, and none ends the others."""

import asyncio
import time

from app.doctor.check import Check, Finding, Section, Status, Verdict, failed, ok, skipped, warning
from app.doctor.examination import examine, worst
from app.errors import ChainError, WalletError


def _check(code: str, verdict: Verdict | Exception, *, section: Section = "miner", pause: float = 0.0) -> Check:
    async def look() -> Verdict:
        await asyncio.sleep(pause)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict

    return Check(code=code, section=section, title="t", look=look, seconds=0.5)


def _finding(status: Status) -> Finding:
    return Finding(code="c", section="miner", status=status, what="", fix="", seconds=0.0)


async def test_a_silent_check_ends_alone() -> None:
    started = time.perf_counter()
    report = await examine([_check("hangs", ok("never"), pause=60), _check("good", ok("fine"))])
    hung, good = report.findings
    assert (hung.status, good.status) == ("failed", "ok")
    assert "0.5 s" in hung.what
    assert "hangs" in hung.fix
    assert time.perf_counter() - started < 30


async def test_they_run_side_by_side() -> None:
    started = time.perf_counter()
    report = await examine([_check(f"c{number}", ok(""), pause=0.3) for number in range(100)])
    assert len(report.findings) == 100
    assert time.perf_counter() - started < 15  # one after the other it would be 30


async def test_errors_are_findings() -> None:
    errors = (
        WalletError("k: is damaged: restore it"),
        ChainError("no node", remedy="set it", code="x"),
        OSError(13, "no"),
    )
    report = await examine(_check(f"c{number}", error) for number, error in enumerate(errors))
    assert [finding.status for finding in report.findings] == ["failed", "failed", "warning"]
    assert [bool(finding.fix) for finding in report.findings] == [True, True, True]
    assert report.findings[1].what == "no node"
    assert report.findings[1].fix == "set it"
    assert report.findings[0].fix == "restore it"


async def test_findings_come_in_the_order_of_the_sections() -> None:
    report = await examine(
        [
            _check("a", ok(""), section="selftest"),
            _check("b", ok(""), section="gpu"),
            _check("c", ok(""), section="system"),
        ]
    )
    assert [finding.code for finding in report.findings] == ["c", "b", "a"]


def test_the_worst_counts_and_skipped_is_no_fault() -> None:
    assert worst([]) == "ok"
    assert worst([_finding("skipped")]) == "ok"
    assert worst([_finding("ok"), _finding("warning"), _finding("skipped")]) == "warning"
    assert worst([_finding("warning"), _finding("failed")]) == "failed"


def test_what_is_wrong_says_what_to_do() -> None:
    assert warning("w", "do").fix == failed("f", "do").fix == "do"
    assert not ok("o").fix
    assert not skipped("s").fix
