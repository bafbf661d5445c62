"""What the chain holds of our endpoint, and how long until it takes another (pallet's `serve_axon`)."""

from typing import Final

import msgspec

from app.domain.metagraph import Axon

BLOCK_SECONDS: Final = 12


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
