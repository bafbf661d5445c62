"""How much context a model is served with: the least of what fits, what it was made for, and what its tier takes."""

from collections.abc import Iterator

from app.domain.compute.catalogue import AllowedModel, ModelFacts, Tier
from app.domain.compute.catalogue_rules import LEAST_CONTEXT
from app.domain.compute.fit import Fit, gb
from app.domain.compute.profile import Reason, Wishes


def served_context(model: AllowedModel, facts: ModelFacts, tier: Tier | None, fit: Fit, wishes: Wishes) -> int | Reason:
    """Give the context in tokens, or the reason why there is none of at least 16384 (or MIN_CONTEXT_TOKENS, if more).

    A context that the operator asks for (MAX_MODEL_LEN) is taken whole or refused, never cut.
    """
    floor = max(LEAST_CONTEXT, wishes.min_context)
    asked = wishes.context
    if asked is not None:
        return next(_faults(model, facts, fit, asked, floor), asked)
    usual = facts.served_context if tier is None else min(facts.served_context, tier.recommended_max_context)
    context = min(fit.tokens, facts.native_context, max(usual, floor))
    if context >= floor:
        return context
    if facts.native_context < wishes.min_context:
        return _over_native(model, facts, wishes.min_context)
    return next(_faults(model, facts, fit, floor, floor))


def _over_native(model: AllowedModel, facts: ModelFacts, least: int) -> Reason:
    return Reason(
        "context_too_long",
        f"MIN_CONTEXT_TOKENS={least}, and {model.id} was made for {facts.native_context} tokens",
        f"set MIN_CONTEXT_TOKENS to {facts.native_context} or less, or DEFAULT_MODEL to a model with a longer context",
    )


def _faults(model: AllowedModel, facts: ModelFacts, fit: Fit, context: int, floor: int) -> Iterator[Reason]:
    """Say what is wrong with serving this context."""
    if context < floor:
        yield Reason(
            "context_too_small",
            f"MAX_MODEL_LEN={context} is under {floor}: a challenge asks for 12288 new tokens, and vLLM refuses what"
            " prompt and answer together have beyond the context",
            f"set MAX_MODEL_LEN to {floor} or more, or leave it empty",
        )
    if context > facts.native_context:
        yield Reason(
            "context_too_long",
            f"{model.id} was made for {facts.native_context} tokens, {context} are wanted: more needs YaRN overrides,"
            " which vLLM refuses",
            f"stay at {facts.native_context} or below, or choose a model with a longer context",
        )
    if context > fit.tokens:
        over = fit.needed(context) - fit.cards * int(fit.memory * fit.utilisation)
        yield Reason(
            "memory",
            f"{model.id} with a context of {context} is {gb(over)} too large: {fit.sentence()}, and {context} are"
            " needed",
            f"choose a smaller model, or {'a GPU' if fit.place == 'gpu' else 'a machine'} with more memory",
        )
