"""Posts alerts to ALERT_WEBHOOK_URL: JSON, signed where there is a secret. The URL is a secret too and never shown."""

import hashlib
import hmac
from typing import Final

import aiohttp
import msgspec

from app.clock import Clock
from app.domain.alerting import Alert
from app.secret import Secret

TIME_HEADER: Final = "X-Loosh-Timestamp"
SIGNATURE_HEADER: Final = "X-Loosh-Signature"
_SECONDS: Final = 10.0
_TAKEN: Final = range(200, 300)


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over `<timestamp>.<body>`, as `sha256=<hex>`."""
    return "sha256=" + hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


class Webhook:
    """One address; a connection for each alert, because there are few."""

    def __init__(self, url: Secret[str], secret: Secret[str] | None, clock: Clock) -> None:
        self._url = url
        self._secret = secret
        self._clock = clock

    async def send(self, alert: Alert) -> str | None:
        """Post it once; None when it was taken, else why not, without the address."""
        body, timestamp = msgspec.json.encode(alert), str(int(self._clock.wall()))
        headers = {"Content-Type": "application/json", "User-Agent": "loosh-miner", TIME_HEADER: timestamp}
        if self._secret is not None:
            headers[SIGNATURE_HEADER] = sign(self._secret.reveal(), timestamp, body)
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS)) as session,
                session.post(self._url.reveal(), data=body, headers=headers, allow_redirects=False) as response,
            ):
                status = response.status
        except TimeoutError:
            return f"ALERT_WEBHOOK_URL does not answer within {_SECONDS:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return f"ALERT_WEBHOOK_URL can't be reached ({type(error).__name__}): check it, and this machine's network"
        return None if status in _TAKEN else f"ALERT_WEBHOOK_URL answers with status {status}: check it"
