"""A request becomes an order for the engine: prompt in tokens, limits, sampling. Work for a thread of its own."""

from typing import Final

from app.backends.llama_local.answer_format import format_rule
from app.backends.llama_local.bindings import Model
from app.backends.llama_local.chat_template import ChatTemplate, read_messages
from app.backends.llama_local.grammar import Grammar
from app.backends.llama_local.order import Order, Sampling
from app.backends.llama_local.sampler import check_grammar
from app.backends.llama_local.tool_prompt import ToolBox, forced_call, read_tools, render_with_tools
from app.domain.backend import Generation
from app.errors import BackendRejected, PromptTooLong

_SHORT: Final = 32_768
_MOST_SPECIALS: Final = 16_384


class PromptWriter:
    """Writes prompts for one loaded model. May be used from several threads at once."""

    def __init__(self, model: Model, context_tokens: int) -> None:
        self._model = model
        self._context_tokens = context_tokens
        self._bos = model.token_text("bos")
        self._add_bos = model.begins_with_bos()
        self._specials = model.special_texts()
        self._template = ChatTemplate(model.chat_template(), bos=self._bos, eos=model.token_text("eos"))

    def order(self, generation: Generation, *, urgent: bool = False) -> Order:
        """The engine's order; `BackendRejected` when this model can't take the request."""
        box = read_tools(generation.tools, generation.tool_choice)
        prompt = self._tokens(render_with_tools(self._template, read_messages(generation.messages), box))
        return Order(
            prompt=prompt,
            max_tokens=max(1, min(generation.max_tokens, self._context_tokens - len(prompt))),
            hard_cut=generation.hard_cut,
            sampling=Sampling(
                temperature=generation.temperature,
                top_p=generation.top_p,
                seed=generation.seed,
                grammar=self._grammar(generation, box),
            ),
            stop=generation.stop,
            tools=box.names,
            urgent=urgent,
        )

    def _grammar(self, generation: Generation, box: ToolBox) -> str | None:
        """What the answer must match: a call, a format, or either where tools may be called in a format's place."""
        grammar = Grammar()
        if box.forced:
            root = forced_call(grammar, box)
        else:
            wanted = format_rule(grammar, generation.response_format)
            if wanted is None:
                return None
            root = f"{wanted} | {forced_call(grammar, box)}" if box.tools else wanted
        text = grammar.text(root)
        check_grammar(self._model, text)
        return text

    def _tokens(self, text: str) -> list[int]:
        if self._add_bos and not text.startswith(self._bos):
            text = self._bos + text
        # llama.cpp's time grows with the square of the special tokens in a text: minutes for 2 MB of them.
        if len(text) > _SHORT and sum(text.count(special) for special in self._specials) > _MOST_SPECIALS:
            raise BackendRejected(f"the prompt has more than {_MOST_SPECIALS} special tokens: shorten it")
        prompt = self._model.tokenize(text)
        if not prompt:
            raise BackendRejected("the prompt is empty")
        if len(prompt) >= self._context_tokens:
            raise PromptTooLong(
                f"prompt has {len(prompt)} tokens, the model's context is {self._context_tokens}: shorten it"
            )
        return prompt
