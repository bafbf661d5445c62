"""The miner's hotkey, out of a Bittensor wallet's file (protocol, section 6).

Every way in which the file can be of no use has its own text: which file, what is wrong, what to do.
No text ever holds anything of the file's content.
"""

import os
import stat
from pathlib import Path
from typing import Final, Protocol, cast

import bittensor_core  # pyright: ignore[reportMissingTypeStubs]
import msgspec

from app.errors import WalletError
from app.protocol.hotkeys import Hotkey
from app.secret import Secret
from app.settings_model import Settings


class _Keypair(Protocol):
    ss58_address: str

    def sign(self, message: bytes) -> bytes: ...


class _KeypairClass(Protocol):
    def create_from_mnemonic(self, mnemonic: str) -> _Keypair: ...
    def create_from_private_key(self, private_key: str) -> _Keypair: ...


class _Core(Protocol):
    """What is used of the library: it is compiled and brings no types."""

    Keypair: _KeypairClass
    KeyfileError: type[Exception]
    WrongPasswordError: type[Exception]

    def keyfile_data_is_encrypted(self, keyfile_data: bytes) -> bool: ...
    def decrypt_keyfile_data(self, keyfile_data: bytes, password: str) -> bytes: ...


_core: Final = cast("_Core", bittensor_core)
_MAX_BYTES: Final = 64 * 1024
_SR25519: Final = 1
_SHOWN_NAMES: Final = 10


class _KeyFile(msgspec.Struct, rename="camel"):
    """What we read of a hotkey's file; any one of the three secrets will do."""

    secret_seed: Secret[str] | None = None
    secret_phrase: Secret[str] | None = None
    private_key: Secret[str] | None = None
    ss58_address: str | None = None
    public_key: str | None = None
    crypto_type: int = _SR25519


def hotkey_path(settings: Settings) -> Path:
    """Name the file that the settings point at."""
    if settings.hotkey_file is not None:
        return settings.hotkey_file
    return settings.wallet_path / settings.wallet_name / "hotkeys" / settings.hotkey_name


def has_wallets(settings: Settings) -> bool:
    """Tell whether there is any wallet at all where wallets are kept; what can't be looked into counts as one."""
    try:
        return any(not entry.name.startswith(".") for entry in settings.wallet_path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def load_hotkey(settings: Settings, *, credentials: Path | None = None) -> Hotkey:
    """Read and unlock the hotkey; `credentials` is systemd's directory of credentials. Errors: `WalletError`.

    An encrypted file takes several seconds and half a gigabyte of memory to unlock: call it once, at the start.
    """
    file = hotkey_path(settings)
    if not _exists(file):
        raise WalletError(_missing(settings, file))
    if not settings.allow_coldkey:
        _refuse_coldkeys(settings, file)
    raw = _read_private(file, credentials)
    if _core.keyfile_data_is_encrypted(raw):
        raw = _decrypt(file, raw, _password(settings, file, credentials))
    return _hotkey(file, _decode(file, raw))


def hotkey_address(settings: Settings, *, credentials: Path | None = None) -> str | None:
    """Check the hotkey as `load_hotkey` does, at no cost: an encrypted one stays shut, and its address is not known.

    Errors: `WalletError`.
    """
    file = hotkey_path(settings)
    if _exists(file):
        raw = _read_private(file, credentials)
        if _core.keyfile_data_is_encrypted(raw):
            _password(settings, file, credentials)
            return None
    return load_hotkey(settings, credentials=credentials).ss58


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except OSError as error:
        raise WalletError(
            f"{file}: can't be reached ({error.strerror}): correct the modes of its directories"
        ) from None


def _missing(settings: Settings, file: Path) -> str:
    """Say what of the path is missing, and what is there instead."""
    if settings.hotkey_file is not None:
        return f"{file}: no such file: correct HOTKEY_FILE"
    make = f"make it with `btcli wallet new-hotkey --wallet {settings.wallet_name} --wallet-hotkey {file.name}`"
    if not settings.wallet_path.is_dir():
        return f"{settings.wallet_path}: no such directory: correct WALLET_PATH, or {make}"
    wallet = settings.wallet_path / settings.wallet_name
    if not wallet.is_dir():
        return f"{wallet}: no such wallet ({_there(settings.wallet_path)}): correct WALLET_NAME, or {make}"
    return f"{file}: no such hotkey ({_there(file.parent)}): correct HOTKEY_NAME, or {make}"


def _there(directory: Path) -> str:
    names = _names(directory)
    if not names:
        return "there are none"
    rest = len(names) - _SHOWN_NAMES
    return "there are: " + ", ".join(names[:_SHOWN_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _names(directory: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in directory.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []


def _refuse_coldkeys(settings: Settings, file: Path) -> None:
    """Refuse to run where a key that owns funds can be read, in this wallet or another (threats.md row 17)."""
    own = file.parent.parent if file.parent.name == "hotkeys" else file.parent
    for wallet in (own, *(settings.wallet_path / name for name in _names(settings.wallet_path))):
        coldkey = wallet / "coldkey"
        if os.access(coldkey, os.R_OK):
            raise WalletError(
                f"{coldkey}: a coldkey can be read here, and a miner never needs it: move it off this machine"
                " (coldkeypub.txt may stay), or set ALLOW_COLDKEY=true"
            )


def _read_private(file: Path, credentials: Path | None) -> bytes:
    """Read a file that nobody but its owner may read; systemd guards its credentials by other means than the mode."""
    try:
        with file.open("rb") as opened:
            status = os.fstat(opened.fileno())
            raw = opened.read(_MAX_BYTES + 1)
    except OSError as error:
        raise WalletError(f"{file}: can't be read ({error.strerror}): correct its owner and mode (chmod 600)") from None
    mode = stat.S_IMODE(status.st_mode)
    credential = credentials is not None and file.resolve().is_relative_to(credentials.resolve())
    if mode & 0o077 and not credential:
        raise WalletError(f"{file}: other users can read or change it (mode {mode:04o}): chmod 600 {file}")
    if len(raw) > _MAX_BYTES:
        raise WalletError(f"{file}: is larger than {_MAX_BYTES} bytes: it is no key file")
    return raw


def _password(settings: Settings, file: Path, credentials: Path | None) -> Secret[str]:
    source = settings.hotkey_password_file
    if source is None and credentials is not None and _exists(credentials / "hotkey-password"):
        source = credentials / "hotkey-password"
    if source is None:
        raise WalletError(
            f"{file}: is encrypted, and there is no password: put it into a file of mode 600 and name that in"
            " HOTKEY_PASSWORD_FILE (or give systemd the credential hotkey-password)"
        )
    if not _exists(source):
        raise WalletError(f"{source}: no such file: correct HOTKEY_PASSWORD_FILE")
    try:
        password = Secret(_read_private(source, credentials).decode().removesuffix("\n").removesuffix("\r"))
    except UnicodeDecodeError:
        raise WalletError(f"{source}: is not UTF-8 text: write the password alone into it") from None
    if not password:
        raise WalletError(f"{source}: is empty: write the password of {file} into it")
    return password


def _decrypt(file: Path, raw: bytes, password: Secret[str]) -> bytes:
    try:
        return _core.decrypt_keyfile_data(raw, password.reveal())
    except _core.WrongPasswordError:
        raise WalletError(f"{file}: the password does not open it: correct what is in the password's file") from None
    except _core.KeyfileError:
        raise WalletError(f"{file}: is encrypted in a way that can't be read, or damaged: restore it") from None


def _decode(file: Path, raw: bytes) -> _KeyFile:
    try:
        return msgspec.json.decode(raw, type=_KeyFile, dec_hook=_secret)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise WalletError(f"{file}: is no wallet's key file (JSON): restore it, or name the right one") from None


def _secret(_kind: type, value: object) -> Secret[str]:
    """Wrap a secret before anything can print it."""
    if not isinstance(value, str):
        raise TypeError("is no text")
    return Secret(value)


def _hotkey(file: Path, fields: _KeyFile) -> Hotkey:
    if fields.crypto_type != _SR25519:
        raise WalletError(f"{file}: is not an sr25519 key, the only kind that validators know: make a new hotkey")
    try:
        hotkey = _key(fields)
    except ValueError:
        raise WalletError(f"{file}: the secret in it is damaged: restore it from your backup") from None
    if hotkey is None:
        raise WalletError(
            f"{file}: holds only a public key, which can't sign: copy the hotkey's own file here (not ...pub.txt)"
        )
    if fields.ss58_address is not None and fields.ss58_address != hotkey.ss58:
        raise WalletError(
            f"{file}: says it is {fields.ss58_address[:48]!r}, but its secret is that of {hotkey.ss58}:"
            " restore it from your backup"
        )
    return hotkey


def _key(fields: _KeyFile) -> Hotkey | None:
    """Make the key of whichever secret is there. Errors: `ValueError` when it is damaged."""
    if fields.secret_seed:
        return Hotkey.from_seed(bytes.fromhex(fields.secret_seed.reveal().removeprefix("0x")))
    if fields.secret_phrase:
        return Hotkey(_core.Keypair.create_from_mnemonic(fields.secret_phrase.reveal()))
    if fields.private_key:
        return Hotkey(_core.Keypair.create_from_private_key(fields.private_key.reveal()))
    return None
