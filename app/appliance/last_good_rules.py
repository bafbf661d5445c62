"""The validators' addresses of the rules that were last loaded, kept in STATE_DIR for the next boot.

Addresses, not rules: whoever may write STATE_DIR (the miner's own user) must not be able to have root load a ruleset.
"""

import os
import secrets
from pathlib import Path
from typing import Final

import msgspec

from app.errors import FirewallError

_FILE_NAME: Final = "firewall.json"
_MOST_BYTES: Final = 4 * 1024 * 1024


class LastGood(msgspec.Struct, frozen=True, kw_only=True):
    """What was loaded. `ruleset` and `listing` are digests: of what was asked for, and of how the kernel lists it."""

    applied: float
    """Unix seconds."""
    addresses: tuple[str, ...]
    ruleset: str
    listing: str


class LastGoodFile:
    """One small file of mode 0600, always whole. Errors: `FirewallError`."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / _FILE_NAME

    def read(self) -> LastGood | None:
        """What was loaded last; None when nothing was, or when the file is damaged."""
        try:
            with os.fdopen(os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                return msgspec.json.decode(file.read(_MOST_BYTES), type=LastGood)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
        except OSError as error:
            raise FirewallError(f"{self.path} can't be read ({error.strerror}): run as the user who applied") from None

    def require_place(self) -> None:
        """Errors: `FirewallError` where nothing could be kept.

        The directory is not made here: root's would be closed to the miner.
        """
        if not self.path.parent.is_dir():
            raise FirewallError(f"STATE_DIR: {self.path.parent} does not exist: start the miner once, or correct it")

    def write(self, last_good: LastGood) -> None:
        """Replace the file in one step."""
        fresh = self.path.with_name(f"{_FILE_NAME}.{secrets.token_hex(8)}")
        try:
            try:
                descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(msgspec.json.encode(last_good))
                    file.flush()
                    os.fsync(file.fileno())
                fresh.replace(self.path)
            finally:
                fresh.unlink(missing_ok=True)
        except OSError as error:
            raise FirewallError(
                f"the rules are loaded, but could not be kept in {self.path} for the next boot ({error.strerror}):"
                " make STATE_DIR writable and apply again"
            ) from None

    def forget(self) -> bool:
        """Delete the file; whether there was one."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise FirewallError(f"{self.path} can't be deleted ({error.strerror}): delete it by hand") from None
        return True
