"""How fast the engine writes, so that nobody asks it for more than the time allows (design decision 9)."""

from typing import Final

_SMOOTHING: Final = 0.2
_HEADROOM: Final = 1.25
_LEAST_TOKENS: Final = 16
_LEAST_SECONDS: Final = 0.5


class TokenRate:
    """Tokens per second of one request, smoothed over the latest ones, for each load: 1, 2-3, 4-7... at once."""

    def __init__(self) -> None:
        self._rates: dict[int, float] = {}

    @property
    def tokens_per_second(self) -> float:
        """The fastest of all loads, for the metrics; 0 when nothing is known yet."""
        return max(self._rates.values(), default=0.0)

    def observe(self, tokens: int, seconds: float, at_once: int) -> None:
        """Take in one finished request that began as one of `at_once`; too short ones say nothing about speed."""
        if tokens < _LEAST_TOKENS or seconds < _LEAST_SECONDS:
            return
        rate, load = tokens / seconds, at_once.bit_length()
        known = self._rates.get(load, rate)
        self._rates[load] = known + _SMOOTHING * (rate - known)

    def affordable(self, seconds: float, at_once: int) -> int | None:
        """Tokens that can be written in `seconds`, with a quarter on top for a good run; None when not known yet.

        Others may leave while this request goes on: the fastest of this load and all smaller ones counts, or a busy
        minute would cut the answers of the quiet one after it short.
        """
        load = at_once.bit_length()
        rates = [rate for known, rate in self._rates.items() if known <= load]
        if not rates:
            return None
        return max(_LEAST_TOKENS, int(max(rates) * seconds * _HEADROOM))
