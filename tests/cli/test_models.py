"""`models`, `engine render` and `hardware`: streams, exit codes, settings that flow in, bad input."""

from pathlib import Path

import pytest

from tests.cli.command import run


def test_models_tell_the_choice(tmp_path: Path) -> None:
    done = run(tmp_path, "models", "--hardware", "a10")
    assert (done.code, done.err) == (0, "")
    assert "rtx_5080_16gb (retired)" in done.out
    assert "chosen: qwen2.5-14b-instruct with vllm, context 32768" in done.out
    found = run(tmp_path, "models", "--hardware", "a10", "--json").object()
    assert found["chosen"]["model"] == "qwen2.5-14b-instruct"
    assert [tier["tier"] for tier in found["tiers"] if tier["here"]] == ["a10_24gb"]
    refused = {model["id"]: model["reason"]["code"] for model in found["models"] if not model["fits"]}
    assert refused["qwen2.5-32b-instruct"] == "tier"


def test_explain_shows_the_sum(tmp_path: Path) -> None:
    done = run(tmp_path, "models", "explain", "Qwen/Qwen2.5-14B-Instruct", "--hardware", "a10")
    assert done.code == 0
    for line in (
        "GPU memory: 23028 MiB = 24.1 GB",
        "x 0.9 = 21.7 GB",
        "weights: - 10.0 GB",
        "one token: 196608 bytes",
        "context that fits: 51200 tokens",
        "context served: 32768 tokens",
        "at most 60 tokens/s",
    ):
        assert line in done.out
    unknown = run(tmp_path, "models", "explain", "gpt-2", "--hardware", "a10")
    assert (unknown.code, unknown.out) == (3, "")
    assert "name one of" in unknown.err


def test_render_takes_the_settings(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "TENSOR_PARALLEL_SIZE=1\nMAX_MODEL_LEN=20480\nGPU_MEMORY_UTILIZATION=0.85\nVLLM_MAX_NUM_SEQS=16\n"
        "VLLM_TOOL_CALL_PARSER=mistral\nVLLM_ENABLE_PREFIX_CACHING=false\nVLLM_MAX_NUM_BATCHED_TOKENS=4096\n"
        "VLLM_API_BASE=http://localhost:9001/v1\nHF_HOME=/srv/hf\nHUGGINGFACE_HUB_CACHE=/srv/hub\n"
        "MODEL_PREFERENCE=quality\n"
    )
    done = run(tmp_path, "engine", "render", "--hardware", "2xa100-80", "--format", "systemd")
    assert done.code == 0, done.err
    for part in (
        "vllm serve Qwen/Qwen2.5-72B-Instruct-AWQ",
        "--tensor-parallel-size 1",
        "--max-model-len 20480",
        "--gpu-memory-utilization 0.85",
        "--max-num-seqs 16",
        "--tool-call-parser mistral",
        "--no-enable-prefix-caching",
        "--max-num-batched-tokens 4096",
        "--port 9001",
        "Environment=HF_HOME=/srv/hf\n",
        "Environment=HF_HUB_CACHE=/srv/hub\n",
        "ReadWritePaths=/srv/hub\n",
    ):
        assert part in done.out


def test_when_nothing_fits_each_reason_is_told_on_stderr(tmp_path: Path) -> None:
    done = run(tmp_path, "engine", "render", "--hardware", "t4", "--backend", "vllm")
    assert (done.code, done.out) == (3, "")
    assert "15360 MiB = 16.1 GB" in done.err
    assert "12.0" in done.err


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"VLLM_TOOL_CALL_PARSER": "a b\nExecStart=/bin/false"}, "is no parser's name"),
        ({"HF_HOME": "relative"}, "is not an absolute path"),
        ({"HF_HOME": "/srv/a\nExecStart=/bin/false"}, "is not an absolute path"),
        ({"DEFAULT_MODEL": "gpt-2"}, "is in no allow-list"),
    ],
)
def test_settings_that_can_not_be_rendered_are_refused(tmp_path: Path, settings: dict[str, str], told: str) -> None:
    done = run(tmp_path, "engine", "render", "--hardware", "a10", "--format", "systemd", seconds=60, **settings)
    assert done.code in {2, 3}
    assert done.out == ""
    assert told in done.err


def test_hardware_is_a_recording_of_this_machine(tmp_path: Path) -> None:
    done = run(tmp_path, "hardware", "--json")
    assert done.code == 0
    (tmp_path / "box.json").write_text(done.out)
    assert run(tmp_path, "hardware", "--hardware", "box.json", "--json").object() == done.object()
    assert run(tmp_path, "models", "--hardware", "box.json").code == 0
    missing = run(tmp_path, "hardware", "--hardware", "none.json")
    assert (missing.code, missing.out) == (2, "")
    assert "give a file, or one of" in missing.err
