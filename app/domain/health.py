"""Whether the miner can answer now, and if not, why (design decision 11)."""

from typing import Final, Protocol

import msgspec

from app.domain.admission import Admission
from app.domain.backend import Backend
from app.domain.probing import Probing

_TOLD_TO_STRANGERS: Final = {
    "draining": "the miner is draining before it stops",
    "loading": "the model is loading",
    "backend": "the engine is not ready",
}


class Readiness(msgspec.Struct, frozen=True):
    """`cause` is a fixed word, `reason` a sentence for the operator; both are empty when ready."""

    ready: bool
    cause: str = ""
    reason: str = ""

    def told_to_strangers(self) -> str:
        """The reason without addresses, paths or an engine's words; empty when ready."""
        return _TOLD_TO_STRANGERS.get(self.cause, self.reason)


class AccessReadiness(Protocol):
    """Knows whether there is anyone the miner may serve."""

    def problem(self) -> str | None:
        """Why nobody can be served, with the remedy; None when somebody can."""
        ...


class Health:
    """Puts together what the parts know about themselves."""

    def __init__(self, backend: Backend, probing: Probing, admission: Admission, access: AccessReadiness) -> None:
        self._backend = backend
        self._probing = probing
        self._admission = admission
        self._access = access

    def readiness(self) -> Readiness:
        """Ready for validators, or the first thing that stands in the way."""
        engine = self.engine_readiness()
        problem = self._access.problem() if engine.ready else None
        return engine if problem is None else Readiness(ready=False, cause="allow_list", reason=problem)

    def engine_readiness(self) -> Readiness:
        """Ready for those who need no allow-list: the operator."""
        if self._admission.draining:
            return Readiness(ready=False, cause="draining", reason="the miner is draining before it stops")
        status = self._backend.status()
        if not status.ready:
            return Readiness(ready=False, cause="loading" if status.loading else "backend", reason=status.reason)
        problem = self._probing.problem()
        if problem is not None:
            return Readiness(ready=False, cause="backend", reason=problem)
        return Readiness(ready=True)

    def backend_failed(self) -> None:
        """A request saw the engine fail: look again now rather than at the next interval."""
        self._probing.look_now()

    def backend_worked(self, now: float) -> None:
        """A request saw the engine write; `now` is in monotonic seconds."""
        self._probing.seen_working(now)

    def engine_up(self) -> bool:
        """Whether the engine is ready and its last probe was good."""
        return self._backend.status().ready and self._probing.problem() is None
