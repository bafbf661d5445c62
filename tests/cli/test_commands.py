"""Every command: what goes to stdout and what to stderr, exit codes, and bad input without a traceback."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.settings_model import specs
from tests.cli.command import command, environment, run


def test_help_lists_the_commands_on_stdout(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert (done.code, done.err) == (0, "")
    for name in ("serve", "challenge", "config", "version"):
        assert f" {name} " in done.out


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """The time that `--help` takes is its imports'; a test of the time itself would depend on the machine."""
    probe = (
        "import sys; from app.cli import cli; cli.main(['--help'], standalone_mode=False);"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {
        "litestar",
        "granian",
        "aiohttp",
        "cryptography",
        "structlog",
        "bittensor_core",
        "msgspec",
        "asyncio",
        "dotenv",
    }
    assert not heavy & set(done.stderr.split())


def test_no_arguments_show_the_help_and_fail(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.code == 2
    assert "Usage" in done.out + done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("nope",),
        ("--nope",),
        ("serve", "--nope"),
        ("serve", "extra"),
        ("serve", "--env-file", "none.env"),
        ("serve", "--env-file", "."),
        ("config", "nope"),
        ("challenge",),
        ("challenge", ""),
        ("challenge", "  "),
        ("challenge", b"\xff\xfe"),
        ("challenge", "a", "b"),
        ("challenge", "a", "--url", "ftp://host"),
        ("challenge", "a", "--url", "host:8000"),
        ("challenge", "a", "--url", "http://"),
        ("challenge", "a", "--url", "http://["),
        ("challenge", "a", "--url", "http://host:99999"),
        ("challenge", "a", "--url", "http://host:0"),
        ("challenge", "a", "--url", "http://ho st"),
        ("challenge", "a", "--tools", "none.json"),
        ("challenge", "a", "--tools", "."),
        ("challenge", "a", "--tools", "binary"),
        ("challenge", "a", "--tools", "object.json"),
        ("challenge", "a", "--tools", "deep.json"),
        ("challenge", "a", "--max-tokens", "0"),
        ("challenge", "a", "--max-tokens", "many"),
        ("challenge", "a", "--temperature", "nan"),
        ("challenge", "a", "--temperature", "3"),
        ("challenge", "a", "--timeout", "nan"),
        ("challenge", "a", "--timeout", "0"),
        ("challenge", "a", "--repeat", "0"),
        ("challenge", "a", "--concurrency", "0"),
    ],
)
def test_wrong_usage_is_said_on_stderr(tmp_path: Path, arguments: tuple[str | bytes, ...]) -> None:
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "object.json").write_text('{"type": "function"}')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    done = run(tmp_path, *arguments)
    assert done.code == 2
    assert "Usage" in done.err
    assert done.out == ""


def test_version(tmp_path: Path) -> None:
    assert run(tmp_path, "version").out.startswith("loosh-miner ")
    parts = run(tmp_path, "version", "--json").object()
    assert parts["loosh-miner"]
    assert parts["python"].startswith("3.")


def test_config_show(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_PORT=9000\nCHALLENGE_API_KEY=canary\n")
    done = run(tmp_path, "config", "show", LOG_LEVEL="DEBUG")
    assert done.code == 0
    lines = {line.split("=")[0]: line for line in done.out.splitlines() if "=" in line}
    assert set(lines) == {spec.name for spec in specs()}
    assert lines["API_PORT"].split() == ["API_PORT=9000", "#", ".env", "line", "1"]
    assert lines["LOG_LEVEL"].split() == ["LOG_LEVEL=DEBUG", "#", "environment"]
    assert lines["CHALLENGE_API_KEY"].startswith("CHALLENGE_API_KEY=*** ")
    assert "canary" not in done.out + done.err
    assert done.err == "warning: CHALLENGE_API_KEY is deprecated: the hotkey's signature is enough, remove it\n"


def test_config_show_as_json(tmp_path: Path) -> None:
    (tmp_path / "miner.env").write_text("API_PORT=9000\nCHALLENGE_API_KEY=canary\n")
    shown = run(tmp_path, "config", "show", "--json", "--env-file", "miner.env").object()
    assert shown["API_PORT"] == {"value": "9000", "origin": "miner.env line 1"}
    assert shown["CHALLENGE_API_KEY"]["value"] == "***"
    assert shown["MODEL_PATH"] == {"value": None, "origin": "default"}


def test_what_config_show_prints_is_a_good_env_file(tmp_path: Path) -> None:
    shown = run(tmp_path, "config", "show").out
    (tmp_path / "copy.env").write_text(shown)
    again = run(tmp_path, "config", "show", "--json", "--env-file", "copy.env").object()
    assert again["API_PORT"]["value"] == "8000"


def test_wrong_settings_stop_every_command_that_needs_them(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_PROT=1\nADMIN_PORT=x\n")
    for arguments in (("serve",), ("config", "show"), ("config", "check"), ("challenge", "a")):
        done = run(tmp_path, *arguments)
        assert (done.code, done.out) == (2, "")
        first, second = done.err.splitlines()
        assert (
            first
            == "loosh-miner: API_PROT (" + str(Path(".env")) + " line 1): is not a setting: did you mean API_PORT?"
        )
        assert second.startswith("loosh-miner: ADMIN_PORT (.env line 2): 'x' is not a whole number")


def test_config_check_in_development_mode(tmp_path: Path) -> None:
    done = run(tmp_path, "config", "check")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("ok: development mode")


def test_a_missing_wallet_stops_check_and_start(tmp_path: Path) -> None:
    for arguments in (("serve",), ("config", "check")):
        done = run(tmp_path, *arguments, WALLET_NAME="mine")
        assert (done.code, done.out) == (2, "")
        (line,) = done.err.splitlines()
        assert line.startswith("loosh-miner: ")
        assert "no such directory: correct WALLET_PATH" in line


def test_nothing_listens(tmp_path: Path) -> None:
    done = run(tmp_path, "challenge", "hello", API_PORT="1")
    assert (done.code, done.out) == (1, "")
    assert done.err == "loosh-miner: no miner answers at http://127.0.0.1:1: start one with ./justw run\n"


def test_a_host_that_is_not_known(tmp_path: Path) -> None:
    done = run(tmp_path, "challenge", "hello", "--url", "http://no-such-host.invalid:8000")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("loosh-miner: no miner answers at http://no-such-host.invalid:8000")


def test_a_challenge_elsewhere_needs_no_good_settings(tmp_path: Path) -> None:
    assert run(tmp_path, "challenge", "hello", "--url", "http://127.0.0.1:1", API_PORT="x").code == 1


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    with subprocess.Popen(
        command("config", "show"),
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) != 0


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("config", "show"),
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_interrupt_ends_with_130(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            command("challenge", "hello", "--url", url),
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            connection, _ = silent.accept()
            with connection:
                time.sleep(0.2)
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == b""
    assert b"Traceback" not in err
