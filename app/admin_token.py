"""The token that POSTs on the admin listener need: made at every start, readable by the miner's own user only."""

import os
import secrets
from pathlib import Path

from app.errors import SettingsError
from app.secret import Secret

_FILE_NAME = "admin-token"
_BYTES = 32


def write_admin_token(state_dir: Path) -> Secret[str]:
    """A new token, also written to `admin-token` in the state directory (mode 0600, directory 0700).

    Errors: `SettingsError` when the directory can't be used.
    """
    token = secrets.token_urlsafe(_BYTES)
    path = state_dir / _FILE_NAME
    fresh = path.with_suffix(".new")
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token + "\n")
        fresh.replace(path)
    except OSError as error:
        raise SettingsError(
            f"STATE_DIR: {state_dir} can't be written ({error.strerror}): make it writable, with room on its disk, or"
            " choose another"
        ) from None
    return Secret(token)
