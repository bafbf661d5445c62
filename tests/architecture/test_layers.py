"""What holds the code in shape: imports point downward, nothing is global, files and functions stay small."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
APP: Final = ROOT / "app"
FILES: Final = sorted(APP.rglob("*.py"))

BASE: Final = {
    "errors",
    "secret",
    "clock",
    "logs",
    "metrics",
    "settings",
    "serve_events",
    "admin_client",
    "admin_token",
    "ahead_file",
}
SETTINGS: Final = {
    *("settings", "settings_checks", "settings_fields", "settings_model"),
    *("settings_calling", "settings_engine", "settings_running"),
}
MAY_IMPORT: Final[dict[str, set[str]]] = {
    "protocol": {"protocol", "errors"},
    "domain": {"domain", "protocol", "errors", "clock", "metrics"},
    "backends": {"backends", "domain", "errors", "clock", "secret"},
    "chain": {"chain", "domain", "protocol", "errors", "clock", "secret", *SETTINGS},
    "transport": {"transport", "domain", "protocol", "errors", "clock", "metrics", "secret"},
    # What is kept on disk, in STATE_DIR's one SQLite file.
    "state": {"state", "domain", "errors", "clock", "metrics"},
    # What touches the machine: firewall, hardware, model files.
    "appliance": {"appliance", "domain", "errors", "clock", "secret", *SETTINGS},
    "engines": {"backends", "domain", "clock", *SETTINGS},
    "doctor": {
        *(
            "doctor",
            "admin_client",
            "appliance",
            "chain",
            "domain",
            "protocol",
            "validator",
            "errors",
            "clock",
            "secret",
            *SETTINGS,
        )
    },
    "web": set(),
    "webhook": {"domain", "clock", "secret"},
    "errors": set(),
    "clock": set(),
    "secret": set(),
    "logs": {"secret", "errors"},
    "metrics": set(),
    "settings_docs": {*SETTINGS, "errors", "secret"},
    "validator": {"validator", "protocol", "errors", "chain", "domain"},
    **{name: {*SETTINGS, "errors", "secret", "protocol"} for name in SETTINGS},
}
ABOVE_ALL: Final = {
    "cli",
    "composition",
    "composition_calling",
    "composition_firewall",
    "composition_doctor",
    "miner",
    "identity",
    "__main__",
}


def _layer(path: Path) -> str:
    return path.relative_to(APP).parts[0].removesuffix(".py")


def _trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in FILES:
        yield path, ast.parse(path.read_text())


def _imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_imports_point_downward(path: Path) -> None:
    allowed = MAY_IMPORT.get(_layer(path))
    if allowed is None:
        assert _layer(path) in ABOVE_ALL | BASE | {"__init__"}, f"say in MAY_IMPORT what {_name(path)} may import"
        return
    for line, module in _imports(ast.parse(path.read_text())):
        parts = module.split(".")
        if parts[0] == "app" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] in allowed, f"{_name(path)}:{line} imports {module}"


@pytest.mark.parametrize("layer", ["protocol", "domain"])
def test_no_http_below_the_transport(layer: str) -> None:
    http = {"litestar", "granian", "aiohttp", "http", "uvicorn", "starlette"}
    for path in sorted((APP / layer).rglob("*.py")):
        for line, module in _imports(ast.parse(path.read_text())):
            assert module.split(".")[0] not in http, f"{_name(path)}:{line} imports {module}"


def test_protocol_is_pure() -> None:
    impure = {"time", "asyncio", "random", "socket", "threading"}
    for path in sorted((APP / "protocol").rglob("*.py")):
        for line, module in _imports(ast.parse(path.read_text())):
            assert module.split(".")[0] not in impure, f"{_name(path)}:{line} imports {module}"


def test_no_import_cycles() -> None:
    graph: dict[str, set[str]] = {}
    for path, tree in _trees():
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        known = {module for _, module in _imports(tree) if module.startswith("app")}
        graph[name] = known
    graph = {
        name: {module for module in modules if module in graph and module != name} for name, modules in graph.items()
    }
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert state.get(name) != 1, " -> ".join((*trail, name))
        if name in state:
            return
        state[name] = 1
        for other in graph[name]:
            visit(other, (*trail, name))
        state[name] = 2

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_no_globals_and_no_module_level_mutable_state(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Global), f"{_name(path)}:{node.lineno} uses `global`"
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        value = node.value
        target: ast.expr = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name) and target.id == "__all__":
            continue
        constant = isinstance(node, ast.AnnAssign) and "Final" in ast.unparse(node.annotation)
        mutable = isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)
        assert not mutable or constant, f"{_name(path)}:{node.lineno} is mutable state of the module"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_no_getattr_with_a_literal_name(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            assert not isinstance(node.args[1], ast.Constant), f"{_name(path)}:{node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_an_import_inside_a_function_gives_its_reason(path: Path) -> None:
    lines = path.read_text().splitlines()
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert _has_reason(lines, node.lineno - 1), f"{_name(path)}:{node.lineno} why is this import here?"


def _has_reason(lines: list[str], at: int) -> bool:
    """Beside the import, or above the group of imports that it stands in."""
    while lines[at].strip().startswith(("import ", "from ")):
        if "noqa: PLC0415 - " in lines[at]:
            return True
        at -= 1
    return lines[at].strip().startswith("#")


def test_at_most_one_broad_except_and_it_says_why() -> None:
    found: list[str] = []
    for path, tree in _trees():
        lines = path.read_text().splitlines()
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                if any(name in caught.split(".") for name in ("everything", "Exception", "BaseException")):
                    assert "noqa: BLE001 - " in lines[node.lineno - 1], f"{_name(path)}:{node.lineno} say why"
                    found.append(_name(path))
    assert len(found) <= 2, found  # the engine thread's edge, and the process's


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400, f"{_name(path)} is over 400 lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno
            assert size <= 60, f"{_name(path)}:{node.lineno} {node.name} has {size} lines"
