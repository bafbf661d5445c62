"""The last test of a run: nothing that was confided to a miner is in anything that it wrote for others."""

import pytest

from tests.conftest import StartMiner
from tests.miner.canary import PROMPT, Evidence, canary_key
from tests.miner.process import MinerProcess, StubEngine
from tests.miner.validator import Validator


def test_the_search_finds_what_it_looks_for() -> None:
    evidence = Evidence()
    evidence.add("log", f"before {PROMPT} after".encode())
    evidence.add("log", b"key=" + canary_key())
    evidence.add("page", b"nothing")
    evidence.add("log", canary_key().hex().encode())
    assert len(evidence.hits()) == 3


async def test_threat_18_no_canary_in_logs_metrics_errors_or_pages(
    miner: MinerProcess, validator: Validator, engine: StubEngine, evidence: Evidence, canary_marks: dict[str, bytes]
) -> None:
    """At LOG_LEVEL DEBUG elsewhere; here whatever the whole run left."""
    engine.behave(echo=True)
    answer = await validator.ask(PROMPT)
    assert PROMPT in answer["response_text"], "the canary did travel"
    miner.collect()
    evidence.add("log so far", miner.log.read_bytes())
    kept = len(evidence.kept)
    print(f"\n{kept} pieces of evidence, {sum(map(len, evidence.kept)) / 1e6:.1f} MB, {len(canary_marks)} marks")  # noqa: T201
    assert kept > 3
    hits = evidence.hits()
    if hits:
        pytest.fail("\n".join(hits[:20]))


async def test_debug_logs_hold_no_content(start_miner: StartMiner, evidence: Evidence, engine: StubEngine) -> None:
    miner = start_miner(LOG_LEVEL="DEBUG")
    async with await miner.validator() as validator:
        await validator.ask("at debug level")
        for fault in ("error_500", "bad_shape", "die"):
            engine.behave(fault=fault)
            await validator.send({"prompt": PROMPT})
        await validator.send({"prompt": [PROMPT]})
    miner.stop()
    evidence.add("debug log", miner.log.read_bytes())
    assert miner.log.read_bytes()
    assert evidence.hits() == []
