"""Development mode only where nobody meant a wallet to be used."""

from pathlib import Path

import pytest

from app.errors import WalletError
from app.identity import resolve_identity
from app.settings import LoadedSettings, load


def loaded(home: Path, **given: str) -> LoadedSettings:
    return load({"HOME": str(home), **given}, None)


def test_without_a_wallet_the_hotkey_is_ephemeral(tmp_path: Path) -> None:
    one, two = resolve_identity(loaded(tmp_path)), resolve_identity(loaded(tmp_path))
    assert one.development
    assert one.hotkey.ss58 != two.hotkey.ss58


@pytest.mark.parametrize("name", ["WALLET_NAME", "HOTKEY_NAME", "WALLET_PATH", "HOTKEY_FILE"])
def test_a_wallet_that_is_named_but_missing_stops_the_start(tmp_path: Path, name: str) -> None:
    with pytest.raises(WalletError):
        resolve_identity(loaded(tmp_path, **{name: "x"}))


def test_another_wallet_on_the_machine_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / ".bittensor" / "wallets" / "owner").mkdir(parents=True)
    with pytest.raises(WalletError, match="there are: owner"):
        resolve_identity(loaded(tmp_path))
    assert resolve_identity(loaded(tmp_path, DEVELOPMENT_MODE="on")).development


def test_development_mode_off_needs_a_wallet(tmp_path: Path) -> None:
    with pytest.raises(WalletError, match="WALLET_PATH"):
        resolve_identity(loaded(tmp_path, DEVELOPMENT_MODE="off"))


def test_a_public_address_and_no_wallet_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(WalletError, match=r"API_HOST=0\.0\.0\.0"):
        resolve_identity(loaded(tmp_path, API_HOST="0.0.0.0"))  # noqa: S104 - it is refused
    assert resolve_identity(loaded(tmp_path, API_HOST="127.0.0.1")).development
