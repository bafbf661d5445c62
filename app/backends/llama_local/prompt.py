"""A request becomes an order for the engine: prompt in tokens, limits, sampling. Work for a thread of its own."""

from app.backends.llama_local.bindings import Model
from app.backends.llama_local.chat_template import ChatTemplate, read_messages
from app.backends.llama_local.order import Order, Sampling
from app.domain.backend import Generation
from app.errors import BackendRejected


class PromptWriter:
    """Writes prompts for one loaded model. May be used from several threads at once."""

    def __init__(self, model: Model, context_tokens: int) -> None:
        self._model = model
        self._context_tokens = context_tokens
        self._bos = model.token_text("bos")
        self._add_bos = model.begins_with_bos()
        self._template = ChatTemplate(model.chat_template(), bos=self._bos, eos=model.token_text("eos"))

    def order(self, generation: Generation, *, urgent: bool = False) -> Order:
        """The engine's order; `BackendRejected` when this model can't take the request."""
        text = self._template.render(read_messages(generation.messages))
        prompt = self._tokens(text)
        return Order(
            prompt=prompt,
            max_tokens=max(1, min(generation.max_tokens, self._context_tokens - len(prompt))),
            hard_cut=generation.hard_cut,
            sampling=Sampling(temperature=generation.temperature, top_p=generation.top_p, seed=generation.seed),
            stop=generation.stop,
            urgent=urgent,
        )

    def _tokens(self, text: str) -> list[int]:
        if self._add_bos and not text.startswith(self._bos):
            text = self._bos + text
        prompt = self._model.tokenize(text)
        if not prompt:
            raise BackendRejected("the prompt is empty")
        if len(prompt) >= self._context_tokens:
            raise BackendRejected(
                f"prompt has {len(prompt)} tokens, the model's context is {self._context_tokens}: shorten it"
            )
        return prompt
