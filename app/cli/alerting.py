"""What `alert test` does."""

import asyncio

from app.clock import SystemClock
from app.domain.alerting import Alert
from app.errors import AlertError, SettingsError
from app.settings import LoadedSettings
from app.webhook import Webhook


def send_test(loaded: LoadedSettings) -> None:
    """Send one alert. Errors: `SettingsError`, `AlertError`."""
    settings, clock = loaded.settings, SystemClock()
    if settings.alert_webhook_url is None:
        raise SettingsError("ALERT_WEBHOOK_URL: is not set: give the address that alerts are posted to")
    webhook = Webhook(settings.alert_webhook_url, settings.alert_webhook_secret, clock)
    text = "a test of this miner's alerts: nothing is wrong"
    problem = asyncio.run(webhook.send(Alert("test", "test", text, "", clock.wall())))
    if problem is not None:
        raise AlertError(problem)
