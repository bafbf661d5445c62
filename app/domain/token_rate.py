"""How fast the engine writes, so that nobody asks it for more than the time allows (design decision 9)."""

from typing import Final

_SMOOTHING: Final = 0.2
_HEADROOM: Final = 1.25
_LEAST_TOKENS: Final = 16
_LEAST_SECONDS: Final = 0.5


class TokenRate:
    """Tokens per second of one request, smoothed over the latest ones."""

    def __init__(self) -> None:
        self.tokens_per_second = 0.0

    def observe(self, tokens: int, seconds: float) -> None:
        """Take in one finished request; too short ones say nothing about speed and are left out."""
        if tokens < _LEAST_TOKENS or seconds < _LEAST_SECONDS:
            return
        rate = tokens / seconds
        if self.tokens_per_second == 0.0:
            self.tokens_per_second = rate
        else:
            self.tokens_per_second += _SMOOTHING * (rate - self.tokens_per_second)

    def affordable(self, seconds: float) -> int | None:
        """Tokens that can be written in `seconds`, with a quarter on top for a good run; None when not known yet."""
        if self.tokens_per_second == 0.0:
            return None
        return max(_LEAST_TOKENS, int(self.tokens_per_second * seconds * _HEADROOM))
