"""Token buckets, bounded in number: what a stranger spends must not cost more than it is worth (threats 7 and 22)."""

from collections import OrderedDict
from math import ceil
from typing import Final

from app.clock import Clock
from app.errors import RateLimited

_MINUTE: Final = 60.0


class _Bucket:
    __slots__ = ("tokens", "touched")

    def __init__(self, tokens: float, touched: float) -> None:
        self.tokens = tokens
        self.touched = touched


class RateLimiter:
    """One bucket per key; the buckets used longest ago go when there are more than `most_keys`.

    A bucket holds a minute's worth, so a burst of that size passes and then one request each `60 / per_minute` s.
    """

    def __init__(self, clock: Clock, *, most_keys: int) -> None:
        self._clock = clock
        self._most_keys = most_keys
        self._buckets: OrderedDict[tuple[str, str], _Bucket] = OrderedDict()

    def spend(self, scope: str, key: str, per_minute: int) -> None:
        """Take one token from the bucket `key` of `scope`. Errors: `RateLimited` with the seconds to wait."""
        now = self._clock.monotonic()
        name = (scope, key)
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(float(per_minute), now)
            if len(self._buckets) > self._most_keys:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
            refilled = bucket.tokens + (now - bucket.touched) * per_minute / _MINUTE
            bucket.tokens = min(float(per_minute), refilled)
            bucket.touched = now
        if bucket.tokens < 1.0:
            wait = ceil((1.0 - bucket.tokens) * _MINUTE / per_minute) if per_minute else ceil(_MINUTE)
            raise RateLimited(f"over {per_minute} requests a minute: wait {wait} s", retry_after=wait)
        bucket.tokens -= 1.0

    def __len__(self) -> int:
        return len(self._buckets)
