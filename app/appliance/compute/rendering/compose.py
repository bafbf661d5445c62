"""A compose file: the engine published on loopback only, its GPUs by CDI."""

from typing import Any, Final

import yaml

from app.appliance.compute.rendering.plan import VLLM_VERSION, Plan
from app.appliance.compute.rendering.words import headline, unpinned

_VLLM_HOME: Final = "/var/cache/vllm"
_IMAGES: Final = {
    "vllm": ("VLLM_IMAGE", f"vllm/vllm-openai:v{VLLM_VERSION}"),
    "ollama": ("OLLAMA_IMAGE", "ollama/ollama"),
}
"""The variable that names another image, and what stands there without it: a tag can be moved, a digest can't."""


def as_compose(plan: Plan) -> str:
    """Write compose.yml."""
    lines = [f"# {headline(plan)}"]
    if (told := unpinned(plan)) is not None:
        lines.append(f"# {told}")
    match plan.profile.engine:
        case "vllm":
            services: dict[str, Any] = {"vllm": _vllm(plan)}
        case "ollama":
            services = {"ollama": _ollama(plan)}
        case "llamacpp":
            services = {"loosh-miner": {"environment": plan.miner}}
    tree: dict[str, Any] = {"services": services}
    if plan.profile.engine == "ollama":
        tree["volumes"] = {"ollama": {}}
    body = yaml.safe_dump(tree, sort_keys=False, width=110)
    # Compose would take a dollar for one of its variables; only the image's is one.
    body = body.replace("$", "$$")
    for variable, image in _IMAGES.values():
        body = body.replace(f"image: {image}\n", f"image: ${{{variable}:-{image}}}\n")
        if image in body:
            lines.append(f"# {variable} pins the image: {image.partition(':')[0]}@sha256:... (`podman image inspect`)")
    return "\n".join([*lines, body])


def container_command(plan: Plan) -> list[str]:
    """Give what follows `vllm serve` inside the container: it listens on all of its own addresses, none of ours."""
    words = [word.replace("/opt/vllm/share/", "/vllm-workspace/examples/") for word in plan.command[2:]]
    words[words.index("--host") + 1] = "0.0.0.0"  # noqa: S104 - the container's; published on loopback
    return words


def devices(plan: Plan) -> list[str]:
    """Name the GPUs as CDI does."""
    cards = plan.profile.cards
    if cards is None:
        return []
    if len(cards.indices) == cards.of:
        return ["nvidia.com/gpu=all"]
    return [f"nvidia.com/gpu={index}" for index in cards.indices]


def container_environment(plan: Plan) -> dict[str, str]:
    """Leave out what CDI does instead, and what speaks of the host's network."""
    ours = {"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "VLLM_HOST_IP", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"}
    return {name: value for name, value in plan.environment.items() if name not in ours}


def _vllm(plan: Plan) -> dict[str, Any]:
    folders = [_VLLM_HOME, *plan.folders]
    return {
        "image": _IMAGES["vllm"][1],
        "command": container_command(plan),
        "environment": container_environment(plan),
        "devices": devices(plan),
        "volumes": [f"{folder}:{folder}" for folder in folders],
        "ports": [f"{plan.address}:{plan.port}:{plan.port}"],
        "shm_size": "8gb",
        "security_opt": ["no-new-privileges:true"],
        "ulimits": {"memlock": -1},
        "restart": "unless-stopped",
        "healthcheck": {
            "test": ["CMD", "curl", "-fsS", f"http://127.0.0.1:{plan.port}/health"],
            "interval": "10s",
            "timeout": "5s",
            "start_period": "45m",
        },
    }


def _ollama(plan: Plan) -> dict[str, Any]:
    environment = container_environment(plan) | {"OLLAMA_HOST": f"0.0.0.0:{plan.port}"}
    service: dict[str, Any] = {"image": _IMAGES["ollama"][1], "environment": environment}
    if plan.profile.cards is not None:
        service["devices"] = devices(plan)
    return service | {
        "volumes": ["ollama:/root/.ollama"],
        "ports": [f"127.0.0.1:{plan.port}:{plan.port}"],
        "restart": "unless-stopped",
    }
