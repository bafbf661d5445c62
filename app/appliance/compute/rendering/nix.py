"""A NixOS module: vLLM from upstream's container (nixpkgs' is old), Ollama from nixpkgs, the miner's settings."""

from collections.abc import Mapping, Sequence
from typing import Final

from app.appliance.compute.rendering.compose import container_command, container_environment, devices
from app.appliance.compute.rendering.plan import CACHE, VLLM_VERSION, Plan
from app.appliance.compute.rendering.words import headline, unpinned

_GENERATOR: Final = "nvidia-container-toolkit-cdi-generator.service"


def as_nix(plan: Plan) -> str:
    """Write the module."""
    lines = [f"# {headline(plan)}"]
    if (told := unpinned(plan)) is not None:
        lines.append(f"# {told}")
    match plan.profile.engine:
        case "vllm":
            lines += ["{ ... }:", "{", *_vllm(plan)]
        case "ollama":
            lines += ["{ pkgs, ... }:", "{", *_ollama(plan)]
        case "llamacpp":
            lines += ["{ ... }:", "{"]
    return "\n".join([*lines, *_attributes("services.loosh-miner.settings", plan.miner), "}"]) + "\n"


def _vllm(plan: Plan) -> list[str]:
    several = plan.profile.tensor_parallel > 1
    volumes = [f"{folder}:{folder}" for folder in (CACHE, *plan.folders)]
    return [
        "  virtualisation.oci-containers.containers.vllm = {",
        f"    image = {_text(f'docker.io/vllm/vllm-openai:v{VLLM_VERSION}')}; # pin it by its digest",
        *_list("    cmd", container_command(plan)),
        *(f"  {line}" for line in _attributes("environment", container_environment(plan))),
        *_list("    devices", devices(plan)),
        *_list("    volumes", volumes),
        *_list("    ports", [f"127.0.0.1:{plan.port}:{plan.port}"]),
        *_list("    extraOptions", ["--ipc=host"] if several else ["--shm-size=8g"]),
        "  };",
        "  hardware.nvidia-container-toolkit.enable = true;",
        "  systemd.services.podman-vllm = {",
        *_list("    after", [_GENERATOR]),
        *_list("    requires", [_GENERATOR]),
        '    serviceConfig.TimeoutStartSec = "45min";',
        "  };",
        *_list("  systemd.tmpfiles.rules", [f"d {CACHE} 0700 root root -"]),
    ]


def _ollama(plan: Plan) -> list[str]:
    own = {"OLLAMA_HOST"}  # the module's own options
    environment = {name: value for name, value in plan.environment.items() if name not in own}
    package = "ollama-cuda" if plan.profile.cards is not None else "ollama"
    return [
        "  services.ollama = {",
        "    enable = true;",
        f"    package = pkgs.{package};",
        '    host = "127.0.0.1";',
        f"    port = {plan.port};",
        *_list("    loadModels", [plan.profile.served_name]),
        *(f"  {line}" for line in _attributes("environmentVariables", environment)),
        "  };",
    ]


def _attributes(name: str, values: Mapping[str, str]) -> list[str]:
    return [f"  {name} = {{", *(f"    {key} = {_text(value)};" for key, value in values.items()), "  };"]


def _list(name: str, values: Sequence[str]) -> list[str]:
    indent = " " * (len(name) - len(name.lstrip()) + 2)
    return [f"{name} = [", *(f"{indent}{_text(value)}" for value in values), f"{indent[:-2]}];"]


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${") + '"'
