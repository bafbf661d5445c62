"""The documented table is the doctor's own."""

from pathlib import Path

from tests.cli.command import run

DOCUMENT = Path(__file__).parents[2] / "docs/doctor.md"
BEGIN = "<!-- checks: made by `loosh-miner doctor --list`, do not edit -->\n"


def test_every_code_is_documented(tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", "--list")
    assert done.code == 0
    table = DOCUMENT.read_text().partition(BEGIN)[2].partition("<!-- end of checks -->")[0]
    assert table == done.out


def test_the_list_needs_no_good_settings(tmp_path: Path) -> None:
    assert run(tmp_path, "doctor", "--list", API_PORT="many").code == 0
