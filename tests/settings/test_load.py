"""Reading the environment and `.env`: values, origins, and every problem at once."""

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import SettingsError
from app.protocol.hotkeys import Hotkey
from app.settings import RateLimit, load
from app.settings_docs import as_objects, as_text
from app.settings_model import specs

NAMES = sorted(spec.name for spec in specs())


def env(tmp_path: Path, text: str) -> Path:
    file = tmp_path / ".env"
    file.write_text(text)
    return file


def problems(environ: dict[str, str], file: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(environ, file)
    return caught.value.problems


def test_nothing_given_gives_the_defaults() -> None:
    loaded = load({"HOME": "/home/operator"}, None)
    assert loaded.settings.api_port == 8000
    assert loaded.settings.wallet_path == Path("/home/operator/.bittensor/wallets")
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.warnings == ()


def test_the_environment_wins_over_the_file_and_each_origin_is_told(tmp_path: Path) -> None:
    file = env(tmp_path, "# ports\n\nAPI_PORT=9000\nexport ADMIN_PORT='9001' # mine\nLOG_LEVEL=debug\n")
    loaded = load({"API_PORT": "9100"}, file)
    assert loaded.settings.api_port == 9100
    assert loaded.settings.admin_port == 9001
    assert loaded.settings.log_level == "DEBUG"
    assert loaded.origins["API_PORT"] == "environment"
    assert loaded.origins["ADMIN_PORT"] == ".env line 4"
    assert loaded.origins["LOG_LEVEL"] == ".env line 5"
    assert loaded.origins["API_HOST"] == "default"
    assert loaded.explicit("ADMIN_PORT")
    assert not loaded.explicit("API_HOST")


def test_an_empty_value_is_no_value(tmp_path: Path) -> None:
    loaded = load({"API_PORT": "", "LOG_LEVEL": "  "}, env(tmp_path, "ADMIN_PORT=\nDEFAULT_MODEL=''\nNETUID\n"))
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.settings.default_model is None


def test_the_last_of_two_lines_counts(tmp_path: Path) -> None:
    loaded = load({}, env(tmp_path, "API_PORT=9000\nAPI_PORT=9001\n"))
    assert (loaded.settings.api_port, loaded.origins["API_PORT"]) == (9001, ".env line 2")
    assert load({}, env(tmp_path, "API_PORT=9000\nAPI_PORT=\n")).settings.api_port == 8000


def test_references_in_the_file_are_filled_in(tmp_path: Path) -> None:
    file = env(tmp_path, "STATE_DIR=${HOME}/state\nLOG_FILE=${STATE_DIR}/log\nHF_HOME=${NO_SUCH:-/hf}\n")
    settings = load({"HOME": "/h"}, file).settings
    assert (settings.state_dir, settings.log_file, settings.hf_home) == (
        Path("/h/state"),
        Path("/h/state/log"),
        Path("/hf"),
    )


def test_home_is_the_environments() -> None:
    settings = load({"HOME": "/h", "MODEL_PATH": "~/m.gguf", "HF_HOME": "~"}, None).settings
    assert settings.model_path == Path("/h/m.gguf")
    assert settings.hf_home == Path("/h")


@pytest.mark.parametrize(
    ("xdg", "state"),
    [("/x", "/x/loosh-miner"), ("relative", "/h/.local/state/loosh-miner"), ("", "/h/.local/state/loosh-miner")],
)
def test_the_state_directory_follows_xdg(xdg: str, state: str) -> None:
    loaded = load({"HOME": "/h", "XDG_STATE_HOME": xdg}, None)
    assert loaded.settings.state_dir == Path(state)
    assert loaded.origins["STATE_DIR"] == "default"


def test_values_of_every_kind() -> None:
    one, two = Hotkey.from_seed(bytes(32)).ss58, Hotkey.from_seed(bytes(range(32))).ss58
    settings = load(
        {
            "TRUSTED_PROXIES": "10.0.0.1, 192.168.0.7/16,2001:db8::/32",
            "VALIDATOR_HOTKEYS": f"{one}, {two}",
            "RATE_LIMIT_OTHER": "5/1",
            "ENABLE_RATE_LIMITS": "No",
            "API_DOCS": "0",
            "ALLOW_COLDKEY": "YES",
            "DEFAULT_TEMPERATURE": "1e0",
            "NETUID": " 12 ",
            "LLM_BACKEND": "LlamaCpp",
            "CHALLENGE_API_KEY": "k-123",
        },
        None,
    ).settings
    assert settings.trusted_proxies == (
        ip_network("10.0.0.1/32"),
        ip_network("192.168.0.0/16"),
        ip_network("2001:db8::/32"),
    )
    assert settings.validator_hotkeys == (one, two)
    assert settings.rate_limit_other == RateLimit(5, 1)
    assert (settings.enable_rate_limits, settings.api_docs, settings.allow_coldkey) == (False, False, True)
    assert (settings.default_temperature, settings.netuid, settings.llm_backend) == (1.0, 12, "llamacpp")
    assert settings.challenge_api_key is not None
    assert settings.challenge_api_key.reveal() == "k-123"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("API_PORT", "http", "'http' is not a whole number"),
        ("API_PORT", "8000.0", "is not a whole number"),
        ("API_PORT", "٨٠٠٠", "is not a whole number"),
        ("API_PORT", "0", "use from 1 to 65535"),
        ("API_PORT", "65536", "use from 1 to 65535"),
        ("API_PORT", "9" * 5000, "is not a whole number"),
        ("MAX_MODEL_LEN", "0", "use 1 or more"),
        ("DEFAULT_TEMPERATURE", "nan", "is not a number"),
        ("DEFAULT_TEMPERATURE", "inf", "is not a number"),
        ("DEFAULT_TEMPERATURE", "1_0", "is not a number"),
        ("DEFAULT_TEMPERATURE", "warm", "is not a number"),
        ("ANSWER_HARD_CUT_SECONDS", "59", "use from 1 to 58 (a validator's round ends at 60 s"),
        ("API_DOCS", "maybe", "neither true nor false"),
        ("LLM_BACKEND", "llama", "is not one of vllm, ollama, llamacpp"),
        ("RATE_LIMIT_CHALLENGE", "120", "write known/unknown"),
        ("RATE_LIMIT_CHALLENGE", "0/5", "use 1 or more on both sides"),
        ("TRUSTED_PROXIES", "10.0.0.1,proxy", "'proxy', which is no address"),
        ("VALIDATOR_HOTKEYS", "5abc", "'5abc', which is no ss58 address"),
        ("VALIDATOR_HOTKEYS", Hotkey.from_seed(bytes(32)).ss58[:-1] + "x", "which is no ss58 address"),
    ],
)
def test_a_value_that_can_not_be_is_named(name: str, text: str, says: str) -> None:
    (problem,) = problems({name: text})
    assert problem.startswith(f"{name} (environment): ")
    assert says in problem
    assert len(problem) < 300
    assert "\n" not in problem


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    file = env(tmp_path, "API_PROT=1\nADMIN_PORT=x\nthis is no line\nNOTHING_LIKE_IT=1\n")
    found = problems({"NETUID": "-1"}, file)
    assert len(found) == 5
    assert any(line.startswith("API_PROT") and "did you mean API_PORT?" in line for line in found)
    assert any(line.startswith("ADMIN_PORT (.env line 2)") for line in found)
    assert any("line 3: is not NAME=value" in line for line in found)
    assert any(line.startswith("NOTHING_LIKE_IT") and "remove the line" in line for line in found)
    assert any(line.startswith("NETUID (environment)") for line in found)


def test_a_lower_case_name_in_the_file_is_not_taken_for_the_setting(tmp_path: Path) -> None:
    (problem,) = problems({}, env(tmp_path, "api_port=1\n"))
    assert "did you mean API_PORT?" in problem


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe\x00A", "not UTF-8"),
        (b"API_PORT='9000\n", "is not NAME=value"),
        (b"#" * (1024 * 1024 + 1), "larger than 1 MiB"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / ".env"
    file.write_bytes(content)
    (problem,) = problems({}, file)
    assert says in problem
    assert str(file) in problem


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    assert "No such file" in problems({}, tmp_path / "none.env")[0]
    assert "directory" in problems({}, tmp_path)[0]


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"\xef\xbb\xbfAPI_PORT=9000\r\nADMIN_PORT=9001\r\n")
    loaded = load({}, file)
    assert (loaded.settings.api_port, loaded.settings.admin_port) == (9000, 9001)
    assert loaded.origins["ADMIN_PORT"] == ".env line 2"


def test_only_slips_of_the_pen_in_the_environment_are_worth_a_warning() -> None:
    warnings = load({"API_PROT": "1", "WALET_NAME": "x", "PATH": "/bin", "API": "1", "LANG": "C"}, None).warnings
    assert [warning.split(" ")[0] for warning in warnings] == ["API_PROT", "WALET_NAME"]
    assert load({"API_PORTS": "1", "API_PORT": "9000"}, None).warnings == ()


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    loaded = load(
        {"CHALLENGE_API_KEY": "canary-key", "SUBTENSOR_ADDRESS": "wss://user:canary-pass@node/?k=canary-q"}, None
    )
    shown = as_text(loaded) + repr(as_objects(loaded)) + repr(loaded) + str(loaded.settings.challenge_api_key)
    assert "canary-key" not in shown
    assert "CHALLENGE_API_KEY=***" in shown
    listed = as_text(loaded) + repr(as_objects(loaded))
    assert "canary" not in listed
    assert "wss://***@node/?***" in listed


def test_a_secret_that_can_not_be_is_not_repeated() -> None:
    (problem,) = problems({"CHALLENGE_API_KEY": "canary\0key"})
    assert "canary" not in problem


def test_systemds_credentials_are_found() -> None:
    assert load({"CREDENTIALS_DIRECTORY": "/run/credentials/miner"}, None).credentials == Path("/run/credentials/miner")
    assert load({}, None).credentials is None


def refusals(environ: dict[str, str], file: Path | None = None) -> tuple[str, ...]:
    try:
        load(environ, file)
    except SettingsError as error:
        return error.problems
    return ()


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=40), max_size=4))
def test_any_text_loads_or_is_refused_with_one_line_each(environ: dict[str, str]) -> None:
    assert all(problem.strip() and "\n" not in problem for problem in refusals(environ))


@pytest.mark.parametrize("text", ["0", "-1", "1e308", "//", "http://[", "a/b", ",", "/", "~", "%", "::", "1/1/1"])
def test_awkward_values_load_or_are_refused(text: str) -> None:
    for name in NAMES:
        assert all(": " in problem for problem in refusals({name: text}))


@given(st.binary(max_size=200))
def test_any_file_loads_or_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.env"
    file.write_bytes(content)
    assert all("\n" not in problem for problem in refusals({}, file))
