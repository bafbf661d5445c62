"""The two Litestar apps: the wire for validators, and the operator's own."""

from typing import Final

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp

from app.errors import NotAllowed
from app.transport.api_docs import ApiPages
from app.transport.body import PlainRequest
from app.transport.direct import DirectRoutes
from app.transport.failures import Failures
from app.transport.public import PublicRoutes

_LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})


def public_app(routes: PublicRoutes, failures: Failures, *, api_docs: bool) -> ASGIApp:
    """What validators reach, behind a `SourceGate`; `api_docs` adds /docs, /redoc and /openapi.json."""
    pages = ApiPages(routes.handlers).handlers() if api_docs else []
    framework = Litestar(
        [*routes.handlers(), *pages], openapi_config=None, exception_handlers={**failures}, logging_config=None
    )
    return DirectRoutes(framework, routes.busiest(), failures)


def admin_app(handlers: list[HTTPRouteHandler], failures: Failures) -> Litestar:
    """What the operator reaches on loopback."""
    return Litestar(
        handlers,
        openapi_config=None,
        exception_handlers={**failures},
        logging_config=None,
        before_request=_only_for_loopback_names,
    )


def _only_for_loopback_names(request: PlainRequest) -> None:
    """Refuse other Host names: a web page can lead the operator's browser here under a name of its own (threat 20)."""
    host = request.headers.get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if name.lower() not in _LOOPBACK_NAMES:
        raise NotAllowed("the admin listener answers to 127.0.0.1 and localhost only", reason="host")
