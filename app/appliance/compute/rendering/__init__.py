"""One engine profile in the forms that machines are set up with: environment, systemd, compose, Nix, JSON."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from app.appliance.compute.rendering.compose import as_compose
from app.appliance.compute.rendering.nix import as_nix
from app.appliance.compute.rendering.plan import Plan
from app.appliance.compute.rendering.systemd import as_systemd
from app.appliance.compute.rendering.words import headline


def _as_env(plan: Plan) -> str:
    """What the engine is started with; for llama.cpp these are the miner's own settings."""
    lines = [f"# {headline(plan)}"]
    if plan.command:
        lines.append(f"# {' '.join(plan.command)}")
    environment = plan.environment or plan.miner
    lines += [_assignment(name, value) for name, value in environment.items()]
    return "\n".join(lines) + "\n"


def _as_miner(plan: Plan) -> str:
    """Lines for the miner's `.env`."""
    return "\n".join([f"# {headline(plan)}", *(_assignment(name, value) for name, value in plan.miner.items())]) + "\n"


def _assignment(name: str, value: str) -> str:
    """Quote what `.env` and EnvironmentFile= would not read whole."""
    if not set(value) & set(" \t'\"\\#$"):
        return f"{name}={value}"
    return f"{name}='{value}'" if "'" not in value else f'{name}="{value}"'


def _as_json(plan: Plan) -> str:
    return msgspec.json.format(msgspec.json.encode(plan)).decode() + "\n"


FORMATS: Final[Mapping[str, Callable[[Plan], str]]] = MappingProxyType(
    {
        "env": _as_env,
        "systemd": as_systemd,
        "compose": as_compose,
        "nix": as_nix,
        "json": _as_json,
        "miner": _as_miner,
    }
)
