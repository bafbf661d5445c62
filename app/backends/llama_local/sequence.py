"""One request inside the engine: its tokens, its text, and how it ends."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from app.backends.llama_local.order import End, Order, Piece
from app.backends.llama_local.text_stream import TextStream

if TYPE_CHECKING:
    from app.backends.llama_local.sampler import Sampler


class Sequence:
    """An order on its way. Only `cancel` may be called outside the engine's thread."""

    def __init__(self, order: Order, emit: Callable[[Piece], None]) -> None:
        self.order = order
        self.tokens = list(order.prompt)
        """Prompt and answer; the engine reads on until it has fed all of them, then picks the next."""
        self.fed = 0
        """How many of `tokens` are in the engine's memory."""
        self.sampler: Sampler | None = None
        self.cancelled = False
        self.end: End | None = None
        self._emit = emit
        self._text = TextStream(order.stop)

    @property
    def written(self) -> int:
        """Tokens of the answer."""
        return len(self.tokens) - len(self.order.prompt)

    @property
    def unread(self) -> int:
        """Tokens to feed before the next can be picked; 1 while it generates."""
        return len(self.tokens) - self.fed

    def cancel(self) -> None:
        """Nobody reads it any more."""
        self.cancelled = True

    def overdue(self, now: float) -> End | None:
        """How it must end now, between two steps."""
        if self.cancelled:
            return "cancelled"
        return "length" if now >= self.order.hard_cut else None

    def write(self, token: int, piece: bytes, *, last: bool) -> End | None:
        """Take the picked token in; returns how the sequence ends with it, if it does."""
        self.tokens.append(token)
        if last:
            return "stop"
        text = self._text.push(piece)
        end: End | None = "stop" if self._text.stopped else None
        if end is None and self.written >= self.order.max_tokens:
            end = "length"
        if text:
            self._emit(Piece(text, self.written))
        return end

    def finish(self, end: End, error: str = "") -> None:
        """The last piece; a second call does nothing."""
        if self.end is not None:
            return
        self.end = end
        if self.sampler is not None:
            self.sampler.close()
            self.sampler = None
        self._emit(Piece(self._text.flush(), self.written, end, error))
