"""The clamp of max_tokens to the time that is left (design decision 9)."""

from app.domain.token_rate import TokenRate


def test_nothing_is_said_before_anything_was_measured() -> None:
    rate = TokenRate()
    rate.observe(3, 10.0, 1)  # too few tokens
    rate.observe(1000, 0.01, 1)  # too short
    assert rate.affordable(50, 1) is None


def test_it_follows_what_is_measured() -> None:
    rate = TokenRate()
    rate.observe(500, 10.0, 1)
    assert rate.affordable(40, 1) == 2500  # 50 tokens/s, 40 s, a quarter on top
    for _ in range(50):
        rate.observe(100, 10.0, 1)
    affordable = rate.affordable(40, 1)
    assert affordable is not None
    assert 495 <= affordable <= 520


def test_a_busy_minute_does_not_cut_the_quiet_one_after_it_short() -> None:
    rate = TokenRate()
    rate.observe(500, 10.0, 1)
    for _ in range(50):
        rate.observe(50, 10.0, 100)
    assert rate.affordable(40, 1) == 2500
    assert rate.affordable(40, 100) == 2500, "the others may leave while it goes on"
    busy_only = TokenRate()
    busy_only.observe(50, 10.0, 100)
    assert busy_only.affordable(40, 1) is None, "nothing is known of one alone"
    assert busy_only.affordable(40, 127) == 250


def test_it_never_asks_for_nothing() -> None:
    rate = TokenRate()
    rate.observe(500, 10.0, 1)
    assert (rate.affordable(0, 1) or 0) > 0
