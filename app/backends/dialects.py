"""What differs between vLLM and Ollama: how to find the model, its context, and whether the engine is well."""

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from app.backends.engine_http import EngineHttp
from app.domain.backend import BackendStatus
from app.errors import BackendUnavailable

_OK: Final = 200
_NOT_FOUND: Final = 404
_UNAVAILABLE: Final = 503
_KEEP_ALIVE: Final = "30m"
"""Longer than the longest PROBE_INTERVAL_SECONDS, so that a probed model stays, whatever OLLAMA_KEEP_ALIVE says."""

type Tell = Callable[[BackendStatus], None]


class Dialect(Protocol):
    """One kind of engine behind an OpenAI-compatible API."""

    @property
    def name(self) -> str:
        """As messages call it."""
        ...

    @property
    def running_usage(self) -> bool:
        """Whether every chunk can bring token counts, so that a cut answer has them too."""
        ...

    @property
    def refuses_too_long(self) -> bool:
        """Whether prompt and `max_tokens` over the context are refused; else the prompt is cut without a word."""
        ...

    async def look(self, http: EngineHttp, tell: Tell) -> BackendStatus:
        """Find the model and its context; `tell` what takes long. Errors: `BackendUnavailable`, `TimeoutError`."""
        ...


class _LlamaMeta(msgspec.Struct):
    n_ctx: int


class _ModelCard(msgspec.Struct):
    """One entry of `/v1/models`; `max_model_len` is vLLM's own addition, `meta.n_ctx` llama.cpp's: tokens for each."""

    id: str
    max_model_len: int | None = None
    meta: object = None

    @property
    def llama_context(self) -> int:
        """What llama.cpp's own server gives to each of its slots, in tokens; 0 when this is another engine."""
        try:
            return msgspec.convert(self.meta, _LlamaMeta).n_ctx
        except msgspec.ValidationError:
            return 0

    @property
    def context(self) -> int:
        """The context of one request in tokens; 0 when the engine does not say."""
        return self.max_model_len or self.llama_context


class _TemplateCaps(msgspec.Struct, frozen=True):
    supports_tool_calls: bool = True


class _LlamaProps(msgspec.Struct):
    """`/props` of llama.cpp's own server. It tells a model of tools only where the chat template knows them."""

    chat_template_caps: _TemplateCaps = _TemplateCaps()


class _ModelList(msgspec.Struct):
    data: list[_ModelCard]


class _RouterReadiness(msgspec.Struct):
    """`/readiness` of vllm-router, which stands before several engines; vLLM itself has no such route."""

    healthy_workers: int


class Vllm(msgspec.Struct, frozen=True):
    """vLLM, and whatever else answers `/v1/models` (`/health` and the context may be missing there)."""

    model: str | None
    least_context: int
    name: str = "vLLM"
    running_usage: bool = True
    refuses_too_long: bool = True

    async def look(self, http: EngineHttp, tell: Tell) -> BackendStatus:  # noqa: ARG002 - nothing here takes long
        """`/health`, then `/v1/models`.

        vllm-router says 503 at `/health` as long as one of its engines is down, while it serves through the others.
        """
        status = await http.status_of("/health")
        if status not in {_OK, _NOT_FOUND} and not (status == _UNAVAILABLE and await _routes_on(http)):
            raise BackendUnavailable(f"vLLM at {http.root} says that it is not well (/health: {status}): see its log")
        models = (await http.ask("/v1/models", _ModelList)).data
        chosen = _chosen(self.name, self.model, [card.id for card in models], lambda name, other: name == other)
        card = next(card for card in models if card.id == chosen)
        context, need = card.context, self.least_context
        if 0 < context < need:
            option = f"--max-model-len {need} or more"
            if card.llama_context:  # its option is for all slots together
                option = f"--ctx-size {need} or more for each of its slots (--parallel)"
            raise BackendUnavailable(
                f"vLLM serves {chosen} with a context of {context} tokens, and {need} are needed: start it with"
                f" {option}, or lower MIN_CONTEXT_TOKENS"
            )
        found = BackendStatus(ready=True, model=chosen, context_tokens=context, address=http.root)
        if not card.llama_context:
            return found
        caps = (await http.ask("/props", _LlamaProps)).chat_template_caps
        # It takes a tool_choice that is no text, so a name, for "auto".
        return msgspec.structs.replace(found, forces_calls=caps.supports_tool_calls, forces_by_name=False)


async def _routes_on(http: EngineHttp) -> bool:
    """Whether this is a vllm-router that still has an engine to ask. Errors: `TimeoutError`."""
    try:
        return (await http.ask("/readiness", _RouterReadiness)).healthy_workers > 0
    except BackendUnavailable:
        return False


class _OllamaModel(msgspec.Struct):
    """An entry of `/api/tags`, where only the name counts, or of `/api/ps`."""

    name: str
    context_length: int = 0


class _OllamaModels(msgspec.Struct):
    models: list[_OllamaModel]


class _OllamaShow(msgspec.Struct):
    model_info: dict[str, object] = {}
    parameters: str = ""

    @property
    def context(self) -> int:
        """The model's own context in tokens; 0 when it does not say."""
        value = self.model_info.get(f"{self.model_info.get('general.architecture')}.context_length")
        return value if isinstance(value, int) else 0


class Ollama(msgspec.Struct, frozen=True):
    """Ollama: it cuts what doesn't fit without a word, so the context it really serves must be large enough.

    Only `/api/ps` tells it, and only of a loaded model. Loading is asked for by itself, not left to the first probe:
    Ollama gives up loading when the caller hangs up, so a probe's time-out would begin it again and again.
    """

    model: str | None
    least_context: int
    load_seconds: float
    name: str = "Ollama"
    running_usage: bool = False
    refuses_too_long: bool = False

    async def look(self, http: EngineHttp, tell: Tell) -> BackendStatus:
        """`/api/tags`, `/api/ps`, and where needed `/api/generate` without a prompt, which loads, and `/api/show`."""
        names = [model.name for model in (await http.ask("/api/tags", _OllamaModels)).models]
        chosen = _chosen(self.name, self.model, names, _same_model)
        context = await self._served_context(http, chosen)
        if context is None:
            tell(BackendStatus(ready=False, loading=True, reason=f"Ollama loads {chosen}, which may take minutes"))
            await self._load(http, chosen)
            context = await self._served_context(http, chosen)
        if not context:
            raise BackendUnavailable("Ollama does not tell the context it serves (/api/ps): update it to 0.10 or later")
        if context < self.least_context:
            raise BackendUnavailable(await self._too_small(http, chosen, context))
        return BackendStatus(ready=True, model=chosen, context_tokens=context, address=http.root, forces_calls=False)

    async def _served_context(self, http: EngineHttp, chosen: str) -> int | None:
        """The context of the loaded model; None when it is not loaded."""
        loaded = (await http.ask("/api/ps", _OllamaModels)).models
        return next((model.context_length for model in loaded if _same_model(model.name, chosen)), None)

    async def _load(self, http: EngineHttp, chosen: str) -> None:
        order = {"model": chosen, "keep_alive": _KEEP_ALIVE, "stream": False}
        try:
            await http.ask("/api/generate", dict[str, object], order, seconds=self.load_seconds)
        except TimeoutError:
            raise BackendUnavailable(
                f"Ollama did not load {chosen} within {self.load_seconds:g} s: see its log, or raise OLLAMA_TIMEOUT"
            ) from None

    async def _too_small(self, http: EngineHttp, chosen: str, context: int) -> str:
        need = self.least_context
        problem = f"Ollama serves {chosen} with a context of {context} tokens and would cut longer prompts silently"
        shown = await http.ask("/api/show", _OllamaShow, {"model": chosen})
        if 0 < shown.context < need:
            return f"{problem}; the model itself has {shown.context}: choose another, or lower MIN_CONTEXT_TOKENS"
        if "num_ctx" in shown.parameters:
            return f"{problem}: its Modelfile sets num_ctx, make that {need} or more"
        return f"{problem}: set OLLAMA_CONTEXT_LENGTH={need} or more in Ollama's environment and restart it"


def _chosen(engine: str, wanted: str | None, names: list[str], same: Callable[[str, str], bool]) -> str:
    """The wanted model as the engine calls it, or the engine's only one. Errors: `BackendUnavailable`."""
    found = next((name for name in names if wanted is not None and same(name, wanted)), None)
    if found is None and len(names) == 1:
        return names[0]
    if found is None:
        what = f"model {wanted} not found" if wanted else "DEFAULT_MODEL is not set"
        if not names:
            raise BackendUnavailable(f"{what}, {engine} has no model at all: give it one")
        raise BackendUnavailable(f"{what}, {engine} has {', '.join(names)}: set DEFAULT_MODEL to one of them")
    return found


def _same_model(name: str, other: str) -> bool:
    """Ollama's names are the same with and without `:latest`."""
    return name.removesuffix(":latest") == other.removesuffix(":latest")
