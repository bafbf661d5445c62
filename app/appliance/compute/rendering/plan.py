"""What an engine is started with: command, environment, and what the miner must be told. Every format writes this."""

from ipaddress import IPv4Interface, IPv6Interface
from pathlib import PurePosixPath
from typing import Final

import msgspec

from app.domain.compute.profile import EMBEDDED_MODEL, EngineProfile

VLLM_VERSION: Final = "0.33.0"
_VLLM: Final = "/opt/vllm/bin/vllm"
_EXAMPLES: Final = "/opt/vllm/share"
"""Where vLLM's example chat templates are put: they are in its container and its source, not in its wheel."""
CACHE: Final = "/var/cache/vllm"
_LOOPBACK: Final = "127.0.0.1"


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses and folders of this installation."""

    vllm_base: str = "http://127.0.0.1:8001/v1"
    vllm_port: int = 8001
    ollama_base: str = "http://127.0.0.1:11434"
    ollama_port: int = 11434
    hf_home: str = f"{CACHE}/huggingface"
    hub_cache: str | None = None
    gguf: str | None = None
    """The pulled GGUF file, where there is one."""
    listen: IPv4Interface | IPv6Interface | None = None
    """The address that vLLM listens on instead of loopback, with the network of those who may ask it."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The whole start of an engine, apart from how it is supervised."""

    profile: EngineProfile
    command: tuple[str, ...]
    """Empty for an engine that is configured by its environment alone."""
    environment: dict[str, str]
    """Of the engine's process; empty for llama.cpp, which has none of its own."""
    miner: dict[str, str]
    """Settings of the miner."""
    port: int
    """The engine's, on loopback; 0 for none."""
    folders: tuple[str, ...] = ()
    """That the engine must be able to use, besides its cache."""
    address: str = _LOOPBACK
    peers: str | None = None
    """The network that reaches the engine besides loopback."""


def plan(profile: EngineProfile, where: Where) -> Plan:
    """Work out the start of a profile's engine."""
    match profile.engine:
        case "vllm":
            return _vllm(profile, where)
        case "ollama":
            return _ollama(profile, where)
        case "llamacpp":
            return Plan(profile=profile, command=(), environment={}, miner=_llamacpp(profile, where), port=0)


def _vllm(profile: EngineProfile, where: Where) -> Plan:
    environment = {
        "HF_HOME": where.hf_home,
        **({"HF_HUB_CACHE": where.hub_cache} if where.hub_cache else {}),
        "HF_HUB_OFFLINE": "1",
        "VLLM_CACHE_ROOT": f"{CACHE}/vllm",
        "TRITON_CACHE_DIR": f"{CACHE}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{CACHE}/inductor",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        # Its processes talk to each other on loopback, whatever addresses the machine has.
        "VLLM_HOST_IP": _LOOPBACK,
        **({"NCCL_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo"} if profile.tensor_parallel > 1 else {}),
        **_visible(profile),
    }
    folders = (where.hf_home, *((where.hub_cache,) if where.hub_cache else ()))
    return Plan(
        profile=profile,
        command=tuple(_vllm_command(profile, where)),
        environment=environment,
        miner={"LLM_BACKEND": "vllm", "DEFAULT_MODEL": profile.served_name, "VLLM_API_BASE": where.vllm_base},
        port=where.vllm_port,
        folders=tuple(folder for folder in folders if not PurePosixPath(folder).is_relative_to(CACHE)),
        address=_address(where),
        peers=str(where.listen.network) if where.listen else None,
    )


def _vllm_command(profile: EngineProfile, where: Where) -> list[str]:
    weights = profile.weights
    repository = weights.repository if weights and weights.repository else profile.served_name
    command = [_VLLM, "serve", repository]
    if weights and weights.revision:
        command += ["--revision", weights.revision]
    command += ["--served-model-name", profile.served_name]
    command += ["--host", _address(where), "--port", str(where.vllm_port)]
    command += ["--max-model-len", str(profile.context)]
    command += ["--gpu-memory-utilization", _share(profile.utilisation)]
    command += ["--tensor-parallel-size", str(profile.tensor_parallel)]
    command += ["--max-num-seqs", str(profile.parallel)]
    if profile.max_num_batched_tokens:
        command += ["--max-num-batched-tokens", str(profile.max_num_batched_tokens)]
    command.append("--enable-prefix-caching" if profile.prefix_caching else "--no-enable-prefix-caching")
    if profile.tool_call_parser:
        command += ["--enable-auto-tool-choice", "--tool-call-parser", profile.tool_call_parser]
        if profile.chat_template:
            command += ["--chat-template", f"{_EXAMPLES}/{profile.chat_template}"]
    # Temperature and the like are the validator's to say, not the model's own file's.
    return [*command, "--generation-config", "vllm"]


def _address(where: Where) -> str:
    return str(where.listen.ip) if where.listen else _LOOPBACK


def _share(utilisation: float) -> str:
    """Write at least two digits, and never another number."""
    return max(f"{utilisation:.2f}", f"{utilisation:g}", key=len)


def _ollama(profile: EngineProfile, where: Where) -> Plan:
    environment = {
        "OLLAMA_HOST": f"{_LOOPBACK}:{where.ollama_port}",
        "OLLAMA_CONTEXT_LENGTH": str(profile.context),
        "OLLAMA_NUM_PARALLEL": str(profile.parallel),
        "OLLAMA_MAX_LOADED_MODELS": "1",
        "OLLAMA_KEEP_ALIVE": "-1",
        **_visible(profile),
    }
    miner = {"LLM_BACKEND": "ollama", "DEFAULT_MODEL": profile.served_name, "OLLAMA_BASE_URL": where.ollama_base}
    return Plan(profile=profile, command=(), environment=environment, miner=miner, port=where.ollama_port)


def _llamacpp(profile: EngineProfile, where: Where) -> dict[str, str]:
    settings = {"LLM_BACKEND": "llamacpp"}
    if profile.model != EMBEDDED_MODEL:
        settings["DEFAULT_MODEL"] = profile.served_name
        path = profile.model_path or where.gguf
        if path:
            settings["MODEL_PATH"] = path
        settings["LLAMA_CONTEXT"] = str(profile.context)
    settings["LLAMA_PARALLEL"] = str(profile.parallel)
    return settings


def _visible(profile: EngineProfile) -> dict[str, str]:
    """Hide the GPUs that are not for it; numbered as `nvidia-smi` does."""
    cards = profile.cards
    if cards is None or len(cards.indices) == cards.of:
        return {}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, cards.indices))}
