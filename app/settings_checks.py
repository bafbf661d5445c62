"""Settings that can't work together: what, and what to do. Pure: no files, no network."""

import ipaddress
from collections.abc import Collection, Iterator
from urllib.parse import SplitResult, urlsplit

from app.settings_model import Settings

_EMBEDDED_MODEL = "SmolLM2-135M-Instruct"
_SSH_PORT = 22
_PRIVATE_NAMES = (".localhost", ".local", ".lan", ".internal", ".home.arpa")


def contradictions(settings: Settings, explicit: Collection[str]) -> tuple[str, ...]:
    """One line for each problem; `explicit` holds the names that the operator gave."""
    return (
        *_listeners(settings, explicit),
        *_identity(settings),
        *_engine(settings),
        *_answering(settings, explicit),
        *_callers(settings),
        *_alerts(settings),
    )


def doubts(settings: Settings, explicit: Collection[str]) -> tuple[str, ...]:
    """Name what works, but is probably not what the operator wants."""
    return tuple(_doubts(settings, explicit))


def _doubts(settings: Settings, explicit: Collection[str]) -> Iterator[str]:
    if settings.challenge_api_key is not None:
        yield "CHALLENGE_API_KEY is deprecated: the hotkey's signature is enough, remove it"
    if not settings.enable_validator_whitelist:
        yield "ENABLE_VALIDATOR_WHITELIST=false: any hotkey is answered"
    if settings.allow_plain_challenge_api:
        yield "ALLOW_PLAIN_CHALLENGE_API=true: anybody on the way to the Challenge API can forge the list of validators"
    if settings.alert_webhook_url is not None and settings.alert_webhook_secret is None:
        yield "ALERT_WEBHOOK_URL without ALERT_WEBHOOK_SECRET: who receives alerts can't tell them from forged ones"
    if not settings.enable_rate_limits:
        yield "ENABLE_RATE_LIMITS=false: one caller can take all of the miner's time"
    if settings.enable_legacy_inference:
        yield "ENABLE_LEGACY_INFERENCE=true: /inference takes prompts in plain text from other machines"
    if settings.llm_backend == "vllm" and settings.vllm_max_num_seqs < settings.max_concurrent_requests:
        yield (
            f"MAX_CONCURRENT_REQUESTS={settings.max_concurrent_requests} is more than"
            f" VLLM_MAX_NUM_SEQS={settings.vllm_max_num_seqs}: the rest waits inside vLLM"
        )
    named = settings.default_model not in {None, _EMBEDDED_MODEL}
    if named and settings.llm_backend == "llamacpp" and settings.model_path is None:
        yield (
            f"DEFAULT_MODEL={settings.default_model} is not served: LLM_BACKEND=llamacpp without MODEL_PATH serves the"
            f" embedded {_EMBEDDED_MODEL}; `loosh-miner models` lists what there is, `models pull` and"
            " `engine render --format miner` give the MODEL_PATH"
        )
    if settings.llm_backend != "llamacpp" and (unused := sorted(n for n in explicit if n.startswith("LLAMA_"))):
        yield f"{', '.join(unused)}: not used with LLM_BACKEND={settings.llm_backend}"


def _listeners(settings: Settings, explicit: Collection[str]) -> Iterator[str]:
    address = _address(settings.api_host)
    if address is None and settings.api_host != "localhost":
        yield f"API_HOST: {settings.api_host!r} is not an IP address: use 0.0.0.0, :: or an address of this machine"
    if settings.api_port == settings.admin_port:
        yield f"ADMIN_PORT: is {settings.admin_port}, the same as API_PORT: give one of them another port"
    if settings.development_mode == "on" and "API_HOST" in explicit and not is_loopback(settings.api_host):
        yield (
            f"DEVELOPMENT_MODE: is on, and API_HOST={settings.api_host} would let the network in:"
            " remove API_HOST or set it to 127.0.0.1"
        )
    for network in settings.trusted_proxies:
        if network.prefixlen == 0:
            yield f"TRUSTED_PROXIES: {network} is everyone, so any caller could claim any address: name your proxies"
    for network in settings.firewall_allow:
        if network.prefixlen == 0:
            yield f"FIREWALL_ALLOW: {network} is everyone: name who is meant, or do without `loosh-miner firewall`"
    if settings.firewall_port == _SSH_PORT:
        yield f"FIREWALL_PORT: {_SSH_PORT} is SSH's, you could lock yourself out: give the miner's port"


def _identity(settings: Settings) -> Iterator[str]:
    for name, value in (("WALLET_NAME", settings.wallet_name), ("HOTKEY_NAME", settings.hotkey_name)):
        if "/" in value or value in {".", ".."}:
            yield f"{name}: {value!r} is a path: give the bare name, and its directory in WALLET_PATH"
    if settings.development_mode == "on" and settings.hotkey_file is not None:
        yield "DEVELOPMENT_MODE: is on, so HOTKEY_FILE would not be used: remove one of the two"
    if settings.subtensor_address is not None and _url(settings.subtensor_address, {"ws", "wss"}) is None:
        yield "SUBTENSOR_ADDRESS: is not a node's address: use ws://host:port or wss://host:port"


def _engine(settings: Settings) -> Iterator[str]:
    if settings.llm_backend == "ollama" and settings.default_model is None:
        yield "DEFAULT_MODEL: is needed with LLM_BACKEND=ollama: name a model that `ollama list` shows"
    if settings.model_path is not None and settings.llm_backend != "llamacpp":
        yield (
            f"MODEL_PATH: is a file for LLM_BACKEND=llamacpp, but LLM_BACKEND is {settings.llm_backend}:"
            " change one, or remove MODEL_PATH"
        )
    key = None if settings.engine_api_key is None else settings.engine_api_key.reveal()
    if key is not None and not (key.isascii() and key.isprintable()):
        yield "ENGINE_API_KEY: holds characters that no HTTP header can carry: use letters, digits and signs of ASCII"
    for backend, name, text in (
        ("vllm", "VLLM_API_BASE", settings.vllm_api_base),
        ("ollama", "OLLAMA_BASE_URL", settings.ollama_base_url),
    ):
        addresses = engine_addresses(text)
        for address in addresses:
            yield from _engine_url(settings, name, address, used=backend == settings.llm_backend)
        if len(set(addresses)) < len(addresses):
            yield f"{name}: names the same engine twice: name each once"


def engine_addresses(text: str) -> tuple[str, ...]:
    """Take apart the value of VLLM_API_BASE or OLLAMA_BASE_URL; never empty."""
    return tuple(part.strip() for part in text.split(",") if part.strip()) or (text,)


def _engine_url(settings: Settings, name: str, text: str, *, used: bool) -> Iterator[str]:
    """Check an address's form always, and its safety when it is the one used (threats.md row 19)."""
    url = _url(text, {"http", "https"})
    if url is None or url.hostname is None:
        yield f"{name}: is not an engine's address: use http://host:port or https://host:port"
        return
    if url.username is not None or url.password is not None:
        yield f"{name}: has a user or password in it, which would end up in logs: remove them"
        return
    if url.query or url.fragment:
        yield f"{name}: has a ? or # part: use the bare address"
        return
    if not used:
        return
    port = url.port or (443 if url.scheme == "https" else 80)
    for other, taken in (("API_PORT", settings.api_port), ("ADMIN_PORT", settings.admin_port)):
        if port == taken and _is_here(url.hostname, settings.api_host):
            yield f"{other}: is {taken}, the engine's port in {name}: give one of them another port"
    if not settings.allow_public_engine and not _is_private(url.hostname):
        yield (
            f"{name}: {url.hostname} is not known to be a private address, and prompts would leave this network:"
            " use a private address, or set ALLOW_PUBLIC_ENGINE=true"
        )


def _answering(settings: Settings, explicit: Collection[str]) -> Iterator[str]:
    if settings.answer_soft_stop_seconds >= settings.answer_hard_cut_seconds:
        yield (
            f"ANSWER_SOFT_STOP_SECONDS: is {settings.answer_soft_stop_seconds:g}, not before"
            f" ANSWER_HARD_CUT_SECONDS={settings.answer_hard_cut_seconds:g}: leave a few seconds between them"
        )
    context_name, context = _context(settings)
    if "DEFAULT_MAX_TOKENS" in explicit and 0 < context <= settings.default_max_tokens:
        yield (
            f"DEFAULT_MAX_TOKENS: is {settings.default_max_tokens}, and {context_name}={context} tokens"
            " must hold prompt and answer: lower one or raise the other"
        )
    if settings.probe_timeout_seconds > settings.probe_interval_seconds:
        yield (
            f"PROBE_TIMEOUT_SECONDS: is {settings.probe_timeout_seconds:g}, longer than"
            f" PROBE_INTERVAL_SECONDS={settings.probe_interval_seconds:g}: lower it"
        )


def _context(settings: Settings) -> tuple[str, int]:
    """Name the setting that gives the engine's context, and its tokens; 0 where only the engine knows."""
    match settings.llm_backend:
        case "vllm":
            return "MAX_MODEL_LEN", settings.max_model_len
        case "llamacpp":
            return "LLAMA_CONTEXT", settings.llama_context
        case "ollama":
            return "", 0


def _callers(settings: Settings) -> Iterator[str]:
    url = _url(settings.challenge_api_url, {"http", "https"})
    if url is None or url.username is not None:
        yield "CHALLENGE_API_URL: is not an address: use https://host, without a user or password"
    elif url.query or url.fragment:
        yield "CHALLENGE_API_URL: has a ? or # part: use the bare address"
    elif url.scheme == "http" and not settings.allow_plain_challenge_api and not _is_private(url.hostname or ""):
        yield (
            "CHALLENGE_API_URL: is plain HTTP, and anybody on the way could forge the list of validators:"
            " use https://, or set ALLOW_PLAIN_CHALLENGE_API=true"
        )


def _alerts(settings: Settings) -> Iterator[str]:
    """Never show the address: it often holds a token."""
    if settings.alert_webhook_url is None:
        return
    url = _url(settings.alert_webhook_url.reveal(), {"http", "https"})
    if url is None:
        yield "ALERT_WEBHOOK_URL: is no web address: use https://host/path"
    elif url.scheme == "http" and not _is_private(url.hostname or ""):
        yield "ALERT_WEBHOOK_URL: is plain HTTP to a public address, others could read and forge alerts: use https://"


def _url(text: str, schemes: set[str]) -> SplitResult | None:
    try:
        url = urlsplit(text)
        fits = url.scheme in schemes and bool(url.hostname) and url.port != 0
    except ValueError:  # a bad port or a broken [address]
        return None
    return url if fits and not set(text) & set(" \t\\") and text.isprintable() else None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach the host."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _is_here(host: str, api_host: str) -> bool:
    """Whether the host is surely this machine."""
    address = _address(host)
    return is_loopback(host) or host == api_host or (address is not None and address.is_unspecified)


def _is_private(host: str) -> bool:
    """Names without a dot and of private zones count as private; any other name could lead anywhere."""
    address = _address(host)
    if address is None:
        name = host.rstrip(".").lower()
        return "." not in name or name.endswith(_PRIVATE_NAMES)
    return is_private_address(host)


def is_private_address(text: str) -> bool:
    """Tell whether an IP address leads nowhere but to this machine or a private network."""
    address = _address(text)
    if address is None:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return not (mapped or address).is_global and not address.is_multicast
