"""What to do about our entry on chain, and how long the chain makes us wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.metagraph import Axon
from app.domain.posting import Posting, Step, minutes, next_step

OURS = Axon("8.8.4.4", 8000)
OLD = Axon("1.0.0.1", 8000)
OTHERS = Axon("9.9.9.9", 8000)


@pytest.mark.parametrize(
    ("held", "last", "by_hand", "watching"),
    [
        (OURS, None, "keep", "keep"),
        (OURS, OLD, "keep", "keep"),
        (None, None, "post", "post"),
        (None, OURS, "post", "post"),  # the entry vanished
        (OLD, OLD, "post", "post"),  # our address changed
        (OLD, None, "post", "post"),  # the first watch here
        (OTHERS, OURS, "post", "leave"),  # another machine took the entry
        (OTHERS, OLD, "post", "post"),  # and our address changed as well
    ],
)
def test_what_is_done(held: Axon | None, last: Axon | None, by_hand: Step, watching: Step) -> None:
    assert next_step(held, OURS, watching=False, last=last) == by_hand
    assert next_step(held, OURS, watching=True, last=last) == watching


def test_another_port_is_another_endpoint() -> None:
    assert next_step(Axon(OURS.ip, 8001), OURS, watching=False, last=None) == "post"


@given(st.integers(1, 10**9), st.integers(0, 10**4), st.integers(0, 10**5))
def test_the_wait_is_what_the_pallet_counts(posted_at: int, limit: int, passed: int) -> None:
    """The pallet refuses while `current - last < limit`; a post made now is in the next block."""
    block = posted_at + passed
    wait = Posting(block=block, rate_limit=limit, axon=OURS, posted_at=posted_at).blocks_to_wait()
    assert wait >= 0
    assert block + 1 + wait - posted_at >= limit
    assert wait == 0 or block + wait - posted_at < limit


def test_without_a_post_or_a_limit_there_is_no_wait() -> None:
    assert Posting(block=100, rate_limit=50).blocks_to_wait() == 0
    assert Posting(block=100, rate_limit=0, axon=OURS, posted_at=100).blocks_to_wait() == 0
    assert Posting(block=100, rate_limit=50, axon=OURS, posted_at=100).blocks_to_wait() == 49


def test_minutes_are_rounded_up() -> None:
    assert [minutes(blocks) for blocks in (0, 1, 5, 6, 49, 50)] == [0, 1, 1, 2, 10, 10]
