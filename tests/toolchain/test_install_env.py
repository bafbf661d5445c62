"""What the operator sees while the environment is made, and when it cannot be."""

import io
import os
import subprocess
import sys
from pathlib import Path

import install_env
import pytest
import watched_uv
from watched_uv import UvError, WatchedUv

NINJA = "DEBUG [{}/57] Building CXX object src/CMakeFiles/llama.dir/llama.cpp.o"
FAILED_BUILD = """\
echo 'DEBUG Selecting: aiohttp'
echo 'DEBUG Failed to reflink: not supported (os error 95)'
echo '   Building llama-cpp-python==0.3.36'
echo 'DEBUG [3/57] Building CXX object llama.cpp.o'
echo 'llama.cpp:12:3: error: no such thing'
echo 'ninja: build stopped: subcommand failed.'
exit 1
"""


@pytest.fixture
def uv(tmp_path: Path) -> Path:
    """A stand-in for uv, first on a PATH of nothing else: tests write what it does."""
    program = tmp_path / "uv"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def watch(uv: Path, script: str, monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """Run the stand-in as the installer runs uv; the log is returned."""
    uv.write_text(f"#!/bin/sh\n{script}", encoding="utf-8")
    monkeypatch.setenv("PATH", str(uv.parent))
    log = io.StringIO()
    WatchedUv(uv.parent, log, {"PATH": str(uv.parent), **environment}).run("pip", "sync")
    return log.getvalue()


def test_a_build_is_announced_and_counted(
    uv: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watched_uv, "FILE_SECONDS", 0.05)
    steps = "".join(f"echo '{NINJA.format(n)}'; /bin/sleep 0.1\n" for n in (1, 2))
    log = watch(uv, f"echo '   Building llama-cpp-python==0.3.36'\n{steps}", monkeypatch)
    shown = capsys.readouterr().err
    assert "building llama.cpp once, about" in shown
    assert "step 2 of 57" in shown
    assert NINJA.format(1) in log


def test_without_a_build_nothing_is_announced(
    uv: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(uv, "echo 'DEBUG Requirement already cached: llama-cpp-python==0.3.36'\n", monkeypatch)
    assert capsys.readouterr().err == ""


def test_a_failed_build_repeats_what_the_compiler_said(uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (uv.parent / "c++").symlink_to("/bin/true")
    with pytest.raises(UvError) as failure:
        watch(uv, FAILED_BUILD, monkeypatch)
    text = str(failure.value)
    assert "llama.cpp:12:3: error: no such thing" in text
    assert "DEBUG" not in text.partition("llama.cpp:12:3")[0].replace("DEBUG [3/57]", "")
    assert "apt install" not in text


def test_a_missing_compiler_is_named(uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UvError, match=r"apt install g\+\+"):
        watch(uv, FAILED_BUILD, monkeypatch)


def test_what_offline_lacks_is_told_from_what_does_not_build(uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(uv.parent))
    watched = WatchedUv(uv.parent, io.StringIO(), {"PATH": str(uv.parent)})
    for script, lacked in (
        ("echo 'hint: unavailable because the network was disabled.'; exit 1", True),
        (FAILED_BUILD, False),
    ):
        uv.write_text(f"#!/bin/sh\n{script}", encoding="utf-8")
        with pytest.raises(UvError):
            watched.run("pip", "sync")
        assert watched.lacked_network() is lacked


def test_a_registry_out_of_reach_is_named(uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UvError, match="check the network"):
        watch(uv, "echo 'error: Failed to fetch: something'; exit 2", monkeypatch)


def test_the_operators_cmake_args_make_another_wheel() -> None:
    ours, theirs = install_env.llama_settings(""), install_env.llama_settings("-DGGML_CUDA=ON")
    assert theirs != ours
    assert install_env.llama_fingerprint(theirs) != install_env.llama_fingerprint(ours)
    assert install_env.llama_settings("-DGGML_NATIVE=ON") != theirs


def test_only_a_change_of_its_flags_makes_llama_cpp_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyproject = tmp_path / "pyproject.toml"
    text = install_env.PYPROJECT.read_text(encoding="utf-8")
    before = install_env.llama_fingerprint([])
    monkeypatch.setattr(install_env, "PYPROJECT", pyproject)
    pyproject.write_text(text.replace("line-length = 120", "line-length = 100"), encoding="utf-8")
    assert install_env.llama_fingerprint([]) == before
    pyproject.write_text(text.replace('GGML_OPENMP" = "OFF"', 'GGML_OPENMP" = "ON"'), encoding="utf-8")
    assert install_env.llama_fingerprint([]) != before


@pytest.mark.parametrize(
    ("asked", "made", "current"),
    [
        ("runtime", {"kind": "runtime", "inputs": "now", "cmake_args": ""}, True),
        ("runtime", {"kind": "dev", "inputs": "now", "cmake_args": ""}, True),
        ("dev", {"kind": "runtime", "inputs": "now", "cmake_args": ""}, False),
        ("runtime", {"kind": "runtime", "inputs": "older", "cmake_args": ""}, False),
        ("runtime", {"kind": "runtime", "inputs": "", "cmake_args": ""}, False),
        ("runtime", {}, False),
    ],
)
def test_the_environment_is_made_again_only_when_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, made: dict[str, str], *, current: bool
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "loosh-miner").touch()
    monkeypatch.setattr(install_env, "VENV", tmp_path)
    monkeypatch.setattr(install_env, "STAMP", tmp_path / "stamp.json")
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    if made:
        install_env.write_stamp(made)
    assert install_env.is_current(asked, "now") is current


def test_a_build_for_cuda_stays_until_asked_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "loosh-miner").touch()
    monkeypatch.setattr(install_env, "VENV", tmp_path)
    monkeypatch.setattr(install_env, "STAMP", tmp_path / "stamp.json")
    install_env.write_stamp({"kind": "runtime", "inputs": "now", "cmake_args": "-DGGML_CUDA=ON"})
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    assert install_env.is_current("runtime", "now")
    monkeypatch.setenv("CMAKE_ARGS", "")
    assert not install_env.is_current("runtime", "now")


def test_no_python_to_be_had_is_one_clear_refusal(tmp_path: Path) -> None:
    """The whole script, with a uv that finds no python."""
    toolchain = tmp_path / "toolchain"
    toolchain.mkdir()
    for source in Path(install_env.__file__).parent.glob("*.py"):
        (toolchain / source.name).write_bytes(source.read_bytes())
    for path in install_env.INPUTS:
        copy = tmp_path / path.relative_to(install_env.ROOT)
        copy.write_bytes(path.read_bytes())
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'error: No interpreter found' >&2; exit 2\n", encoding="utf-8")
    uv.chmod(0o755)
    refused = subprocess.run(
        [sys.executable, str(toolchain / "install_env.py")],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(tmp_path)},
        timeout=30,
    )
    assert refused.returncode == 1
    assert "UV_PYTHON=" in refused.stderr
    assert "Traceback" not in refused.stderr
