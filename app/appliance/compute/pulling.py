"""Pulls what was chosen, from wherever its engine has it, and writes the lock when all of it is here."""

import sys
from pathlib import Path

from huggingface_hub.utils import disable_progress_bars

from app.appliance.compute.lock_file import check_writable, write_lock
from app.appliance.compute.pull import Pulled, pull_weights
from app.appliance.compute.pull_ollama import Tell, pull_ollama
from app.appliance.compute.selection import Selection
from app.appliance.compute.wishes import hub_cache, token
from app.settings import LoadedSettings
from app.settings_checks import engine_addresses


def pull_chosen(loaded: LoadedSettings, selection: Selection, lock: Path, tell: Tell) -> Pulled | None:
    """Pull the weights of the chosen profile; None where there are none to pull.

    Errors: `NothingFits`, `DownloadError`, `ComputeFileError`.
    """
    weights = selection.profile().weights
    if weights is None:
        return None
    check_writable(lock)
    settings = loaded.settings
    if weights.ollama_tag is not None:
        base = engine_addresses(settings.ollama_base_url)[0]
        pulled = pull_ollama(weights.ollama_tag, base, selection.lock.weights.get(weights.ollama_tag), tell)
    else:
        _bars()
        locked = selection.lock.weights.get(weights.repository or "")
        pulled = pull_weights(weights, hub_cache(settings), token(settings), locked)
    write_lock(lock, pulled.name, pulled.locked)
    return pulled


def _bars() -> None:
    """Let the hub's library show its own bars, where somebody watches."""
    if not sys.stderr.isatty():
        disable_progress_bars()
