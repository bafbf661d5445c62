"""What outlives the process of handshakes dated ahead of our clock (threat 1)."""

from pathlib import Path

import pytest

from app.ahead_file import AheadFile
from app.errors import SettingsError


def test_threat_1_what_was_taken_is_known_after_a_restart(tmp_path: Path) -> None:
    state = tmp_path / "state"
    AheadFile(state)["5Fast"] = 1030.5
    again = AheadFile(state)
    assert dict(again) == {"5Fast": 1030.5}
    again["5Faster"] = 1040.0
    del again["5Fast"]
    again["5Fastest"] = 1050.0
    assert dict(AheadFile(state)) == {"5Faster": 1040.0, "5Fastest": 1050.0}
    assert (state / "handshakes-ahead.json").stat().st_mode & 0o077 == 0


def test_it_is_bounded_and_the_oldest_go(tmp_path: Path) -> None:
    ahead = AheadFile(tmp_path)
    for number in range(1100):
        ahead[f"5Hotkey{number}"] = float(number)
    assert len(ahead) == 1024
    assert min(ahead.values()) == 76.0


def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "handshakes-ahead.json").write_text("{")
    with pytest.raises(SettingsError, match=r"handshakes-ahead\.json is damaged: delete it"):
        AheadFile(tmp_path)


def test_a_state_dir_that_is_a_file_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SettingsError, match="STATE_DIR"):
        AheadFile(blocked)
