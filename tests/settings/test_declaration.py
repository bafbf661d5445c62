"""Every setting is declared once, typed, documented, and what is said of it is true."""

import re
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from app import settings_docs
from app.settings import Settings, load
from app.settings_fields import Spec, parse, show
from app.settings_model import specs

ROOT: Final = Path(__file__).parents[2]
HOME: Final = Path("/home/operator")
ALL: Final = specs()


def by_name(spec: Spec) -> str:
    return spec.name


def test_each_field_is_a_setting() -> None:
    assert [spec.field for spec in ALL] == [field.name for field in msgspec.structs.fields(Settings)]
    assert len({spec.name for spec in ALL}) == len(ALL)


@pytest.mark.parametrize("spec", ALL, ids=by_name)
def test_each_setting_says_what_it_is(spec: Spec) -> None:
    assert spec.about.text.endswith("."), "one sentence or more"
    assert len(spec.about.text) <= 140
    assert "|" not in spec.about.text.replace("\\|", ""), "it stands in a table"
    assert settings_docs.values(spec)


@pytest.mark.parametrize("spec", ALL, ids=by_name)
def test_each_default_is_a_value_of_its_setting(spec: Spec) -> None:
    if spec.default in (None, ()):
        assert spec.about.unset
        return
    assert parse(spec, show(spec.default), Path("~")) == spec.default


def test_all_names_that_operators_have_are_kept_with_their_defaults() -> None:
    section = (ROOT / "docs/protocol.md").read_text().split("## 7.")[1]
    named = re.findall(r"\b([A-Z][A-Z0-9_]+_[A-Z0-9_]+|NETUID)\b(?: \[([^\]]*)\])?", section)
    defaults = {spec.name: show(spec.default) for spec in ALL}
    assert len(named) >= 35
    for name, default in named:
        assert name in defaults
        if default and "|" not in default:
            assert defaults[name] == default, name


def test_the_readme_holds_the_table() -> None:
    readme = (ROOT / "README.md").read_text()
    between = readme.split(settings_docs.BEGIN)[1].split(settings_docs.END)[0]
    assert between == f"\n{settings_docs.table()}\n", "run: python -m app.settings_docs"


def test_env_example_is_up_to_date() -> None:
    assert (ROOT / "env.example").read_text() == settings_docs.env_example(), "run: python -m app.settings_docs"


def test_env_example_with_every_line_in_force_changes_nothing(tmp_path: Path) -> None:
    """So each line of it is a good one, and shows the true default."""
    text = re.sub(r"^# ([A-Z0-9_]+=)", r"\1", (ROOT / "env.example").read_text(), flags=re.MULTILINE)
    assert text.count("=") >= len(ALL)
    file = tmp_path / ".env"
    file.write_text(text)
    home: dict[str, str] = {"HOME": str(HOME)}
    assert load(home, file).settings == load(home, None).settings


def test_what_a_text_calls_unread_is_unread_and_the_rest_is_read() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "app").rglob("*.py") if not path.name.startswith("settings_"))
    only_checked = {"allow_public_engine", "allow_plain_challenge_api"}
    for spec in ALL:
        read = bool(re.search(rf"settings\.{spec.field}\b", code)) or spec.field in only_checked
        says_unread = bool(re.search(r"\b(reads? it|speak to it) yet\b", spec.about.text))
        assert read != says_unread, spec.name


def test_settings_are_frozen() -> None:
    settings: Any = load({}, None).settings
    with pytest.raises(AttributeError):
        settings.api_port = 1
