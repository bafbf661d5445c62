"""How one request picks its next token from the scores."""

import ctypes
import secrets
from typing import Final

import llama_cpp
import numpy as np
import numpy.typing as npt

from app.backends.llama_local.bindings import Model
from app.backends.llama_local.order import Sampling
from app.errors import BackendRejected

_TOP_K: Final = 40
"""llama.cpp's own default: keeps small models from picking nonsense out of the long tail, and the sort short."""
_BEST: Final = (256, 4096)
"""How many of the best tokens a grammar is asked about before it is asked about all."""
_CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)], align=True)

Scores = npt.NDArray[np.float32]


class Sampler:
    """Greedy without a detour when the temperature is 0; otherwise one of llama.cpp's chains.

    A grammar is asked about the one token picked; when it refuses that one, about the best few hundred, and only where
    it refuses them all about the whole vocabulary, which may take a large grammar a second: everybody waits for it.
    """

    def __init__(self, model: Model, sampling: Sampling) -> None:
        self._grammar = None if sampling.grammar is None else _grammar(model, sampling.grammar)
        self._chain = None if sampling.temperature <= 0 else _chain(sampling)

    def close(self) -> None:
        """Free llama.cpp's objects; a second call does nothing."""
        for handle in (self._chain, self._grammar):
            if handle is not None:
                llama_cpp.llama_sampler_free(handle)
        self._chain = self._grammar = None

    def pick(self, scores: Scores) -> int | None:
        """The next token; None where the grammar allows none that the vocabulary has."""
        token = self._draw(scores)
        if self._grammar is not None:
            if not _allows(self._grammar, token):
                allowed = _allowed(self._grammar, scores)
                # llama.cpp ends the process when a grammar must accept what it refuses.
                if allowed is None:
                    return None
                token = self._draw(allowed)
            llama_cpp.llama_sampler_accept(self._grammar, token)
        if self._chain is not None:
            llama_cpp.llama_sampler_accept(self._chain, token)
        return token

    def _draw(self, scores: Scores) -> int:
        if self._chain is None:
            return int(scores.argmax())
        candidates = _candidates(scores)
        array = _native(candidates)
        llama_cpp.llama_sampler_apply(self._chain, array)
        return int(array[0].data[array[0].selected].id)


def check_grammar(model: Model, grammar: str) -> None:
    """`BackendRejected` when llama.cpp can't use the grammar."""
    llama_cpp.llama_sampler_free(_grammar(model, grammar))


def _grammar(model: Model, grammar: str) -> "llama_cpp.llama_sampler_p":
    handle = llama_cpp.llama_sampler_init_grammar(model.vocabulary, grammar.encode(), b"root")
    if not handle:
        raise BackendRejected("llama.cpp can't use the grammar of this schema: make the schema simpler")
    return handle


def _chain(sampling: Sampling) -> "llama_cpp.llama_sampler_p":
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    parts = [llama_cpp.llama_sampler_init_top_k(_TOP_K)]
    if sampling.top_p < 1.0:
        parts.append(llama_cpp.llama_sampler_init_top_p(max(0.0, sampling.top_p), 1))
    parts.append(llama_cpp.llama_sampler_init_temp(sampling.temperature))
    seed = secrets.randbits(32) if sampling.seed is None else sampling.seed
    parts.append(llama_cpp.llama_sampler_init_dist(seed & 0xFFFFFFFF))
    for part in parts:
        llama_cpp.llama_sampler_chain_add(chain, part)
    return chain


def _allows(grammar: "llama_cpp.llama_sampler_p", token: int) -> bool:
    candidate = np.zeros(1, _CANDIDATE)
    candidate["id"] = token
    llama_cpp.llama_sampler_apply(grammar, _native(candidate))
    return bool(np.isfinite(candidate["logit"][0]))


def _allowed(grammar: "llama_cpp.llama_sampler_p", scores: Scores) -> Scores | None:
    """The scores without those that the grammar refuses; None where it refuses all."""
    for most in (*_BEST, len(scores)):
        best = np.argpartition(scores, -most)[-most:] if most < len(scores) else np.arange(len(scores))
        candidates = np.zeros(len(best), _CANDIDATE)
        candidates["id"] = best
        candidates["logit"] = scores[best]
        llama_cpp.llama_sampler_apply(grammar, _native(candidates))
        if np.isfinite(candidates["logit"]).any():
            left = np.full_like(scores, -np.inf)
            left[best] = candidates["logit"]
            return left
    return None


def _candidates(scores: Scores) -> npt.NDArray[np.void]:
    candidates = np.zeros(len(scores), _CANDIDATE)
    candidates["id"] = np.arange(len(scores), dtype=np.int32)
    candidates["logit"] = scores
    return candidates


def _native(candidates: npt.NDArray[np.void]) -> "ctypes.Array[llama_cpp.llama_token_data_array]":
    """As llama.cpp reads and changes them, in place: `candidates` must be held by a name meanwhile."""
    array = (llama_cpp.llama_token_data_array * 1)()
    array[0].data = ctypes.cast(candidates.ctypes.data, ctypes.POINTER(llama_cpp.llama_token_data))
    array[0].size = len(candidates)
    array[0].selected = -1
    return array
