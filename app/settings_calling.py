"""Settings about who the miner is, where it listens, and who may call."""

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from app.secret import Secret
from app.settings_fields import About, Hotkey, Network

_MIB: Final = 1024 * 1024


class CallingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings about who the miner is, where it listens, and who may call."""

    # Identity and chain
    netuid: Annotated[int, About("Identity and chain", "The subnet the miner serves.", ge=0, le=65535)] = 78
    subtensor_network: Annotated[
        Literal["finney", "test", "local"], About("Identity and chain", "The chain's network.")
    ] = "finney"
    subtensor_address: Annotated[
        str | None,
        About(
            "Identity and chain",
            "Chain node to use instead of the network's own (ws:// or wss://).",
            unset="the network's",
        ),
    ] = None
    wallet_name: Annotated[str, About("Identity and chain", "The wallet: a directory below WALLET_PATH.")] = "miner"
    hotkey_name: Annotated[str, About("Identity and chain", "The hotkey: a file in the wallet's `hotkeys`.")] = "miner"
    wallet_path: Annotated[Path, About("Identity and chain", "Where the wallets lie.")] = Path("~/.bittensor/wallets")
    hotkey_file: Annotated[
        Path | None,
        About("Identity and chain", "The hotkey's file, given directly: WALLET_* and HOTKEY_NAME are not used then."),
    ] = None
    hotkey_password_file: Annotated[
        Path | None,
        About(
            "Identity and chain",
            "File with the password of an encrypted hotkey.",
            unset="$CREDENTIALS_DIRECTORY/hotkey-password, if there",
        ),
    ] = None
    allow_coldkey: Annotated[
        bool,
        About("Identity and chain", "Start although the wallet's coldkey can be read here. A miner never needs it."),
    ] = False
    external_address: Annotated[
        str | None,
        About(
            "Identity and chain",
            "Where validators find the miner, posted on chain: IP address or host name.",
            unset="this machine's public address, if it has one",
        ),
    ] = None
    external_port: Annotated[
        int | None,
        About("Identity and chain", "The port posted on chain.", ge=1, le=65535, unset="API_PORT"),
    ] = None
    development_mode: Annotated[
        Literal["auto", "on", "off"],
        About(
            "Identity and chain",
            "Ephemeral hotkey, no chain, loopback only. `auto`: only where no wallet is and no setting names one.",
        ),
    ] = "auto"

    # Listeners
    api_host: Annotated[
        str, About("Listeners", "Address the validators' listener binds to; 127.0.0.1 in development mode.")
    ] = "0.0.0.0"  # noqa: S104 - validators come from the internet; the admin listener is on loopback
    api_port: Annotated[int, About("Listeners", "Port of the validators' listener.", ge=1, le=65535)] = 8000
    admin_port: Annotated[
        int,
        About("Listeners", "Port of the admin listener (metrics, health, drain, /v1); loopback only.", ge=1, le=65535),
    ] = 8010
    api_key: Annotated[
        Secret[str] | None,
        About(
            "Listeners", "What OpenAI clients must send as their key to use /v1 on the admin listener.", unset="none"
        ),
    ] = None
    api_docs: Annotated[bool, About("Listeners", "Serve /docs, /redoc and /openapi.json on API_PORT.")] = True
    trusted_proxies: Annotated[
        tuple[Network, ...],
        About(
            "Listeners", "Proxies (addresses or CIDRs, comma between) whose X-Forwarded-For is believed.", unset="none"
        ),
    ] = ()
    body_timeout_seconds: Annotated[
        float, About("Listeners", "How long a request's body may take to arrive.", ge=1, le=60)
    ] = 10.0
    max_challenge_bytes: Annotated[
        int, About("Listeners", "The largest encrypted challenge accepted.", ge=16 * 1024, le=64 * _MIB)
    ] = 2 * _MIB
    drain_timeout_seconds: Annotated[
        float, About("Listeners", "How long a stop waits for answers in flight.", ge=0, le=600)
    ] = 60.0

    # Who may call
    enable_validator_whitelist: Annotated[
        bool,
        About(
            "Who may call",
            "Answer only allowed hotkeys: the metagraph's validators, the Challenge API's, and VALIDATOR_HOTKEYS.",
        ),
    ] = True
    validator_hotkeys: Annotated[
        tuple[Hotkey, ...],
        About("Who may call", "Hotkeys (ss58, comma between) that are always allowed.", unset="none"),
    ] = ()
    challenge_api_url: Annotated[str, About("Who may call", "Where the list of active validators is read.")] = (
        "https://challenge.loosh.ai"
    )
    challenge_api_key: Annotated[
        Secret[str] | None, About("Who may call", "Deprecated: the hotkey's signature is enough.")
    ] = None
    allow_plain_challenge_api: Annotated[
        bool, About("Who may call", "Take the list over plain HTTP from a public address; others could forge it.")
    ] = False
    min_validator_stake: Annotated[
        float, About("Who may call", "The least stake (TAO) of a validator in the metagraph.", ge=0, le=21_000_000)
    ] = 0.0
    allow_list_refresh_seconds: Annotated[
        float, About("Who may call", "How often the metagraph and the Challenge API are read.", ge=1, le=600)
    ] = 300.0
    strict_validator_address: Annotated[
        bool, About("Who may call", "Refuse handshakes from other addresses than the validator has published, if any.")
    ] = False
    firewall_allow: Annotated[
        tuple[Network, ...],
        About(
            "Who may call",
            "Addresses or CIDRs that `loosh-miner firewall` lets in besides validators and TRUSTED_PROXIES.",
            unset="none",
        ),
    ] = ()
    firewall_port: Annotated[
        int | None,
        About(
            "Who may call",
            "The port of this machine that `loosh-miner firewall` guards, where a container publishes API_PORT.",
            ge=1,
            le=65535,
            unset="API_PORT",
        ),
    ] = None
    enable_legacy_inference: Annotated[
        bool, About("Who may call", "Answer the plaintext POST /inference to callers other than loopback.")
    ] = False
