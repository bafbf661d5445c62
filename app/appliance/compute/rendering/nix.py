"""A NixOS module that hands the engine profile to ours as data: the modules in `nix/` decide what is made of it."""

import json
import re
from typing import Any, Final, cast

from app.appliance.compute.rendering.compose import container_command, container_environment, devices
from app.appliance.compute.rendering.plan import VLLM_VERSION, Plan
from app.appliance.compute.rendering.words import headline, unpinned

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def nix_profile(plan: Plan) -> dict[str, Any]:
    """Give what the option `services.loosh-miner.engineProfile` takes, and `nix/profiles.json` holds.

    `arguments` follow `vllm serve` in its container; Ollama's address and models are NixOS's own options.
    """
    profile, weights = plan.profile, plan.profile.weights
    environment = container_environment(plan)
    environment.pop("OLLAMA_HOST", None)
    return {
        "engine": profile.engine,
        "purpose": profile.purpose,
        "tier": profile.tier,
        "model": profile.model,
        "servedName": profile.served_name,
        "context": profile.context,
        "parallel": profile.parallel,
        "gpus": len(profile.cards.indices) if profile.cards else 0,
        "gpuMemory": profile.cards.memory if profile.cards else 0,
        "port": plan.port,
        "vllmVersion": VLLM_VERSION if profile.engine == "vllm" else None,
        "repository": weights.repository if weights else None,
        "revision": weights.revision if weights else None,
        "arguments": container_command(plan) if profile.engine == "vllm" else [],
        "environment": environment,
        "devices": devices(plan),
        "folders": list(plan.folders),
        "settings": plan.miner,
    }


def as_nix(plan: Plan) -> str:
    """Write the module."""
    lines = [f"# {headline(plan)}"]
    if (told := unpinned(plan)) is not None:
        lines.append(f"# {told}")
    value = _value(nix_profile(plan), "  ")
    return "\n".join([*lines, "{", f"  services.loosh-miner.engineProfile = {value};", "}"]) + "\n"


def _value(value: Any, indent: str) -> str:  # noqa: ANN401 - any JSON value
    """Write a value as Nix does, formatted as nixfmt would."""
    deeper = f"{indent}  "
    match value:
        case dict():
            tree = cast("dict[str, Any]", value)
            members = [f"{_key(name)} = {_value(each, deeper)};" for name, each in tree.items()]
            return _enclosed("{", members, "}", indent)
        case list():
            return _enclosed("[", [_value(each, deeper) for each in cast("list[Any]", value)], "]", indent)
        case str():
            return _text(value)
        case _:
            return json.dumps(value)


def _enclosed(opening: str, members: list[str], closing: str, indent: str) -> str:
    if not members:
        return f"{opening} {closing}"
    return "\n".join([opening, *(f"{indent}  {member}" for member in members), f"{indent}{closing}"])


def _key(name: str) -> str:
    return name if _NAME.fullmatch(name) else _text(name)


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${") + '"'
