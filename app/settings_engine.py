"""Settings about answering: slots and deadlines, the model, and the engine that writes."""

from pathlib import Path
from typing import Annotated, Final, Literal

from app.secret import Secret
from app.settings_calling import CallingSettings
from app.settings_fields import About

_SEVERAL: Final = "Several, comma between: the first healthy one serves, the others stand by"
_RENDERED: Final = "For `loosh-miner engine render`"


# A Struct has one base with fields, so the parts stand one upon the other.
class EngineSettings(CallingSettings, frozen=True, kw_only=True):
    """Settings about answering: slots and deadlines, the model, and the engine that writes."""

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
    model_preference: Annotated[
        Literal["speed", "quality"],
        About("Model and engine", "What `loosh-miner models` prefers where DEFAULT_MODEL names none."),
    ] = "speed"
    hf_token: Annotated[
        Secret[str] | None,
        About(
            "Model and engine",
            "Token of a Hugging Face account, for `loosh-miner models pull` of gated weights.",
            unset="that of `hf auth login`",
        ),
    ] = None
    engine_api_key: Annotated[
        Secret[str] | None,
        About(
            "Model and engine",
            "The key that vLLM, or a proxy before Ollama, was told to ask for; goes to all of its addresses.",
            unset="none",
        ),
    ] = None
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
    llama_rewrite: Annotated[
        Literal["auto", "off"],
        About(
            "Embedded llama.cpp",
            "`auto` rewrites the embedded model once to the form that this processor computes fastest (STATE_DIR, 140"
            " to 270 MB).",
        ),
    ] = "auto"

    # vLLM's own options
    max_model_len: Annotated[
        int, About("vLLM's own options", f"Context in tokens; unless given, what fits. {_RENDERED}.", ge=1)
    ] = 32768
    tensor_parallel_size: Annotated[
        int,
        About(
            "vLLM's own options",
            f"GPUs that share the model; unless given, as many as can. {_RENDERED}.",
            ge=1,
            le=1024,
        ),
    ] = 1
    gpu_memory_utilization: Annotated[
        float,
        About("vLLM's own options", f"Share of the GPU's memory that the engine takes. {_RENDERED}.", ge=0.05, le=1),
    ] = 0.9
    vllm_enable_auto_tool_choice: Annotated[bool, About("vLLM's own options", f"Tool calls. {_RENDERED}.")] = True
    vllm_tool_call_parser: Annotated[
        str, About("vLLM's own options", f"How the model writes tool calls; unless given, the model's. {_RENDERED}.")
    ] = "hermes"
    vllm_enable_prefix_caching: Annotated[bool, About("vLLM's own options", f"Prefix cache. {_RENDERED}.")] = True
    vllm_max_num_seqs: Annotated[
        int, About("vLLM's own options", f"Sequences at once, at least MAX_CONCURRENT_REQUESTS. {_RENDERED}.", ge=1)
    ] = 64
    vllm_max_num_batched_tokens: Annotated[
        int, About("vLLM's own options", f"Tokens in one batch; unless given, vLLM's choice. {_RENDERED}.", ge=1)
    ] = 32768
    hf_home: Annotated[
        Path | None, About("vLLM's own options", "Hugging Face's directory, for `models pull` and the engine.")
    ] = None
    huggingface_hub_cache: Annotated[
        Path | None, About("vLLM's own options", "Hugging Face's model cache, if not $HF_HOME/hub.")
    ] = None
