"""What the chain holds of our endpoint, what to do about it, and how long until it takes another (`serve_axon`)."""

import math
from typing import Final, Literal

import msgspec

from app.domain.metagraph import Axon

BLOCK_SECONDS: Final = 12

type Step = Literal["keep", "post", "leave"]
"""Nothing to do; post; or leave another machine's entry alone."""


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """The hotkey's entry at a block; `rate_limit` is in blocks, 0 where there is none."""

    block: int
    rate_limit: int
    axon: Axon | None = None
    posted_at: int | None = None

    def blocks_to_wait(self) -> int:
        """Blocks until the chain takes the next post; the same address counts too."""
        if not self.posted_at or not self.rate_limit:
            return 0
        # A post now lands in the next block, which is where the chain counts to.
        return max(0, self.posted_at + self.rate_limit - (self.block + 1))


def minutes(blocks: int) -> int:
    """How long some blocks take, in whole minutes, rounded up."""
    return math.ceil(blocks * BLOCK_SECONDS / 60)


def next_step(held: Axon | None, wanted: Axon, *, watching: bool, last: Axon | None) -> Step:
    """Decide what to do; `last` is what this machine posted last, as far as it remembers.

    A watch posts when our address changed or the entry vanished. When the chain names another address although ours
    is still the one we posted, another machine uses this hotkey: two watches would take the entry from each other.
    """
    if held == wanted:
        return "keep"
    if watching and held is not None and last == wanted:
        return "leave"
    return "post"
