"""Build the documentation's site into build/site, strictly: a link that leads nowhere fails it.

The pages are the repository's own Markdown files, laid out as in the repository, with what they link to; settings,
commands, metrics and alerts are written out of the product itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.cli import cli  # noqa: E402 - found by the line above
from app.metrics import Metrics  # noqa: E402
from app.settings_docs import table  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGURATION = ROOT / "toolchain" / "mkdocs.yml"
RULES = ROOT / "ansible" / "roles" / "monitoring" / "files" / "loosh-miner.rules.yml"
FOLDER = ROOT / "build" / "docs"
LINK = re.compile(r"\]\(([^)#\s]+)")


def main() -> int:
    shutil.rmtree(FOLDER, ignore_errors=True)
    lay_out(FOLDER)
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--config-file", str(CONFIGURATION)]
    # mkdocs-material's word about its own future is none for a reader.
    done = subprocess.run(command, check=False, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    if done.returncode == 0:
        print(ROOT / "build" / "site" / "index.html")
    return done.returncode


def lay_out(folder: Path) -> None:
    """Copy the pages and all that they link to, and write the generated ones."""
    for path in sorted(pages()):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    generated = folder / "generated"
    generated.mkdir()
    (generated / "settings.md").write_text(f"# Settings\n\n{table()}\n", encoding="utf-8")
    (generated / "cli.md").write_text("\n".join(commands()), encoding="utf-8")
    (generated / "metrics.md").write_text("\n".join(metrics()), encoding="utf-8")


def pages() -> set[Path]:
    """Name the documents, and whatever file of the repository they lead to."""
    waiting = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "ansible/README.md", ROOT / "nix/README.md"]
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        if path.suffix == ".md":
            waiting += [(path.parent / link).resolve() for link in LINK.findall(path.read_text("utf-8"))]
    return {path for path in found if path.is_relative_to(ROOT)}


def commands() -> Iterator[str]:
    """Write every command, with its options."""
    yield "# Commands\n"
    yield from command_lines(cli, "loosh-miner")


def command_lines(command: click.Command, name: str) -> Iterator[str]:
    """Write one command and those below it."""
    yield f"## `{name}`\n"
    yield (command.help or "").replace("\b", "").strip() + "\n"
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    if options:
        yield "| option | meaning |\n|---|---|"
        yield from (f"| `{', '.join(one.opts)}` | {cell(one.help or '')} |" for one in options)
        yield ""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            yield from command_lines(below, f"{name} {below.name}")


def metrics() -> Iterator[str]:
    """Write what is counted, and what the alerts say."""
    yield "# Metrics and alerts\n\nOn the admin listener's `/metrics`. Counted and measured:\n"
    yield "| metric | type | meaning |\n|---|---|---|"
    for family in sorted(Metrics().registry.collect(), key=lambda one: one.name):
        yield f"| `{family.name}` | {family.type} | {cell(family.documentation)} |"
    yield "\nGauges of the miner's state stand beside them, each with its own help text.\n\n## Alerts\n"
    yield "| alert | after | what it says |\n|---|---|---|"
    rules: dict[str, Any] = yaml.safe_load(RULES.read_text("utf-8"))
    for rule in (rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule):
        yield f"| `{rule['alert']}` | {rule.get('for', 'at once')} | {cell(rule['annotations']['summary'])} |"
    yield ""


def cell(text: str) -> str:
    """Make a text fit for a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
