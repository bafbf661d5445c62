"""Who is at the other end of the connection."""

from app.domain.source import Network, client_address, is_loopback
from app.transport.body import PlainRequest


class Callers:
    """Tells callers' addresses, believing X-Forwarded-For only from trusted proxies."""

    def __init__(self, trusted_proxies: tuple[Network, ...]) -> None:
        self._trusted = trusted_proxies

    def address(self, request: PlainRequest) -> str:
        """The caller's IP address; empty when the server knows none."""
        client = request.scope["client"]
        peer = client[0] if client else ""
        if not self._trusted:
            return peer
        return client_address(peer, request.headers.get("x-forwarded-for"), self._trusted)

    def is_local(self, request: PlainRequest) -> bool:
        """Whether a process of this machine asks, for itself.

        A proxy on this machine that isn't named as trusted asks for others, so its requests are not local.
        """
        if "x-forwarded-for" in request.headers and not self._trusted:
            return False
        return is_loopback(self.address(request))
