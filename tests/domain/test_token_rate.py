"""The clamp of max_tokens to the time that is left (design decision 9)."""

from app.domain.token_rate import TokenRate


def test_nothing_is_said_before_anything_was_measured() -> None:
    rate = TokenRate()
    rate.observe(3, 10.0)  # too few tokens
    rate.observe(1000, 0.01)  # too short
    assert rate.affordable(50) is None


def test_it_follows_what_is_measured() -> None:
    rate = TokenRate()
    rate.observe(500, 10.0)
    assert rate.affordable(40) == 2500  # 50 tokens/s, 40 s, a quarter on top
    for _ in range(50):
        rate.observe(100, 10.0)
    affordable = rate.affordable(40)
    assert affordable is not None
    assert 495 <= affordable <= 520


def test_it_never_asks_for_nothing() -> None:
    rate = TokenRate()
    rate.observe(500, 10.0)
    assert (rate.affordable(0) or 0) > 0
