"""The engine benchmark: its arithmetic, and one short run for real."""

import importlib.util
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest
from rich.console import Console

from tests.bench.engine import LEAST, SUBJECTS, prompts
from tests.bench.engine_figures import DISTURBED, Ratio, Round, Written, figures, quantile, ratio
from tests.bench.engine_report import Result, show
from tests.bench.others_cpu import OthersCpu, busy_seconds
from tests.miner.process import ROOT, cpu_seconds
from tests.peers.llama_build import built


def answer(first: float, *gaps: float, tokens: int | None = None) -> Written:
    """Asked for at 100 s."""
    pieces = [100 + first]
    for gap in gaps:
        pieces.append(pieces[-1] + gap)
    return Written(asked=100, pieces=pieces, tokens=len(pieces) if tokens is None else tokens)


def round_of(side: str, turn: int, seconds: float, *, tokens: int = 100, others: float = 0.0) -> Round:
    answers = [answer(1, 0.1, tokens=tokens // 2), answer(3, 0.3, tokens=tokens - tokens // 2)]
    return Round(side=side, at_once=8, turn=turn, seconds=seconds, answers=answers, others=others)


def test_an_answer_knows_its_first_token_and_its_gaps() -> None:
    written = answer(0.5, 0.25, 2)
    assert written.first == 0.5
    assert written.gaps == [0.25, 2]
    assert answer(1).gaps == []


def test_quantiles() -> None:
    assert quantile([3, 1, 2], 0.5) == 2
    assert quantile(range(100), 0.95) == 95
    assert quantile([7], 0.95) == 7


def test_figures_are_medians_over_the_rounds() -> None:
    seen = figures([round_of("engine", 0, 1), round_of("engine", 1, 2), round_of("engine", 2, 10)])
    assert (seen.side, seen.at_once, seen.rate) == ("engine", 8, 50)
    assert (seen.first_p50, seen.first_p95) == (3000, 3000)
    assert (round(seen.gap_p50), round(seen.gap_p95)) == (300, 300)
    assert (seen.tokens, seen.rounds, seen.disturbed) == (100, 3, 0)


def test_disturbed_rounds_are_left_out_and_said() -> None:
    loud = DISTURBED + 0.01
    seen = figures([round_of("engine", 0, 1), round_of("engine", 1, 10, others=loud), round_of("engine", 2, 1)])
    assert (seen.rate, seen.rounds, seen.disturbed) == (100, 3, 1)
    seen = figures([round_of("engine", 0, 4, others=loud), round_of("engine", 1, 10, others=loud)])
    assert (seen.rate, seen.disturbed) == (17.5, 2), "with nothing else to go by all count"


def test_a_ratio_pairs_rounds_of_one_turn() -> None:
    """The machine was twice as slow in the second turn, for both."""
    ours = [round_of("engine", 0, 1), round_of("engine", 1, 2), round_of("engine", 2, 1)]
    theirs = [round_of("lock", 2, 3), round_of("lock", 0, 2), round_of("lock", 1, 4)]
    seen = ratio(ours, theirs, must=2.0, aim=2.5)
    assert (seen.peer, seen.value, seen.turns, seen.verdict) == ("lock", 2.0, 3, "must")
    theirs[0] = round_of("lock", 2, 30, others=DISTURBED * 2)
    assert ratio(ours, theirs).turns == 2


@pytest.mark.parametrize(("value", "verdict"), [(1.99, "under"), (2.0, "must"), (2.5, "aim")])
def test_verdicts(value: float, verdict: str) -> None:
    must, aim = LEAST["lock", 8]
    assert Ratio(peer="lock", at_once=8, value=value, turns=1, must=must, aim=aim).verdict == verdict


def test_the_table_says_how_far_to_trust_it() -> None:
    def shown(others: float) -> str:
        rounds = [round_of("engine", 0, 1), round_of("engine", 1, 1, others=others)]
        result = Result(
            engine="llamacpp",
            model="m",
            cpus=2,
            others=others,
            figures=[figures(rounds)],
            ratios=[ratio(rounds, [round_of("lock", 0, 1), round_of("lock", 1, 1)], must=2.0, aim=2.5)],
            notes=["a note"],
        )
        console = Console(width=150, record=True, file=io.StringIO())
        show(result, console)
        return " ".join(console.export_text().split())

    quiet, loud = shown(0.01), shown(0.4)
    assert "No round was disturbed." in quiet
    assert "under" in quiet
    assert "a note" in quiet
    assert "took 40% of the machine's processors" in loud
    assert "1 rounds in which they took over 5% are left out: engine at 8" in loud


def test_no_prompt_of_a_round_begins_as_one_of_another() -> None:
    first, second = prompts(1, "mixed"), prompts(2, "mixed")
    assert len(first) == len(SUBJECTS)
    assert not {text[:10] for text in first} & {text[:10] for text in second}
    assert max(len(text) for text in first) > 10 * min(len(text) for text in first)


BURN = "while True: pass"


def test_only_others_count() -> None:
    """A process below this one burns half a second: whatever others do meanwhile, that half is not theirs."""
    others, busy = OthersCpu(), busy_seconds()
    with subprocess.Popen([sys.executable, "-c", BURN]) as burning:
        until = time.monotonic() + 60
        while cpu_seconds(burning.pid) < 0.5 and time.monotonic() < until:
            time.sleep(0.05)
        counted, spent = others.seconds(), busy_seconds() - busy
        burning.kill()
    assert spent >= 0.4
    assert counted <= spent - 0.4


def test_others_do_count() -> None:
    """A process that is no longer below this one."""
    others = OthersCpu()
    left = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" >&- 2>&- & echo $!', sys.executable, BURN],
        capture_output=True,
        text=True,
        check=True,
    )
    burning = psutil.Process(int(left.stdout))
    try:
        until = time.monotonic() + 60
        while cpu_seconds(burning.pid) < 0.5 and time.monotonic() < until:
            time.sleep(0.05)
        assert others.seconds() >= 0.4
        assert others.share() > 0
    finally:
        burning.kill()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="the embedded engine is not installed")
def test_a_short_run(tmp_path: Path) -> None:
    """With llama.cpp's own server where it was built, without where not."""
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.bench.engine", "--rounds", "1", "--tokens", "8", "--at-once", "2"]
    environment = {"HOME": str(Path.home()), "PATH": os.environ["PATH"], "STATE_DIR": str(tmp_path)}
    # One thread: several that share too few cores wait for each other, spinning, for minutes.
    environment |= {"LLAMA_PARALLEL": "2", "LLAMA_THREADS": "1", "LLAMA_REWRITE": "off"}
    environment |= {name: os.environ[name] for name in ("XDG_CACHE_HOME", "CMAKE_ARGS") if name in os.environ}
    done = subprocess.run(
        [*command, "--json", str(file)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = msgspec.json.decode(file.read_bytes(), type=Result)
    sides = {"engine", "lock"} | ({"llama-server"} if built() else set[str]())
    assert {one.side for one in seen.figures} == sides
    for one in seen.figures:
        assert one.tokens == 8 * len(SUBJECTS)
        assert one.rate > 0
        assert 0 < one.first_p50 <= one.first_p95
        assert 0 < one.gap_p50 <= one.gap_p95
    assert {one.peer for one in seen.ratios} == sides - {"engine"}
    assert all(one.value > 0 for one in seen.ratios)
    assert built() or any("build-llama-server" in note for note in seen.notes)
    assert "SmolLM2" in done.stdout
