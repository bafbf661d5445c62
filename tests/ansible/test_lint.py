"""The appliance's YAML: ansible-lint's strictest profile, yamllint, and every playbook's syntax. No box is needed."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
ANSIBLE: Final = ROOT / "ansible"
PROGRAMS: Final = Path(sys.executable).parent
BOOKS: Final = sorted(path for path in ANSIBLE.glob("*.yml") if path.name != "inventory.example.yml")


def run(tmp_path: Path, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one of the environment's programs, with a home of its own and no network to look for collections."""
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"),
        "ANSIBLE_HOME": str(tmp_path / "ansible"),
        "ANSIBLE_NOCOLOR": "1",
        "NO_COLOR": "1",
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    return subprocess.run(
        [PROGRAMS / program, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


def test_yamllint_is_content(tmp_path: Path) -> None:
    done = run(tmp_path, "yamllint", "--strict", "--config-file", ROOT / ".yamllint", ANSIBLE, "tests/ansible")
    assert done.returncode == 0, done.stdout


@pytest.mark.timeout(1600)  # 100 s of processor time, which a busy machine stretches
def test_ansible_lint_is_content_in_its_strictest_profile(tmp_path: Path) -> None:
    done = run(tmp_path, "ansible-lint", "--offline", "--profile", "production", "--strict", *BOOKS, ANSIBLE / "roles")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("book", BOOKS, ids=lambda path: path.name)
def test_the_playbooks_syntax(book: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "ansible-playbook", "--syntax-check", "-i", ANSIBLE / "inventory.example.yml", book)
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_playbooks_are_there() -> None:
    assert {book.name for book in BOOKS} >= {"site.yml", "upgrade.yml", "reset.yml", "register.yml", "doctor.yml"}
