"""justw, the real script, in a copy of what it needs: arguments, reuse, and what it says when it cannot go on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Stands in for venv and pip: makes the two programs, and notes that it was asked to.
FAKE_VENV = """
import pathlib, sys
bin = pathlib.Path(sys.argv[-1], "bin")
bin.mkdir(parents=True)
pathlib.Path("made").open("a").write("x")
python = bin / "python"
python.write_text('''#!/bin/sh
{pip}
''')
python.chmod(0o755)
"""
FAKE_PIP = """
for tool in uv just; do
    printf "#!/bin/sh\\\\necho $tool" > "${0%python}$tool"
    chmod +x "${0%python}$tool"
done
"""

FAKE_PIP_MODULE = """
import pathlib, sys
if __name__ == "__main__":
    bin = pathlib.Path(sys.argv[sys.argv.index("--prefix") + 1], "local", "bin")  # where Debian's pip puts them
    bin.mkdir(parents=True)
    for tool in ("uv", "just"):
        (bin / tool).write_text(f"#!/bin/sh\\necho {tool}")
        (bin / tool).chmod(0o755)
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with justw and the lock of its tools only."""
    (tmp_path / "toolchain").mkdir()
    shutil.copy2(ROOT / "justw", tmp_path)
    shutil.copy2(ROOT / "toolchain" / "tools.lock", tmp_path / "toolchain")
    return tmp_path


def justw(checkout: Path, *arguments: str, modules: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Start the script as a person would; `modules` hold stand-ins for the standard library's."""
    environment = {**os.environ, "PYTHONPATH": str(modules or "")}
    command = [sys.executable, str(checkout / "justw"), *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, cwd=checkout, env=environment
    )


@pytest.fixture
def modules(checkout: Path) -> Path:
    """Stand-ins for venv and pip, which need no network."""
    folder = checkout / "modules"
    folder.mkdir()
    (folder / "ensurepip.py").touch()
    (folder / "venv.py").write_text(FAKE_VENV.format(pip=FAKE_PIP), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["What is a Bittensor subnet?"],
        ["--json", "a  b", "", "it's", '"quoted"', "$HOME `id` \\n", "*", "ü\nsecond line"],
        ["-k", "not slow", "--", "--list"],
    ],
)
@pytest.mark.parametrize(
    ("recipe", "first"), [("challenge", ["challenge"]), ("run", ["serve"]), ("test", ["-m", "pytest"])]
)
def test_arguments_arrive_as_they_were_given(
    checkout: Path, recipe: str, first: list[str], arguments: list[str]
) -> None:
    """The real Justfile, before an environment whose programs show what they were given."""
    if shutil.which("just") is None:
        pytest.skip("needs the real just, which ./justw test brings")
    (checkout / ".tools").mkdir()
    (checkout / ".tools" / "venv").symlink_to(ROOT / ".tools" / "venv")
    shutil.copy2(ROOT / ".tools" / "complete", checkout / ".tools")
    shutil.copy2(ROOT / "Justfile", checkout)
    (checkout / "toolchain" / "install_env.py").touch()
    programs = checkout / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("loosh-miner", "python"):
        (programs / name).write_text("#!/bin/sh\nprintf '<%s>\\n' \"$@\"\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    done = justw(checkout, recipe, *arguments)
    assert done.stdout == "".join(f"<{argument}>\n" for argument in [*first, *arguments]), done.stderr


def test_the_tools_are_made_once(checkout: Path, modules: Path) -> None:
    first, second = (justw(checkout, "--list", modules=modules) for _ in range(2))
    assert [first.stdout, second.stdout] == ["just\n", "just\n"], first.stderr
    assert "fetching uv and just" in first.stderr
    assert second.stderr == ""
    assert (checkout / "made").read_text() == "x"


def test_another_lock_makes_them_again(checkout: Path, modules: Path) -> None:
    justw(checkout, modules=modules)
    with (checkout / "toolchain" / "tools.lock").open("a", encoding="utf-8") as lock:
        lock.write("# changed\n")
    assert justw(checkout, modules=modules).returncode == 0
    assert (checkout / "made").read_text() == "xx"


def test_two_at_once_make_them_once(checkout: Path, modules: Path) -> None:
    slow = (modules / "venv.py").read_text(encoding="utf-8") + "\nimport time; time.sleep(1)\n"
    (modules / "venv.py").write_text(slow, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(modules)}
    running = [
        subprocess.Popen([sys.executable, "justw"], cwd=checkout, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0] for process in running] == ["just\n"] * 3
    assert (checkout / "made").read_text() == "x"


def test_half_made_tools_are_not_used(checkout: Path, modules: Path) -> None:
    half = checkout / ".tools" / "venv" / "bin"
    half.mkdir(parents=True)
    for tool in ("uv", "just"):
        (half / tool).write_text("#!/bin/sh\necho half\n", encoding="utf-8")
        (half / tool).chmod(0o755)
    assert justw(checkout, modules=modules).stdout == "just\n"


def test_a_registry_out_of_reach_is_one_clear_refusal(checkout: Path, modules: Path) -> None:
    pip = "echo 'WARNING: Retrying'; echo 'ERROR: No matching distribution found for rust-just'; exit 1"
    (modules / "venv.py").write_text(FAKE_VENV.format(pip=pip), encoding="utf-8")
    failed = justw(checkout, modules=modules)
    assert failed.returncode == 1
    assert "is the package registry reachable?" in failed.stderr
    assert "No matching distribution found" in failed.stderr
    assert "Traceback" not in failed.stderr

    (modules / "venv.py").write_text(FAKE_VENV.format(pip=FAKE_PIP), encoding="utf-8")
    assert justw(checkout, modules=modules).stdout == "just\n"


def test_a_python_without_venv_and_pip_names_the_package(checkout: Path, modules: Path) -> None:
    for module in ("ensurepip", "pip"):
        (modules / f"{module}.py").write_text("raise ImportError('left out')", encoding="utf-8")
    refused = justw(checkout, modules=modules)
    assert refused.returncode == 1
    assert "apt install python3-venv" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_python_without_venv_but_with_pip_is_enough(checkout: Path, modules: Path) -> None:
    (modules / "ensurepip.py").write_text("raise ImportError('left out')", encoding="utf-8")
    (modules / "pip.py").write_text(FAKE_PIP_MODULE, encoding="utf-8")
    done = justw(checkout, modules=modules)
    assert done.stdout == "just\n", done.stderr


def test_uv_is_told_to_trust_what_the_system_trusts(checkout: Path, modules: Path) -> None:
    show = FAKE_PIP.replace("echo $tool", "env")
    (modules / "venv.py").write_text(FAKE_VENV.format(pip=show), encoding="utf-8")
    shown = justw(checkout, modules=modules).stdout.splitlines()
    assert "UV_SYSTEM_CERTS=true" in shown
    assert any(line.startswith(f"PATH={checkout}/.tools/venv/bin:") for line in shown)


def test_every_public_recipe_is_documented_and_grouped() -> None:
    just = shutil.which("just")
    if just is None:
        pytest.skip("needs the real just, which ./justw test brings")
    dump = [just, "--justfile", str(ROOT / "Justfile"), "--dump", "--dump-format", "json"]
    recipes = json.loads(subprocess.run(dump, check=True, capture_output=True, text=True).stdout)["recipes"]
    public = {name: recipe for name, recipe in recipes.items() if not recipe["private"]}
    assert {"run", "challenge", "test", "check", "fmt", "lock", "bench", "clean"} <= public.keys()
    assert [name for name, recipe in public.items() if not recipe["doc"]] == []
    ungrouped = [
        name
        for name, recipe in public.items()
        if not any(isinstance(attribute, dict) and "group" in attribute for attribute in recipe["attributes"])
    ]
    assert ungrouped == []
