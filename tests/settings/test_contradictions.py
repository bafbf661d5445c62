"""Settings that can't work together are refused, each with one line; doubtful ones are told and accepted."""

import pytest

from app.errors import SettingsError
from app.settings import load

REFUSED = [
    ({"API_PORT": "8001", "LLM_BACKEND": "vllm"}, "API_PORT: is 8001, the engine's port in VLLM_API_BASE"),
    ({"API_PORT": "9", "LLM_BACKEND": "vllm", "VLLM_API_BASE": "http://127.0.0.1:9/v1"}, "the engine's port"),
    (
        {"API_PORT": "80", "LLM_BACKEND": "vllm", "VLLM_API_BASE": "http://[::1]/v1"},
        "API_PORT: is 80, the engine's port",
    ),
    (
        {"API_PORT": "9", "API_HOST": "10.0.0.5", "LLM_BACKEND": "vllm", "VLLM_API_BASE": "http://10.0.0.5:9/v1"},
        "the engine's port",
    ),
    (
        {"API_PORT": "9", "LLM_BACKEND": "vllm", "VLLM_API_BASE": "http://10.0.0.5:9/v1, http://127.0.0.1:9/v1"},
        "the engine's port",
    ),
    ({"API_PORT": "11434", "LLM_BACKEND": "ollama", "DEFAULT_MODEL": "m"}, "the engine's port in OLLAMA_BASE_URL"),
    ({"ADMIN_PORT": "8001", "LLM_BACKEND": "vllm"}, "ADMIN_PORT: is 8001, the engine's port"),
    ({"ADMIN_PORT": "8000"}, "ADMIN_PORT: is 8000, the same as API_PORT"),
    ({"LLM_BACKEND": "ollama"}, "DEFAULT_MODEL: is needed"),
    ({"ANSWER_SOFT_STOP_SECONDS": "50"}, "not before ANSWER_HARD_CUT_SECONDS=50"),
    ({"ANSWER_HARD_CUT_SECONDS": "45"}, "ANSWER_SOFT_STOP_SECONDS: is 45"),
    ({"DEVELOPMENT_MODE": "on", "API_HOST": "0.0.0.0"}, "would let the network in"),  # noqa: S104
    ({"DEVELOPMENT_MODE": "on", "HOTKEY_FILE": "/k"}, "HOTKEY_FILE would not be used"),
    ({"MODEL_PATH": "/m.gguf", "LLM_BACKEND": "vllm"}, "MODEL_PATH: is a file for LLM_BACKEND=llamacpp"),
    ({"DEFAULT_MAX_TOKENS": "4096", "MAX_MODEL_LEN": "4096", "LLM_BACKEND": "vllm"}, "MAX_MODEL_LEN=4096 tokens"),
    ({"DEFAULT_MAX_TOKENS": "4096", "LLAMA_CONTEXT": "4096"}, "LLAMA_CONTEXT=4096 tokens"),
    ({"PROBE_TIMEOUT_SECONDS": "20"}, "longer than PROBE_INTERVAL_SECONDS=10"),
    ({"API_HOST": "miner.example"}, "API_HOST: 'miner.example' is not an IP address"),
    ({"TRUSTED_PROXIES": "0.0.0.0/0"}, "TRUSTED_PROXIES: 0.0.0.0/0 is everyone"),
    ({"TRUSTED_PROXIES": "::/0"}, "TRUSTED_PROXIES: ::/0 is everyone"),
    ({"WALLET_NAME": "../x"}, "WALLET_NAME: '../x' is a path"),
    ({"HOTKEY_NAME": ".."}, "HOTKEY_NAME: '..' is a path"),
    ({"SUBTENSOR_ADDRESS": "http://node"}, "SUBTENSOR_ADDRESS: is not a node's address"),
    ({"CHALLENGE_API_URL": "challenge.loosh.ai"}, "CHALLENGE_API_URL: is not an address"),
    ({"VLLM_API_BASE": "localhost:8001"}, "VLLM_API_BASE: is not an engine's address"),
    ({"VLLM_API_BASE": "file:///etc/passwd"}, "VLLM_API_BASE: is not an engine's address"),
    ({"VLLM_API_BASE": "http://localhost:99999/v1"}, "VLLM_API_BASE: is not an engine's address"),
    ({"VLLM_API_BASE": "http://[::1/v1"}, "VLLM_API_BASE: is not an engine's address"),
    ({"VLLM_API_BASE": "http://a/v1,http://u:p@b/v1"}, "has a user or password in it"),
    ({"VLLM_API_BASE": "http://a/v1,ftp://b"}, "VLLM_API_BASE: is not an engine's address"),
    ({"VLLM_API_BASE": ","}, "VLLM_API_BASE: is not an engine's address"),
    ({"OLLAMA_BASE_URL": "http://a,http://b,http://a"}, "OLLAMA_BASE_URL: names the same engine twice"),
    (
        {"LLM_BACKEND": "vllm", "VLLM_API_BASE": "http://10.0.0.5/v1,http://93.184.216.34/v1"},
        "93.184.216.34 is not known",
    ),
    ({"VLLM_API_BASE": "http://u:p@localhost:8001/v1"}, "has a user or password in it"),
    ({"VLLM_API_BASE": "http://localhost:8001/v1?x=1"}, "has a ? or # part"),
    ({"ENGINE_API_KEY": "schlüssel"}, "ENGINE_API_KEY: holds characters"),
    ({"ENGINE_API_KEY": "a\nb"}, "ENGINE_API_KEY: holds characters"),
    ({"OLLAMA_BASE_URL": "ollama"}, "OLLAMA_BASE_URL: is not an engine's address"),
]
THREAT_19 = [
    "http://8.8.8.8:8001/v1",
    "https://api.example.com/v1",
    "http://[2606:4700::1111]/v1",
    "http://[::ffff:8.8.8.8]/v1",
    "http://224.0.0.1/v1",
    "http://localhost.example.com/v1",
]
FINE = [
    {"DEFAULT_MODEL": "Qwen/Qwen2.5-7B-Instruct", "MODEL_PATH": "/m.gguf"},
    {"DEFAULT_MODEL": "SmolLM2-135M-Instruct"},
    {"API_PORT": "8001"},
    {"API_PORT": "8001", "LLM_BACKEND": "vllm", "VLLM_API_BASE": "http://10.0.0.5:8001/v1"},
    {"VLLM_API_BASE": "https://api.example.com/v1"},
    {"LLM_BACKEND": "vllm", "VLLM_API_BASE": "https://api.example.com/v1", "ALLOW_PUBLIC_ENGINE": "true"},
    {"LLM_BACKEND": "vllm", "VLLM_API_BASE": "http://gpu-box:8001/v1"},
    {"LLM_BACKEND": "vllm", "VLLM_API_BASE": "http://gpu-box:8001/v1, http://10.0.0.5:8001/v1,"},
    {"LLM_BACKEND": "vllm", "VLLM_API_BASE": "http://gpu.lan:8001/v1"},
    {"LLM_BACKEND": "vllm", "VLLM_API_BASE": "http://192.168.1.2:8001/v1"},
    {"LLM_BACKEND": "vllm", "VLLM_API_BASE": "http://[fd00::1]:8001/v1"},
    {"DEVELOPMENT_MODE": "on", "API_HOST": "127.0.0.1"},
    {"DEVELOPMENT_MODE": "on", "API_HOST": "::1"},
    {"MAX_MODEL_LEN": "4096", "LLM_BACKEND": "vllm"},
    {"LLAMA_CONTEXT": "4096"},
    {"API_HOST": "::"},
]


@pytest.mark.parametrize(("environ", "says"), REFUSED)
def test_a_contradiction_is_refused_with_one_line(environ: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(environ, None)
    (problem,) = caught.value.problems
    assert says in problem
    assert problem.count(": ") >= 2, "name: what is wrong: what to do"


@pytest.mark.parametrize("url", THREAT_19)
def test_threat_19_an_engine_outside_the_network_needs_a_word(url: str) -> None:
    with pytest.raises(SettingsError, match="set ALLOW_PUBLIC_ENGINE=true"):
        load({"LLM_BACKEND": "vllm", "VLLM_API_BASE": url}, None)
    assert load({"LLM_BACKEND": "vllm", "VLLM_API_BASE": url, "ALLOW_PUBLIC_ENGINE": "true"}, None)


@pytest.mark.parametrize("environ", FINE)
def test_what_can_work_is_accepted(environ: dict[str, str]) -> None:
    assert load(environ, None).warnings == ()


def test_an_engines_password_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"VLLM_API_BASE": "http://user:canary@localhost:8001/v1"}, None)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"CHALLENGE_API_KEY": "k"}, "CHALLENGE_API_KEY is deprecated"),
        ({"ENABLE_VALIDATOR_WHITELIST": "false"}, "any hotkey is answered"),
        ({"ENABLE_RATE_LIMITS": "false"}, "one caller can take all"),
        ({"ENABLE_LEGACY_INFERENCE": "true"}, "plain text"),
        ({"LLM_BACKEND": "vllm", "MAX_CONCURRENT_REQUESTS": "65"}, "more than VLLM_MAX_NUM_SEQS=64"),
        ({"DEFAULT_MODEL": "org/a"}, "DEFAULT_MODEL=org/a is not served: LLM_BACKEND=llamacpp without MODEL_PATH"),
        ({"LLM_BACKEND": "vllm", "LLAMA_THREADS": "4"}, "LLAMA_THREADS: not used with LLM_BACKEND=vllm"),
    ],
)
def test_what_is_doubtful_is_told(environ: dict[str, str], says: str) -> None:
    (warning,) = load(environ, None).warnings
    assert says in warning
