"""The settings for people: README's table, env.example and `config show`, all out of the one declaration.

`python -m app.settings_docs` writes the table (between its markers) and env.example anew; a test holds both true.
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

from app.settings import LoadedSettings
from app.settings_fields import Spec, show
from app.settings_model import specs

BEGIN: Final = "<!-- settings: made by `python -m app.settings_docs`, do not edit -->"
END: Final = "<!-- /settings -->"
_ROOT: Final = Path(__file__).resolve().parent.parent


def table() -> str:
    """Build README's table, one part for each group."""
    return "\n".join(_table_lines())


def env_example() -> str:
    """Build env.example: every setting, commented out, at its default."""
    return "\n".join(_example_lines()) + "\n"


def as_text(loaded: LoadedSettings) -> str:
    """Write all settings as `.env` would, with the origin of each behind it."""
    lines: list[str] = []
    for group, members in _groups():
        lines += ["", f"# {group}"]
        for spec in members:
            value = show(_value(loaded, spec))
            lines.append(f"{spec.name + '=' + value:<52} # {loaded.origins[spec.name]}")
    return "\n".join(lines[1:])


def as_objects(loaded: LoadedSettings) -> dict[str, dict[str, str | None]]:
    """Give value and origin of each setting, by name; null for one that is not set."""
    return {
        spec.name: {
            "value": None if _value(loaded, spec) is None else show(_value(loaded, spec)),
            "origin": loaded.origins[spec.name],
        }
        for spec in specs()
    }


def write(root: Path) -> None:
    """Bring README.md and env.example up to date."""
    readme = root / "README.md"
    before, _, rest = readme.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", "utf-8")
    (root / "env.example").write_text(env_example(), "utf-8")


def _groups() -> Iterator[tuple[str, list[Spec]]]:
    for group, members in groupby(specs(), key=lambda spec: spec.about.group):
        yield group, list(members)


def _value(loaded: LoadedSettings, spec: Spec) -> object:
    return getattr(loaded.settings, spec.field)


def _table_lines() -> Iterator[str]:
    for group, members in _groups():
        yield f"\n**{group}**\n"
        yield "| setting | default | values | meaning |"
        yield "|---|---|---|---|"
        for spec in members:
            default = show(spec.default)
            shown = f"`{default}`" if default else spec.about.unset
            yield f"| `{spec.name}` | {shown} | {values(spec)} | {spec.about.text} |"
    yield ""


def _example_lines() -> Iterator[str]:
    yield "# All settings at their defaults. Copy to .env and change what you need; an empty value is no value."
    yield "# The environment wins over this file. `loosh-miner config check` says whether the miner could start."
    for group, members in _groups():
        yield f"\n# --- {group} ---"
        for spec in members:
            default = show(spec.default)
            yield f"\n# {spec.about.text}"
            yield f"# Values: {values(spec).replace(chr(92), '')}." + (
                "" if default else f" Default: {spec.about.unset}."
            )
            yield f"# {spec.name}={default}"


def values(spec: Spec) -> str:
    """Say what may be given, bounds included."""
    low, high = spec.about.ge, spec.about.le
    if low is None and high is None:
        return spec.type_text
    if high is None:
        return f"{spec.type_text}, {_bound(low)} or more"
    if low is None:
        return f"{spec.type_text}, at most {_bound(high)}"
    return f"{spec.type_text}, {_bound(low)} to {_bound(high)}"


def _bound(number: float | None) -> str:
    return show(float(number or 0))


if __name__ == "__main__":
    write(_ROOT)
