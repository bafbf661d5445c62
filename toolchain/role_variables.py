"""Writes the table of every role's variables into ansible/README.md: `.venv/bin/python toolchain/role_variables.py`.

They are declared once, in each role's `meta/argument_specs.yml`; a test holds the table, the declarations and the
roles' defaults together.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

ANSIBLE: Final = Path(__file__).parents[1] / "ansible"
README: Final = ANSIBLE / "README.md"
BEGIN: Final = "<!-- variables: made by `toolchain/role_variables.py`, do not edit -->\n"
END: Final = "<!-- end of variables -->\n"


def roles() -> list[Path]:
    """List the roles, in the alphabet's order."""
    return sorted(path for path in (ANSIBLE / "roles").iterdir() if (path / "meta").is_dir())


def declared(role: Path) -> dict[str, Any]:
    """Give what the role says of itself and its variables. Errors: `FileNotFoundError` without argument_specs."""
    specs: dict[str, Any] = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    main: dict[str, Any] = specs["argument_specs"]["main"]
    return main


def options(role: Path) -> dict[str, Any]:
    """Give the role's variables with their declarations."""
    return declared(role).get("options") or {}


def tables() -> str:
    """Write all tables, one to a role."""
    return "\n".join("\n".join(_table(role)) for role in roles()) + "\n"


def with_tables(document: str) -> str:
    """Give the document with the tables between its marks."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + tables() + END + after


def _table(role: Path) -> Iterator[str]:
    yield f"### {role.name}"
    yield ""
    yield f"{_line(declared(role)['short_description']).rstrip('.')}."
    yield ""
    if not options(role):
        yield "It has no variables."
        yield ""
        return
    yield "| variable | type | default | meaning |"
    yield "|---|---|---|---|"
    for name, option in options(role).items():
        yield f"| `{name}` | {_type(option)} | {_default(option)} | {_line(option['description'])} |"
    yield ""


def _type(option: dict[str, Any]) -> str:
    if choices := option.get("choices"):
        return " \\| ".join(str(choice) for choice in choices)
    elements = option.get("elements")
    return f"{option['type']} of {elements}" if elements else str(option["type"])


def _default(option: dict[str, Any]) -> str:
    if "default" not in option:
        return "must be given" if option.get("required") else "none"
    value = option["default"]
    if isinstance(value, str):
        return f"`{_line(value)}`" if value else '`""`'
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _line(text: "str | list[str]") -> str:
    joined = " ".join(text) if isinstance(text, list) else text
    return " ".join(joined.split()).replace("|", "\\|")


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
