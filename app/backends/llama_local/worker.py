"""The engine's thread, from loading to freeing."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from app.backends.llama_local.model_file import find_model
from app.backends.llama_local.options import LlamaLocalSettings, Tuning
from app.backends.llama_local.threads import physical_cores
from app.errors import MinerError

if TYPE_CHECKING:
    from app.backends.llama_local.engine import Engine
    from app.backends.llama_local.prompt import PromptWriter

_log = structlog.get_logger(__name__)
_NOT_INSTALLED: Final = "llama.cpp is not installed: install the miner with its extra 'embedded'"


class Loaded:
    """What the thread hands out once the model is there."""

    def __init__(self, engine: "Engine", writer: "PromptWriter") -> None:
        self.engine: Final = engine
        self.writer: Final = writer


class Worker:
    """One engine in one thread."""

    def __init__(self, settings: LlamaLocalSettings, tuning: Tuning) -> None:
        self._settings = settings
        self._tuning = tuning
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, name="llama-engine", daemon=True)
        self.loaded: Loaded | None = None
        self.share = 0.0
        """Of the model that is in memory by now."""
        self.failure = ""
        """Why there is no engine and what to do; empty while there is hope."""

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the thread to end, wherever it is; `join` waits for it."""
        self._stop.set()
        if self.loaded is not None:
            self.loaded.engine.stop()

    def join(self) -> None:
        """Wait until everything is freed."""
        self._thread.join()

    def _live(self) -> None:
        engine: Engine | None = None
        while not self._stop.is_set() and not self.failure:
            try:
                if engine is None:
                    engine = self._load()
                engine.run()
            except Exception as error:  # noqa: BLE001 - the thread's edge: an error that got out would be lost
                if engine is None:
                    self._fail(error)
                else:
                    engine.recover(error)
        if engine is not None:
            engine.free()

    def _load(self) -> "Engine":
        shipped = find_model(self._settings.model_path)
        # Imported here: numpy and llama_cpp take a second or two, which the listener must not wait for.
        from app.backends.llama_local.engine import Engine  # noqa: PLC0415
        from app.backends.llama_local.prompt import PromptWriter  # noqa: PLC0415

        path = self._fastest(shipped)
        engine = Engine(path, self._settings, self._tuning, go_on=self._note)
        self.loaded = Loaded(engine, PromptWriter(engine.model, engine.context_tokens))
        _log.info("model loaded", file=path.name, context_tokens=engine.context_tokens)
        if self._stop.is_set():
            engine.stop()
        return engine

    def _fastest(self, shipped: Path) -> Path:
        """The file to load: the operator's own, or the embedded model in this processor's fastest form."""
        settings = self._settings
        if settings.rewrite_folder is None or settings.model_path is not None:
            return shipped
        # Imported here for the same reason.
        from app.backends.llama_local.rewrite import fastest_form, rewritten  # noqa: PLC0415

        form = fastest_form(settings.gpu_layers)
        if form is None:
            return shipped
        return rewritten(shipped, settings.rewrite_folder, form, settings.threads or physical_cores())

    def _note(self, share: float) -> bool:
        self.share = share
        return not self._stop.is_set()

    def _fail(self, error: Exception) -> None:
        self.failure = _NOT_INSTALLED if isinstance(error, ImportError) else str(error) or repr(error)
        if isinstance(error, MinerError | ImportError):
            _log.error("model not loaded", reason=self.failure)
        else:
            _log.error("model not loaded", reason=self.failure, exc_info=error)
