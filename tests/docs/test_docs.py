"""The documents say what is so: links lead somewhere, commands exist, nothing of one machine is in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from app.cli import cli
from app.settings_model import specs

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "env.example"])


def every(command: click.Command) -> Iterator[click.Command]:
    """The command, and all below it."""
    yield command
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from every(below)


def by_name(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", DOCUMENTS, ids=by_name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        assert "://" in target or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=by_name)
def test_nothing_of_one_machine(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"/(root|tmp|work|Users|home/(?!operator|you))/", text)
    assert "\t" not in text


def test_the_readme_shows_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in cli.commands:
        assert f"`loosh-miner {name}" in readme, name


def test_commands_and_settings_in_the_readme_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in re.findall(r"(?:`|^)loosh-miner ([a-z-]+)", readme, re.MULTILINE):
        assert name in cli.commands, name
    options = {option for command in every(cli) for parameter in command.params for option in parameter.opts}
    options |= {"--env-file", "--json", "--wallet", "--wallet-hotkey"}
    for name in re.findall(r"(?<![\w-])--[a-z][a-z.-]+", readme):
        assert name in options, name
    names = {spec.name for spec in specs()}
    for name in re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)+\b", readme):
        assert name in names | {"CREDENTIALS_DIRECTORY", "XDG_STATE_HOME", "BODY_TIMEOUT_SECONDS", "ANSWER_"}, name


def test_sections_that_code_cites_exist() -> None:
    """Code says "protocol, section N" and "threats.md row N": both are in docs/."""
    sections = set(re.findall(r"^## (\d+)\.", (ROOT / "docs/protocol.md").read_text(), re.MULTILINE))
    rows = set(re.findall(r"^\| (\d+) \|", (ROOT / "docs/security.md").read_text(), re.MULTILINE))
    for file in (ROOT / "app").rglob("*.py"):
        text = file.read_text()
        for group in re.findall(r"protocol(?:\.md)?,? sections? ([\d, and-]+)", text):
            assert set(re.findall(r"\d+", group)) <= sections, (file.name, group)
        for row in re.findall(r"threats?(?:\.md)? (?:row )?(\d+)", text):
            assert row in rows, (file.name, row)
