"""Who is at the other end of the connection."""

from typing import Final

from litestar.types import HTTPScope

from app.domain.source import Network, client_address, is_loopback

_FORWARDED_FOR: Final = b"x-forwarded-for"


class Callers:
    """Tells callers' addresses, believing X-Forwarded-For only from trusted proxies."""

    def __init__(self, trusted_proxies: tuple[Network, ...]) -> None:
        self._trusted = trusted_proxies

    def address(self, scope: HTTPScope) -> str:
        """The caller's IP address; empty when the server knows none."""
        client = scope["client"]
        peer = client[0] if client else ""
        if not self._trusted:
            return peer
        return client_address(peer, _forwarded_for(scope), self._trusted)

    def is_local(self, scope: HTTPScope) -> bool:
        """Whether a process of this machine asks, for itself.

        A proxy on this machine that isn't named as trusted asks for others, so its requests are not local.
        """
        if not self._trusted and _forwarded_for(scope) is not None:
            return False
        return is_loopback(self.address(scope))


def _forwarded_for(scope: HTTPScope) -> str | None:
    """The header's values, joined as if they had come in one line."""
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == _FORWARDED_FOR]
    return ",".join(values) if values else None
