"""A typed face over the parts of llama.cpp's C API that the engine uses: model, context, batch.

The only file, with `sampler` and `rewrite`, that touches ctypes. Nothing here is safe to call from two threads at once
but `Model.tokenize` (llama.cpp reads the vocabulary only) and `Context.abort`.
"""

import ctypes
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, Self

import llama_cpp
import msgspec
import numpy as np
import numpy.typing as npt

# The package names no function that loads run-time CPU variants; the library's handle finds them.
from llama_cpp.llama_cpp import _base_path as _folder  # pyright: ignore[reportPrivateUsage]
from llama_cpp.llama_cpp import _lib as _library  # pyright: ignore[reportPrivateUsage]

from app.errors import BackendRejected, BackendUnavailable

_LIBC: Final = ctypes.CDLL(None)
_WARNING: Final = 3
_INT_POINTER: Final = ctypes.POINTER(ctypes.c_int32)
_NO: Final = False
_YES: Final = True
Outcome = Literal["ok", "no_space", "aborted"]


class ModelFacts(msgspec.Struct, frozen=True):
    """What sizes depend on."""

    context_tokens: int
    """The context the model was trained for."""
    cell_bytes: int
    """Memory one token takes in the context (keys and values in 16 bits)."""


def load_library() -> None:
    """Make llama.cpp ready. A build with run-time CPU variants has no device until they are loaded."""
    if not _library.ggml_backend_dev_count():
        _library.ggml_backend_load_all_from_path(str(_folder).encode())
    llama_cpp.llama_backend_init()


def can_use_gpu() -> bool:
    """Whether this build of llama.cpp computes on GPUs."""
    return llama_cpp.llama_supports_gpu_offload()


class Model:
    """Weights and vocabulary."""

    def __init__(self, path: Path, *, gpu_layers: int, go_on: Callable[[float], bool]) -> None:
        """`go_on` is told the share loaded and answers whether to continue."""
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = gpu_layers

        def on_progress(share: float, _: object) -> bool:
            return go_on(share)

        progress = llama_cpp.llama_progress_callback(on_progress)  # held by a name until the loading is over
        params.progress_callback = progress
        with NativeLog() as log:
            handle = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if handle is None:
            raise BackendUnavailable(
                f"{path} can't be loaded ({log.text()}): download it again, or use a model that this llama.cpp knows"
            )
        self.handle: Final = handle
        vocabulary = llama_cpp.llama_model_get_vocab(handle)
        if vocabulary is None:
            raise BackendUnavailable("the model has no vocabulary")
        self.vocabulary: Final = vocabulary
        self.vocabulary_size: Final = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self._pieces: dict[int, bytes] = {}
        self._buffer = ctypes.create_string_buffer(1024)

    def close(self) -> None:
        """Free the weights; contexts go first."""
        llama_cpp.llama_model_free(self.handle)

    def facts(self) -> ModelFacts:
        """The figures that the context's size is chosen by."""
        heads = max(1, llama_cpp.llama_model_n_head(self.handle))
        key_width = llama_cpp.llama_model_n_embd(self.handle) * llama_cpp.llama_model_n_head_kv(self.handle) // heads
        return ModelFacts(
            context_tokens=llama_cpp.llama_model_n_ctx_train(self.handle),
            cell_bytes=2 * 2 * key_width * llama_cpp.llama_model_n_layer(self.handle),
        )

    def chat_template(self) -> str:
        """The template inside the model's file; empty when it has none."""
        return (llama_cpp.llama_model_chat_template(self.handle, None) or b"").decode(errors="replace")

    def token_text(self, kind: Literal["bos", "eos"]) -> str:
        """How templates write the token that begins or ends a text; empty when the model has none."""
        ask = llama_cpp.llama_vocab_bos if kind == "bos" else llama_cpp.llama_vocab_eos
        token = int(ask(self.vocabulary))  # pyright: ignore[reportArgumentType] - ctypes hands out a plain int
        if token < 0:
            return ""
        return (llama_cpp.llama_vocab_get_text(self.vocabulary, token) or b"").decode(errors="replace")

    def special_texts(self) -> list[str]:
        """How the tokens are written that count as one wherever they stand."""
        special = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
        texts = (
            llama_cpp.llama_vocab_get_text(self.vocabulary, token)
            for token in range(self.vocabulary_size)
            if llama_cpp.llama_vocab_get_attr(self.vocabulary, token) & special
        )
        return [text.decode(errors="replace") for text in texts if text]

    def begins_with_bos(self) -> bool:
        """Whether the model was trained on texts that all begin with the BOS token."""
        return llama_cpp.llama_vocab_get_add_bos(self.vocabulary)

    def tokenize(self, text: str) -> list[int]:
        """Tokens of a rendered prompt; special tokens in it count as such. Releases the GIL while it works."""
        raw = text.encode()
        room = len(raw) + 8
        tokens = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.vocabulary, raw, len(raw), tokens, room, _NO, _YES)
        if count < 0:
            raise BackendRejected(f"the tokenizer wants room for {-count} tokens for {len(raw)} bytes")
        return tokens[:count]

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; control tokens stand for none."""
        piece = self._pieces.get(token)
        if piece is None:
            size = llama_cpp.llama_token_to_piece(self.vocabulary, token, self._buffer, len(self._buffer), 0, _NO)
            piece = self._pieces[token] = self._buffer.raw[: max(0, size)]
        return piece

    def ends(self, token: int) -> bool:
        """Whether the model says with this token that it has finished."""
        return llama_cpp.llama_vocab_is_eog(self.vocabulary, token)


class ContextShape(msgspec.Struct, frozen=True, kw_only=True):
    """How large a context is and how it computes."""

    cells: int
    """Tokens held, over all sequences."""
    sequences: int
    batch_tokens: int
    threads: int
    shared_cells: bool
    """One pool for all sequences, instead of an equal part for each."""
    flash_attention: bool


class Context:
    """The model's memory of several sequences, and the step that extends them."""

    def __init__(self, model: Model, shape: ContextShape) -> None:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = shape.cells
        params.n_batch = params.n_ubatch = shape.batch_tokens
        params.n_seq_max = shape.sequences
        params.n_threads = params.n_threads_batch = shape.threads
        params.kv_unified = shape.shared_cells
        params.flash_attn_type = int(shape.flash_attention)
        params.no_perf = True
        with NativeLog() as log:
            handle = llama_cpp.llama_init_from_model(model.handle, params)
        if handle is None:
            raise BackendUnavailable(
                f"a context of {shape.cells} tokens can't be had ({log.text()}): lower LLAMA_CONTEXT or LLAMA_PARALLEL"
            )
        memory = llama_cpp.llama_get_memory(handle)
        if memory is None:
            raise BackendUnavailable("this kind of model keeps no context: use a model that writes text")
        self.cells = shape.cells
        self.threads = shape.threads
        self._handle: Final = handle
        self._memory: Final = memory
        self._width = model.vocabulary_size
        # libc's strlen answers the abort question: 0 (go on) for "", 1 (stop) for "\x01". So llama.cpp's threads
        # never wait for the GIL, which a Python callback would have them do at every operation.
        self._abort_text = ctypes.create_string_buffer(2)
        self._abort_question = ctypes.cast(_LIBC.strlen, llama_cpp.ggml_abort_callback)
        llama_cpp.llama_set_abort_callback(handle, self._abort_question, ctypes.cast(self._abort_text, ctypes.c_void_p))

    def close(self) -> None:
        """Free the memory."""
        llama_cpp.llama_free(self._handle)

    def abort(self) -> None:
        """Let the step in flight, or the next one, end at once with 'aborted'. Any thread may call this."""
        self._abort_text[0] = b"\x01"

    def clear_abort(self) -> None:
        """Let steps run again."""
        self._abort_text[0] = b"\x00"

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from the next step on."""
        if threads != self.threads:
            llama_cpp.llama_set_n_threads(self._handle, threads, threads)
            self.threads = threads

    def decode(self, batch: "Batch") -> Outcome:
        """Compute one step. 'no_space' leaves the memory as it was, 'aborted' may leave parts of the step in it."""
        code = llama_cpp.llama_decode(self._handle, batch.native())
        match code:
            case 0:
                return "ok"
            case 1:
                return "no_space"
            case 2:
                return "aborted"
            case _:
                raise BackendUnavailable(f"llama_decode failed with code {code}")

    def logits(self, index: int) -> npt.NDArray[np.float32]:
        """The scores of all tokens after the batch's token `index`: a view, good until the next step."""
        pointer = llama_cpp.llama_get_logits_ith(self._handle, index)
        return np.ctypeslib.as_array(pointer, shape=(self._width,))

    def forget(self, sequence: int, start: int) -> bool:
        """Drop a sequence's tokens from position `start` on; False where the model can't cut in the middle."""
        return llama_cpp.llama_memory_seq_rm(self._memory, sequence, start, -1)

    def share(self, source: int, target: int, end: int) -> None:
        """Let `target` have the first `end` tokens of `source` (the very same cells when cells are shared)."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, 0, end)

    def clear(self) -> None:
        """Forget everything."""
        llama_cpp.llama_memory_clear(self._memory, _YES)


class Batch:
    """The tokens of one step, in arrays that llama.cpp reads in place."""

    def __init__(self, capacity: int) -> None:
        self.capacity: Final = capacity
        self.size = 0
        self._token = np.zeros(capacity, np.int32)
        self._position = np.zeros(capacity, np.int32)
        self._sequence = np.zeros(capacity, np.int32)
        self._scored = np.zeros(capacity, np.int8)
        self._one = np.ones(capacity, np.int32)
        offsets = np.arange(capacity, dtype=np.uint64) * np.uint64(self._sequence.itemsize)
        self._sequence_at = np.uint64(self._sequence.ctypes.data) + offsets

    def clear(self) -> None:
        """Begin a new step."""
        self.size = 0

    def add(self, sequence: int, position: int, tokens: list[int], *, scored: bool) -> int:
        """Append tokens of one sequence; `scored` asks for the scores after the last one. Returns its index."""
        start, end = self.size, self.size + len(tokens)
        self._token[start:end] = tokens
        self._position[start:end] = np.arange(position, position + len(tokens))
        self._sequence[start:end] = sequence
        self._scored[start:end] = 0
        self._scored[end - 1] = scored
        self.size = end
        return end - 1

    def native(self) -> llama_cpp.llama_batch:
        """As llama.cpp reads it."""
        return llama_cpp.llama_batch(
            n_tokens=self.size,
            token=_at(self._token, _INT_POINTER),
            pos=_at(self._position, _INT_POINTER),
            n_seq_id=_at(self._one, _INT_POINTER),
            seq_id=_at(self._sequence_at, ctypes.POINTER(_INT_POINTER)),
            logits=_at(self._scored, ctypes.POINTER(ctypes.c_int8)),
        )


class NativeLog:
    """Collects what llama.cpp warns of while it loads or writes weights; afterwards llama.cpp is silent.

    The log callback is one for the whole process. Once done it is libc's `abs`, which takes the level and does
    nothing: unlike a Python function it can't be collected, nor does it take the GIL.
    """

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=8)
        self._callback = llama_cpp.llama_log_callback(self._line)

    def __enter__(self) -> Self:
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p())
        return self

    def __exit__(self, *_: object) -> None:
        llama_cpp.llama_log_set(ctypes.cast(_LIBC.abs, llama_cpp.llama_log_callback), ctypes.c_void_p())

    def _line(self, level: int, text: bytes, _: object) -> None:
        if level >= _WARNING:
            self._lines.append(text.decode(errors="replace").strip())

    def text(self) -> str:
        """The last warnings, in one line."""
        return "; ".join(line for line in self._lines if line) or "no reason given"


def _at[Pointer: "ctypes._Pointer[Any]"](  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - it has no public name
    array: npt.NDArray[np.generic], kind: type[Pointer]
) -> Pointer:
    return ctypes.cast(array.ctypes.data, kind)
