"""The engine that the settings name: the miner, the doctor and the benchmark build it here."""

from typing import Final

from app.backends.dialects import Dialect, Ollama, Vllm
from app.backends.failover import FailoverBackend
from app.backends.openai_api import OpenAiBackend
from app.clock import Clock
from app.domain.backend import Backend
from app.settings import Settings
from app.settings_checks import engine_addresses, is_private_address

_EMBEDDED_PARALLEL: Final = 8
_EMBEDDED_MODEL: Final = "SmolLM2-135M-Instruct"


def build_backend(settings: Settings, clock: Clock) -> Backend:
    """The engine that the settings name; nothing is opened yet."""
    model, least_context = settings.default_model, settings.min_context_tokens
    if settings.llm_backend == "vllm":
        return _remote(settings, clock, Vllm(model, least_context), settings.vllm_api_base)
    if settings.llm_backend == "ollama":
        dialect = Ollama(model, least_context, settings.ollama_timeout)
        return _remote(settings, clock, dialect, settings.ollama_base_url)
    # Only here: llama.cpp and numpy take time and memory that a miner with an engine of its own need not spend.
    from app.backends.llama_local.backend import LlamaLocalBackend, LlamaLocalSettings  # noqa: PLC0415

    return LlamaLocalBackend(
        LlamaLocalSettings(
            model_path=settings.model_path,
            context_tokens=settings.llama_context,
            parallel=embedded_parallel(settings),
            threads=settings.llama_threads,
            gpu_layers=settings.llama_gpu_layers,
            rewrite_folder=settings.state_dir / "models" if settings.llama_rewrite == "auto" else None,
        ),
        model_in_process(settings),
    )


def model_in_process(settings: Settings) -> str:
    """Give the name of the model that the embedded engine serves; DEFAULT_MODEL can only name the operator's file."""
    if settings.model_path is None:
        return _EMBEDDED_MODEL
    return settings.default_model or settings.model_path.stem


def _remote(settings: Settings, clock: Clock, dialect: Dialect, addresses: str) -> Backend:
    may_connect = None if settings.allow_public_engine else is_private_address
    key = settings.engine_api_key
    backends = [OpenAiBackend(dialect, address, may_connect, key) for address in engine_addresses(addresses)]
    if len(backends) == 1:
        return backends[0]
    return FailoverBackend(backends, clock, probe_seconds=settings.probe_timeout_seconds)


def embedded_parallel(settings: Settings) -> int:
    """Tell how many answers the embedded engine writes side by side."""
    return settings.llama_parallel or min(settings.max_concurrent_requests, _EMBEDDED_PARALLEL)
