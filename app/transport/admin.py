"""The admin listener's routes, on loopback only: metrics, health, validators, drain and resume (threat 20)."""

import hmac
from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from app.domain.admission import Admission
from app.domain.health_detail import HealthDetail
from app.domain.validator_report import ValidatorsReport
from app.errors import NotAllowed
from app.metrics import Metrics
from app.secret import Secret

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class DrainAnswer(msgspec.Struct, frozen=True):
    """Whether new challenges are refused, and how many are still to be answered."""

    draining: bool
    in_flight: int


class AdminRoutes:
    """Builds the admin listener's handlers."""

    def __init__(
        self,
        *,
        detail: Callable[[], HealthDetail],
        validators: Callable[[], ValidatorsReport],
        admission: Admission,
        metrics: Metrics,
        token: Secret[str],
    ) -> None:
        self._detail = detail
        self._validators = validators
        self._admission = admission
        self._metrics = metrics
        self._token = token

    def handlers(self) -> list[HTTPRouteHandler]:
        """All routes of the admin listener."""

        @get("/metrics", media_type=_METRICS_TYPE)
        async def metrics() -> Response[bytes]:
            return Response(self._metrics.text(), media_type=_METRICS_TYPE)

        @get("/health")
        async def health() -> Response[HealthDetail]:
            return Response(self._detail())

        @get("/validators")
        async def validators() -> Response[ValidatorsReport]:
            return Response(self._validators())

        return [metrics, health, validators, *self._switches()]

    def _switches(self) -> list[HTTPRouteHandler]:
        @post("/drain", status_code=200)
        async def drain(
            authorization: Annotated[str | None, Parameter(header="authorization", required=False)] = None,
        ) -> Response[DrainAnswer]:
            self._authorize(authorization)
            self._admission.drain()
            return self._state()

        @post("/resume", status_code=200)
        async def resume(
            authorization: Annotated[str | None, Parameter(header="authorization", required=False)] = None,
        ) -> Response[DrainAnswer]:
            self._authorize(authorization)
            self._admission.resume()
            return self._state()

        return [drain, resume]

    def _authorize(self, authorization: str | None) -> None:
        """A page in the operator's browser can reach loopback too, so what changes something needs the token."""
        wanted = f"Bearer {self._token.reveal()}"
        if not hmac.compare_digest((authorization or "").encode(), wanted.encode()):
            raise NotAllowed(
                "this needs `Authorization: Bearer` with the token in STATE_DIR/admin-token", reason="token"
            )

    def _state(self) -> Response[DrainAnswer]:
        return Response(DrainAnswer(self._admission.draining, self._admission.in_flight))
