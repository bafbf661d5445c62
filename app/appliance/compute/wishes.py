"""What the operator wishes, out of the settings: only what was given counts, a default leaves it to the choice."""

import re
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from app.appliance.compute.lock_file import Lock
from app.appliance.compute.rendering.plan import Where
from app.domain.compute.profile import EMBEDDED_MODEL, EngineProfile, Wishes
from app.errors import SettingsError
from app.settings import LoadedSettings, Settings
from app.settings_checks import engine_addresses

_PARSER: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def wishes(loaded: LoadedSettings, lock: Lock) -> Wishes:
    """Read the wishes. Errors: `SettingsError`."""
    settings = loaded.settings
    given = loaded.explicit
    parser = settings.vllm_tool_call_parser if given("VLLM_TOOL_CALL_PARSER") else None
    if parser is not None and not _PARSER.fullmatch(parser):
        raise SettingsError(f"VLLM_TOOL_CALL_PARSER: {parser!r} is no parser's name: write as hermes")
    return Wishes(
        engine=settings.llm_backend if given("LLM_BACKEND") or settings.model_path else None,
        model=None if settings.default_model == EMBEDDED_MODEL else settings.default_model,
        prefer=settings.model_preference,
        min_context=settings.min_context_tokens,
        context=settings.max_model_len if given("MAX_MODEL_LEN") else None,
        tensor_parallel=settings.tensor_parallel_size if given("TENSOR_PARALLEL_SIZE") else None,
        utilisation=settings.gpu_memory_utilization,
        concurrent=settings.max_concurrent_requests,
        max_num_seqs=settings.vllm_max_num_seqs if given("VLLM_MAX_NUM_SEQS") else None,
        max_num_batched_tokens=(settings.vllm_max_num_batched_tokens if given("VLLM_MAX_NUM_BATCHED_TOKENS") else None),
        auto_tool_choice=settings.vllm_enable_auto_tool_choice,
        tool_call_parser=parser,
        prefix_caching=settings.vllm_enable_prefix_caching,
        token=token(settings) is not None,
        revisions=lock.revisions(),
        model_path=str(settings.model_path) if settings.model_path else None,
    )


def where(loaded: LoadedSettings, profile: EngineProfile, lock: Lock, listen: str | None = None) -> Where:
    """Find addresses and folders for rendering; `listen` as 10.78.0.2/24. Errors: `SettingsError`."""
    settings = loaded.settings
    vllm, ollama = (engine_addresses(text)[0] for text in (settings.vllm_api_base, settings.ollama_base_url))
    folders: dict[str, str] = {}
    if settings.hf_home:
        folders["hf_home"] = _folder("HF_HOME", settings.hf_home)
    if settings.huggingface_hub_cache:
        folders["hub_cache"] = _folder("HUGGINGFACE_HUB_CACHE", settings.huggingface_hub_cache)
    return Where(
        vllm_base=vllm,
        vllm_port=urlsplit(vllm).port or 8001,
        ollama_base=ollama,
        ollama_port=urlsplit(ollama).port or 11434,
        gguf=_gguf(settings, profile, lock),
        listen=_listen(listen) if listen else None,
        **folders,
    )


def hub_cache(settings: Settings) -> Path:
    """Say where the hub's weights lie, as its own library does by default."""
    if settings.huggingface_hub_cache:
        return settings.huggingface_hub_cache
    return hf_home(settings) / "hub"


def hf_home(settings: Settings) -> Path:
    """Say where the hub's library keeps what is its own."""
    return settings.hf_home or Path.home() / ".cache/huggingface"


def token(settings: Settings) -> str | None:
    """Give the hub's token: the setting, else what `hf auth login` left; keep it nowhere."""
    if settings.hf_token:
        return settings.hf_token.reveal()
    try:
        return (hf_home(settings) / "token").read_text("utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def snapshot(settings: Settings, repository: str, revision: str) -> Path:
    """Say where one commit of a repository lies in the cache."""
    return hub_cache(settings) / f"models--{repository.replace('/', '--')}" / "snapshots" / revision


def _gguf(settings: Settings, profile: EngineProfile, lock: Lock) -> str | None:
    weights = profile.weights
    if weights is None or weights.quant != "gguf" or weights.repository not in lock.weights:
        return None
    locked = lock.weights[weights.repository]
    names = sorted(file.name for file in locked.files if file.name.endswith(".gguf"))
    return str(snapshot(settings, weights.repository, locked.revision) / names[0]) if names else None


def _listen(text: str) -> IPv4Interface | IPv6Interface | None:
    """Read an address with its network. vLLM's key protects `/v1` alone: it must never be public."""
    try:
        listen = ip_interface(text)
    except ValueError:
        raise SettingsError(f"--listen: {text!r} is no address with its network: write as 10.78.0.2/24") from None
    if listen.is_loopback:
        return None
    if not listen.network.is_private or listen.is_unspecified or listen.network.num_addresses == 1:
        raise SettingsError(
            f"--listen: {text} is not an address in a private network, and vLLM must not be public: give the mesh"
            " address with its network, as 10.78.0.2/24"
        )
    return listen


def _folder(name: str, folder: Path) -> str:
    text = str(folder)
    if not folder.is_absolute() or not text.isprintable():
        raise SettingsError(f"{name}: {text!r} is not an absolute path, which a unit needs: write it whole")
    return text
