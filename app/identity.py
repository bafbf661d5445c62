"""Who the miner is: the wallet's hotkey, or an ephemeral one in development mode."""

from dataclasses import dataclass
from typing import Final

from app.chain.wallet import has_wallets, load_hotkey
from app.errors import WalletError
from app.protocol.hotkeys import Hotkey
from app.settings import LoadedSettings
from app.settings_checks import is_loopback

_NAMING: Final = ("WALLET_NAME", "HOTKEY_NAME", "WALLET_PATH", "HOTKEY_FILE")


@dataclass(frozen=True)
class Identity:
    """The hotkey that signs; `development`: it is ephemeral, and the miner keeps to itself."""

    hotkey: Hotkey
    development: bool


def resolve_identity(loaded: LoadedSettings) -> Identity:
    """Find the hotkey, or make one in development mode. Errors: `WalletError`."""
    if not in_development(loaded):
        return Identity(load_hotkey(loaded.settings, credentials=loaded.credentials), development=False)
    if loaded.explicit("API_HOST") and not is_loopback(loaded.settings.api_host):
        raise WalletError(
            f"{loaded.settings.wallet_path}: no wallet, and without one the miner runs in development mode on loopback"
            f" only, but API_HOST={loaded.settings.api_host}: make a wallet with btcli, or remove API_HOST"
        )
    return Identity(Hotkey.ephemeral(), development=True)


def in_development(loaded: LoadedSettings) -> bool:
    """Tell whether the miner runs without wallet and chain; a wallet that is named but missing is no reason to."""
    mode = loaded.settings.development_mode
    if mode == "auto":
        return not any(map(loaded.explicit, _NAMING)) and not has_wallets(loaded.settings)
    return mode == "on"
