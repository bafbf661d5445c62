"""Settings about the wire and the process: sessions, rate limits, logs, state."""

from pathlib import Path
from typing import Annotated, Final, Literal

from app.secret import Secret
from app.settings_engine import EngineSettings
from app.settings_fields import About, RateLimit

_YEAR_SECONDS: Final = 365 * 24 * 3600
_NOT_READ: Final = "Kept for existing .env files; nothing reads it yet"


# A Struct has one base with fields, so the parts stand one upon the other.
class RunningSettings(EngineSettings, frozen=True, kw_only=True):
    """Settings about the wire and the process: sessions, rate limits, logs, state."""

    # Fiber
    fiber_key_ttl_seconds: Annotated[int, About("Fiber", "How long a session lives.", ge=60, le=_YEAR_SECONDS)] = 3600
    fiber_timestamp_window_seconds: Annotated[
        float, About("Fiber", "How far a validator's clock may be from ours at the handshake.", ge=1, le=600)
    ] = 60.0
    fiber_enable_key_rotation: Annotated[bool, About("Fiber", "Make a new RSA key every day.")] = True
    fiber_handshake_timeout_seconds: Annotated[
        float, About("Fiber", f"{_NOT_READ}: a handshake's body has BODY_TIMEOUT_SECONDS.", ge=1, le=600)
    ] = 30.0

    # Rate limits
    enable_rate_limits: Annotated[bool, About("Rate limits", "Limit requests a minute for each source.")] = True
    rate_limit_availability: Annotated[RateLimit, About("Rate limits", "GET /availability.")] = RateLimit(20, 6)
    rate_limit_public_key: Annotated[RateLimit, About("Rate limits", "GET /fiber/public-key.")] = RateLimit(20, 6)
    rate_limit_key_exchange: Annotated[RateLimit, About("Rate limits", "POST /fiber/key-exchange.")] = RateLimit(30, 10)
    rate_limit_challenge: Annotated[RateLimit, About("Rate limits", "POST /fiber/challenge.")] = RateLimit(120, 30)
    rate_limit_inference: Annotated[RateLimit, About("Rate limits", "POST /inference.")] = RateLimit(60, 15)
    rate_limit_other: Annotated[RateLimit, About("Rate limits", "Everything else.")] = RateLimit(60, 15)
    rate_limit_hotkey: Annotated[
        int, About("Rate limits", "Authenticated requests a minute for each hotkey.", ge=1, le=1_000_000)
    ] = 60

    rate_limit_strangers: Annotated[
        int, About("Rate limits", "Requests a minute and route of all unknown addresses together.", ge=1, le=1_000_000)
    ] = 6000

    # Alerts
    alert_webhook_url: Annotated[
        Secret[str] | None, About("Alerts", "Where alerts are posted, as JSON (http:// or https://).", unset="none")
    ] = None
    alert_webhook_secret: Annotated[
        Secret[str] | None, About("Alerts", "Signs each alert (HMAC-SHA256, X-Loosh-Signature).", unset="none")
    ] = None

    # Logs and state
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], About("Logs and state", "The least level logged.")
    ] = "INFO"
    log_format: Annotated[
        Literal["auto", "console", "json"], About("Logs and state", "`auto`: JSON for systemd's journal, else console.")
    ] = "auto"
    log_file: Annotated[
        Path | None, About("Logs and state", "Write the log here (mode 0600) instead of stderr.", unset="stderr")
    ] = None
    state_dir: Annotated[
        Path, About("Logs and state", "What the miner keeps on disk; $XDG_STATE_HOME/loosh-miner where that is set.")
    ] = Path("~/.local/state/loosh-miner")
