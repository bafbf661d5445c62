"""`challenge` against a real miner: what a person, and what a script, gets to see."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from app.protocol.hotkeys import Hotkey
from tests.cli.command import command, environment, run
from tests.conftest import StartMiner
from tests.miner.process import MinerProcess, StubEngine, free_port


def url(miner: MinerProcess) -> str:
    return f"http://127.0.0.1:{miner.port}"


def test_an_answer_for_people(tmp_path: Path, miner: MinerProcess, engine: StubEngine) -> None:
    engine.behave(text="A market of its own.")
    done = run(tmp_path, "challenge", "What is a subnet?", "--url", url(miner))
    assert (done.code, done.err) == (0, "")
    text, _, figures = done.out.splitlines()
    assert text == "A market of its own."
    assert " s · " in figures
    assert " tokens in, " in figures
    assert figures.endswith("finish reason: stop")


def test_an_answer_for_scripts(tmp_path: Path, miner: MinerProcess, engine: StubEngine) -> None:
    engine.behave(echo=True)
    answer = run(tmp_path, "challenge", "Grüße", "--url", url(miner) + "/", "--json").object()
    assert answer["response_text"] == "Grüße"
    assert answer["finish_reason"] == "stop"
    assert answer["tool_calls"] is None
    assert answer["usage"]["completion_tokens"] > 0
    assert answer["handshakes"] == 1
    assert answer["miner_hotkey"].startswith("5")
    assert 0 < answer["seconds"] < 10
    assert answer["correlation_id"]


def test_the_miner_on_this_machine_is_found_by_its_port(
    tmp_path: Path, miner: MinerProcess, engine: StubEngine
) -> None:
    engine.behave(echo=True)
    (tmp_path / ".env").write_text(f"API_PORT={miner.port}\n")
    assert run(tmp_path, "challenge", "hello").out.startswith("hello\n")


def test_tools_are_sent_and_calls_are_shown(tmp_path: Path, miner: MinerProcess, engine: StubEngine) -> None:
    engine.behave(tool_call=True)
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    (tmp_path / "tools.json").write_text(json.dumps([tool]))
    arguments = ("challenge", "Look it up", "--url", url(miner), "--tools", "tools.json")
    answer = run(tmp_path, *arguments, "--json").object()
    assert answer["tool_calls"][0]["function"]["name"] == "look_up"
    assert answer["finish_reason"] == "tool_calls"
    assert '"name":"look_up"' in run(tmp_path, *arguments).out


def test_control_characters_of_an_answer_do_not_reach_the_terminal(
    tmp_path: Path, miner: MinerProcess, engine: StubEngine
) -> None:
    engine.behave(text="a\x1b[31mred\nb\tc")
    out = run(tmp_path, "challenge", "x", "--url", url(miner)).out
    assert out.startswith("a\\x1b[31mred\nb\tc\n")


def test_many_at_once_give_a_summary(tmp_path: Path, miner: MinerProcess, engine: StubEngine) -> None:
    engine.behave(token_ms=10, chunks=2)
    arguments = ("challenge", "x", "--url", url(miner), "--repeat", "20", "--concurrency", "5")
    summary = run(tmp_path, *arguments, "--json").object()
    assert (summary["asked"], summary["ok"], summary["failed"]) == (20, 20, {})
    assert 0 < summary["p50_seconds"] <= summary["p95_seconds"] <= summary["p99_seconds"]
    assert summary["tokens_per_second"] > 0
    assert 1 < engine.stats().max_running <= 5
    shown = run(tmp_path, *arguments).out
    assert shown.startswith("answered  20 of 20 in ")
    assert "failed    none\n" in shown


def test_failures_are_counted_by_status(tmp_path: Path, miner: MinerProcess, engine: StubEngine) -> None:
    engine.behave(fault="over_context")
    done = run(tmp_path, "challenge", "x", "--url", url(miner), "--repeat", "3", "--json")
    assert done.code == 1
    assert done.object()["failed"] == {"422": 3}


def test_a_refusal_is_one_line_with_its_status(tmp_path: Path, start_miner: StartMiner) -> None:
    miner = start_miner(VALIDATOR_HOTKEYS=Hotkey.ephemeral().ss58)
    done = run(tmp_path, "challenge", "x", "--url", url(miner))
    assert (done.code, done.out) == (3, "")
    (line,) = done.err.splitlines()
    assert "the miner refused with 403" in line


def test_a_miner_that_is_not_ready_is_waited_for(tmp_path: Path, start_miner: StartMiner) -> None:
    miner = start_miner(wait=False, VLLM_API_BASE="http://127.0.0.1:1/v1")
    next(miner.polls(30))
    done = run(tmp_path, "challenge", "x", "--url", url(miner), "--timeout", "2")
    assert (done.code, done.out) == (3, "")
    first, *_, last = done.err.splitlines()
    assert first.startswith("waiting for the miner: ")
    assert "was not ready within 2 s: " in last


def test_no_answer_in_time(tmp_path: Path, miner: MinerProcess, engine: StubEngine) -> None:
    engine.behave(fault="stall")
    done = run(tmp_path, "challenge", "x", "--url", url(miner), "--timeout", "1")
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("/fiber/challenge within 1 s\n")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_what_it_does_on_stderr_and_ends_well(tmp_path: Path, engine_process: StubEngine, stop: int) -> None:
    api, admin = free_port(), free_port()
    given = {
        "API_PORT": str(api),
        "ADMIN_PORT": str(admin),
        "STATE_DIR": str(tmp_path / "state"),
        "LLM_BACKEND": "vllm",
        "VLLM_API_BASE": engine_process.base_url,
    }
    engine_process.behave()
    with subprocess.Popen(
        command("serve"),
        cwd=tmp_path,
        env=environment(tmp_path, **given),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        seen: list[str] = []
        for line in process.stderr:
            seen.append(line)
            if "./justw challenge" in line:
                break
        process.send_signal(stop)
        out, rest = process.communicate(timeout=60)
    text = "".join(seen)
    assert "Development mode: ephemeral hotkey, no chain, loopback only: nobody on the network can reach" in text
    assert f"validators: http://127.0.0.1:{api}" in text
    assert f'./justw challenge --url http://127.0.0.1:{api} "What is a Bittensor subnet?"' in text
    assert out == ""
    assert "Stopped. Challenges answered: 0." in rest
    assert "Traceback" not in text + rest
    assert process.returncode == 0
