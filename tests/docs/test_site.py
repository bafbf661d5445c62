"""The site is built from the documents as they are, loads nothing from elsewhere, and its runnable commands run."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.cli.command import run

ROOT: Final = Path(__file__).parents[2]
SITE: Final = ROOT / "build" / "site"
RUNNABLE: Final = re.compile(r"<!-- runnable -->\n```\w*\n(.*?)```", re.DOTALL)
BLOCKS: Final = [
    (path.name, line)
    for path in sorted((ROOT / "docs").glob("*.md"))
    for block in RUNNABLE.findall(path.read_text())
    for line in block.splitlines()
    if line
]
LOADS: Final = re.compile(r"<(?:script|img|iframe|source)[^>]+src=\"?(?:https?:)?//|<link[^>]+href=\"?(?:https?:)?//")


@pytest.fixture(scope="module")
def site() -> Path:
    """The site, built."""
    done = subprocess.run(
        [sys.executable, "toolchain/docs_site.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return SITE


@pytest.mark.slow
def test_the_site_is_whole_and_loads_nothing_from_elsewhere(site: Path) -> None:
    made = sorted(site.rglob("*.html"))
    assert {"index.html", "settings.html", "cli.html", "metrics.html"} <= {path.name for path in made}
    for path in made:
        text = re.sub(r"<link[^>]+rel=\"?canonical[^>]*>", "", path.read_text())
        assert not LOADS.search(text), path
    for style in site.rglob("*.css"):
        assert not re.search(r"@import|url\(\"?(?:https?:)?//", style.read_text()), style
    assert list(site.rglob("search_index.js*"))


@pytest.mark.slow
def test_generated_pages_hold_what_the_product_says(site: Path) -> None:
    assert "MAX_CONCURRENT_REQUESTS" in (site / "generated/settings.html").read_text()
    assert "loosh-miner models pull" in (site / "generated/cli.html").read_text()
    assert "loosh_challenge_seconds" in (site / "generated/metrics.html").read_text()


@pytest.mark.parametrize(("page", "line"), BLOCKS)
def test_runnable_commands_run(page: str, line: str, tmp_path: Path) -> None:
    program, *arguments = line.split()
    assert program == "loosh-miner"
    done = run(tmp_path, *arguments)
    assert done.code == 0, done.err


def test_there_are_runnable_commands() -> None:
    assert len({page for page, _ in BLOCKS}) >= 2
