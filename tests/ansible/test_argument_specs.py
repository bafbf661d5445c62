"""Every role declares its variables once: argument_specs, defaults and the README's table agree."""

from pathlib import Path
from typing import Any

import pytest
import role_variables
import yaml

ROLES = role_variables.roles()
TYPES = {"str", "int", "bool", "list", "dict", "path", "float", "raw"}


def by_name(path: Path) -> str:
    return path.name


def read(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


@pytest.mark.parametrize("role", ROLES, ids=by_name)
def test_defaults_are_those_declared(role: Path) -> None:
    declared = role_variables.options(role)
    defaults = read(role / "defaults/main.yml")
    assert {name: option["default"] for name, option in declared.items() if "default" in option} == defaults
    assert not [name for name, option in declared.items() if "default" not in option and not option.get("required")]


@pytest.mark.parametrize("role", ROLES, ids=by_name)
def test_each_variable_has_type_and_meaning(role: Path) -> None:
    for name, option in role_variables.options(role).items():
        assert option["type"] in TYPES, name
        assert option["description"], name


@pytest.mark.parametrize("role", ROLES, ids=by_name)
def test_a_role_has_its_documents(role: Path) -> None:
    assert (role / "README.md").read_text(encoding="utf-8").startswith(f"# {role.name}")
    assert (role / "TROUBLESHOOTING.md").is_file()
    assert read(role / "meta/main.yml")["galaxy_info"]["description"]


def test_the_operators_choices_are_variables_of_roles() -> None:
    known = {name for role in ROLES for name in role_variables.options(role)}
    assert set(read(role_variables.ANSIBLE / "group_vars/all.yml")) <= known | {"miner_offline_dir"}


def test_the_readmes_table_is_made_from_them() -> None:
    document = role_variables.README.read_text(encoding="utf-8")
    assert role_variables.with_tables(document) == document, "run `.venv/bin/python toolchain/role_variables.py`"
