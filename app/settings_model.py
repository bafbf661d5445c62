"""Every setting of the miner, declared once: name, type, default, bounds, group and one line of explanation.

The name in the environment is the field's name in capitals. Where a setting is kept for operators who have it in
their `.env` but nothing reads it yet, its text says so.
"""

import functools
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from app.secret import Secret
from app.settings_fields import About, Hotkey, Network, RateLimit, Spec

_MIB: Final = 1024 * 1024
_YEAR_SECONDS: Final = 365 * 24 * 3600
_NOT_READ: Final = "Kept for existing .env files; nothing reads it yet"
_SEVERAL: Final = "Several, comma between: the first healthy one serves, the others stand by"
_NO_CHAIN: Final = "This version does not speak to it yet"
_RENDERED: Final = "For the command line of a vLLM server; the miner itself does not read it yet"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator chose; never changes while the miner runs."""

    # Identity and chain
    netuid: Annotated[int, About("Identity and chain", "The subnet the miner serves.", ge=0, le=65535)] = 78
    subtensor_network: Annotated[
        Literal["finney", "test", "local"], About("Identity and chain", "The chain's network.")
    ] = "finney"
    subtensor_address: Annotated[
        str | None,
        About(
            "Identity and chain",
            f"Chain node to use instead of the network's own (ws:// or wss://). {_NO_CHAIN}.",
            unset="the network's",
        ),
    ] = None
    wallet_name: Annotated[str, About("Identity and chain", "The wallet: a directory below WALLET_PATH.")] = "miner"
    hotkey_name: Annotated[str, About("Identity and chain", "The hotkey: a file in the wallet's `hotkeys`.")] = "miner"
    wallet_path: Annotated[Path, About("Identity and chain", "Where the wallets lie.")] = Path("~/.bittensor/wallets")
    hotkey_file: Annotated[
        Path | None,
        About("Identity and chain", "The hotkey's file, given directly: WALLET_* and HOTKEY_NAME are not used then."),
    ] = None
    hotkey_password_file: Annotated[
        Path | None,
        About(
            "Identity and chain",
            "File with the password of an encrypted hotkey.",
            unset="$CREDENTIALS_DIRECTORY/hotkey-password, if there",
        ),
    ] = None
    allow_coldkey: Annotated[
        bool,
        About("Identity and chain", "Start although the wallet's coldkey can be read here. A miner never needs it."),
    ] = False
    development_mode: Annotated[
        Literal["auto", "on", "off"],
        About(
            "Identity and chain",
            "Ephemeral hotkey, no chain, loopback only. `auto`: only where no wallet is and no setting names one.",
        ),
    ] = "auto"

    # Listeners
    api_host: Annotated[
        str, About("Listeners", "Address the validators' listener binds to; 127.0.0.1 in development mode.")
    ] = "0.0.0.0"  # noqa: S104 - validators come from the internet; the admin listener is on loopback
    api_port: Annotated[int, About("Listeners", "Port of the validators' listener.", ge=1, le=65535)] = 8000
    admin_port: Annotated[
        int,
        About("Listeners", "Port of the admin listener (metrics, health, drain, /v1); loopback only.", ge=1, le=65535),
    ] = 8010
    api_key: Annotated[
        Secret[str] | None,
        About(
            "Listeners", "What OpenAI clients must send as their key to use /v1 on the admin listener.", unset="none"
        ),
    ] = None
    api_docs: Annotated[bool, About("Listeners", "Serve /docs, /redoc and /openapi.json on API_PORT.")] = True
    trusted_proxies: Annotated[
        tuple[Network, ...],
        About(
            "Listeners", "Proxies (addresses or CIDRs, comma between) whose X-Forwarded-For is believed.", unset="none"
        ),
    ] = ()
    body_timeout_seconds: Annotated[
        float, About("Listeners", "How long a request's body may take to arrive.", ge=1, le=60)
    ] = 10.0
    max_challenge_bytes: Annotated[
        int, About("Listeners", "The largest encrypted challenge accepted.", ge=16 * 1024, le=64 * _MIB)
    ] = 2 * _MIB
    drain_timeout_seconds: Annotated[
        float, About("Listeners", "How long a stop waits for answers in flight.", ge=0, le=600)
    ] = 60.0

    # Who may call
    enable_validator_whitelist: Annotated[
        bool, About("Who may call", "Answer only allowed hotkeys: in this version, those in VALIDATOR_HOTKEYS.")
    ] = True
    validator_hotkeys: Annotated[
        tuple[Hotkey, ...],
        About("Who may call", "Hotkeys (ss58, comma between) that are always allowed.", unset="none"),
    ] = ()
    challenge_api_url: Annotated[
        str, About("Who may call", f"Where the list of active validators is read. {_NO_CHAIN}.")
    ] = "https://challenge.loosh.ai"
    challenge_api_key: Annotated[
        Secret[str] | None, About("Who may call", f"Deprecated: the hotkey's signature is enough. {_NO_CHAIN}.")
    ] = None
    enable_legacy_inference: Annotated[
        bool, About("Who may call", "Answer the plaintext POST /inference to callers other than loopback.")
    ] = False

    # Answering
    max_concurrent_requests: Annotated[
        int, About("Answering", "Challenges answered at the same time (slots).", ge=1, le=1024)
    ] = 10
    max_queued_requests: Annotated[
        int, About("Answering", "Challenges that may wait for a slot; more are refused with 503.", ge=0, le=65536)
    ] = 64
    answer_soft_stop_seconds: Annotated[
        float,
        About("Answering", "After this time the answer ends with its sentence.", ge=1, le=58),
    ] = 45.0
    answer_hard_cut_seconds: Annotated[
        float,
        About(
            "Answering",
            "After this time the answer is cut and sent.",
            ge=1,
            le=58,
            why="a validator's round ends at 60 s, a later answer is worth nothing",
        ),
    ] = 50.0
    default_max_tokens: Annotated[
        int, About("Answering", "Tokens to write when a challenge does not say.", ge=1, le=10_000_000)
    ] = 12288
    default_temperature: Annotated[
        float, About("Answering", "Temperature when a challenge does not say.", ge=0, le=2)
    ] = 0.7
    default_top_p: Annotated[float, About("Answering", "top_p when a challenge does not say.", ge=0.01, le=1)] = 0.95

    # Model and engine
    llm_backend: Annotated[
        Literal["vllm", "ollama", "llamacpp"],
        About("Model and engine", "What writes the answers; `llamacpp` runs in the miner's own process."),
    ] = "llamacpp"
    default_model: Annotated[
        str | None,
        About("Model and engine", "The model to ask the engine for; needed with ollama.", unset="the engine's first"),
    ] = None
    model_path: Annotated[
        Path | None, About("Model and engine", "GGUF file for `llamacpp`.", unset="the embedded SmolLM2-135M-Instruct")
    ] = None
    vllm_api_base: Annotated[str, About("Model and engine", f"vLLM's address, with /v1. {_SEVERAL}.")] = (
        "http://localhost:8001/v1"
    )
    ollama_base_url: Annotated[str, About("Model and engine", f"Ollama's address. {_SEVERAL}.")] = (
        "http://localhost:11434"
    )
    ollama_timeout: Annotated[
        float, About("Model and engine", "How long Ollama may take to load the model, in seconds.", ge=1, le=86400)
    ] = 300.0
    min_context_tokens: Annotated[
        int,
        About(
            "Model and engine",
            "The least context of vLLM or Ollama, for prompt and answer; with less the miner is not ready.",
            ge=256,
            le=10_000_000,
        ),
    ] = 16384
    allow_public_engine: Annotated[
        bool, About("Model and engine", "Allow an engine at a public address; prompts travel there.")
    ] = False
    probe_interval_seconds: Annotated[
        float, About("Model and engine", "How often the engine is asked for one token.", ge=1, le=300)
    ] = 10.0
    probe_timeout_seconds: Annotated[
        float, About("Model and engine", "An engine that needs longer for one token is down.", ge=0.1, le=60)
    ] = 8.0

    # Embedded llama.cpp
    llama_context: Annotated[
        int, About("Embedded llama.cpp", "Context in tokens; 0: the model's own.", ge=0, le=10_000_000)
    ] = 0
    llama_parallel: Annotated[
        int, About("Embedded llama.cpp", "Answers written side by side; 0: chosen from the machine.", ge=0, le=256)
    ] = 0
    llama_threads: Annotated[int, About("Embedded llama.cpp", "CPU threads; 0: one for each core.", ge=0, le=1024)] = 0
    llama_gpu_layers: Annotated[
        int, About("Embedded llama.cpp", "Layers on the GPU, in a build that has one; -1: all.", ge=-1, le=10_000)
    ] = -1

    # vLLM's own options
    max_model_len: Annotated[int, About("vLLM's own options", f"Context in tokens. {_RENDERED}.", ge=1)] = 32768
    tensor_parallel_size: Annotated[int, About("vLLM's own options", f"GPUs. {_RENDERED}.", ge=1, le=1024)] = 1
    gpu_memory_utilization: Annotated[
        float, About("vLLM's own options", f"Share of the GPU's memory. {_RENDERED}.", ge=0.05, le=1)
    ] = 0.9
    vllm_enable_auto_tool_choice: Annotated[bool, About("vLLM's own options", f"Tool calls. {_RENDERED}.")] = True
    vllm_tool_call_parser: Annotated[
        str, About("vLLM's own options", f"How the model writes tool calls. {_RENDERED}.")
    ] = "hermes"
    vllm_enable_prefix_caching: Annotated[bool, About("vLLM's own options", f"Prefix cache. {_RENDERED}.")] = True
    vllm_max_num_seqs: Annotated[int, About("vLLM's own options", f"Sequences at once. {_RENDERED}.", ge=1)] = 64
    vllm_max_num_batched_tokens: Annotated[
        int, About("vLLM's own options", f"Tokens in one batch. {_RENDERED}.", ge=1)
    ] = 32768
    hf_home: Annotated[Path | None, About("vLLM's own options", f"Hugging Face's directory. {_RENDERED}.")] = None
    huggingface_hub_cache: Annotated[
        Path | None, About("vLLM's own options", f"Hugging Face's model cache. {_RENDERED}.")
    ] = None

    # Fiber
    fiber_key_ttl_seconds: Annotated[int, About("Fiber", "How long a session lives.", ge=60, le=_YEAR_SECONDS)] = 3600
    fiber_timestamp_window_seconds: Annotated[
        float, About("Fiber", "How far a validator's clock may be from ours at the handshake.", ge=1, le=600)
    ] = 60.0
    fiber_enable_key_rotation: Annotated[bool, About("Fiber", "Make a new RSA key every day.")] = True
    fiber_handshake_timeout_seconds: Annotated[
        float, About("Fiber", f"{_NOT_READ}: a handshake's body has BODY_TIMEOUT_SECONDS.", ge=1, le=600)
    ] = 30.0

    # Rate limits
    enable_rate_limits: Annotated[bool, About("Rate limits", "Limit requests a minute for each source.")] = True
    rate_limit_availability: Annotated[RateLimit, About("Rate limits", "GET /availability.")] = RateLimit(20, 6)
    rate_limit_public_key: Annotated[RateLimit, About("Rate limits", "GET /fiber/public-key.")] = RateLimit(20, 6)
    rate_limit_key_exchange: Annotated[RateLimit, About("Rate limits", "POST /fiber/key-exchange.")] = RateLimit(30, 10)
    rate_limit_challenge: Annotated[RateLimit, About("Rate limits", "POST /fiber/challenge.")] = RateLimit(120, 30)
    rate_limit_inference: Annotated[RateLimit, About("Rate limits", "POST /inference.")] = RateLimit(60, 15)
    rate_limit_other: Annotated[RateLimit, About("Rate limits", "Everything else.")] = RateLimit(60, 15)
    rate_limit_hotkey: Annotated[
        int, About("Rate limits", "Authenticated requests a minute for each hotkey.", ge=1, le=1_000_000)
    ] = 60

    # Logs and state
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], About("Logs and state", "The least level logged.")
    ] = "INFO"
    log_format: Annotated[
        Literal["auto", "console", "json"], About("Logs and state", "`auto`: JSON for systemd's journal, else console.")
    ] = "auto"
    log_file: Annotated[
        Path | None, About("Logs and state", "Write the log here (mode 0600) instead of stderr.", unset="stderr")
    ] = None
    state_dir: Annotated[
        Path, About("Logs and state", "What the miner keeps on disk; $XDG_STATE_HOME/loosh-miner where that is set.")
    ] = Path("~/.local/state/loosh-miner")


@functools.cache
def specs() -> tuple[Spec, ...]:
    """All settings in the order of their declaration."""
    hints = get_type_hints(Settings, include_extras=True)
    return tuple(_spec(field.name, hints[field.name], field.default) for field in msgspec.structs.fields(Settings))


def _spec(field: str, hint: Any, default: object) -> Spec:  # noqa: ANN401 - a type annotation has no type of its own
    kind, about = get_args(hint)
    if get_origin(kind) in {UnionType, Union}:
        (kind,) = (part for part in get_args(kind) if part is not type(None))
    return Spec(name=field.upper(), field=field, kind=kind, about=about, default=default)
