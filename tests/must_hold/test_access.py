"""Who may call what (threats 9, 16, 18, 20, 23)."""

import json
import re
import statistics
import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.conftest import StartMiner
from tests.miner.http import Connection, Reply, once
from tests.miner.process import MinerProcess, StubEngine, fetch
from tests.miner.validator import CHALLENGE, KEY_EXCHANGE, PUBLIC_KEY, Hotkey, Session, Validator, challenge, seal_key
from tests.must_hold.conftest import NewValidator

JSON = {"Content-Type": "application/json"}
PUBLIC_ROUTES = {
    ("get", "/availability"),
    ("get", "/livez"),
    ("get", "/readyz"),
    ("get", "/fiber/public-key"),
    ("post", "/fiber/key-exchange"),
    ("post", "/fiber/challenge"),
    ("post", "/inference"),
}
ADMIN_PATHS = [
    *("/metrics", "/health", "/drain", "/resume", "/dashboard", "/admin", "/", "/config", "/status", "/logs", "/state"),
    *(
        "/v1",
        "/v1/models",
        "/v1/chat/completions",
        "/v1/completions",
        "/health/",
        "//metrics",
        "/metrics/",
        "/%6detrics",
    ),
    *(
        "/../metrics",
        "/docs/../metrics",
        "/.env",
        "/admin-token",
        "/static/../../admin-token",
        "/docs/..%2f..%2fadmin-token",
    ),
]


async def test_threat_9_the_public_routes_are_exactly_the_documented_ones(connection: Connection) -> None:
    schema = (await connection.request("GET", "/openapi.json")).json()
    found = {(method, path) for path, methods in schema["paths"].items() for method in methods}
    assert found == PUBLIC_ROUTES


async def test_threat_9_inference_is_for_this_machine_only(
    start_miner: StartMiner, engine: StubEngine, new_validator: NewValidator
) -> None:
    """A proxy on this machine speaks for callers elsewhere: they are strangers."""
    body = b'{"prompt": "for nothing?"}'
    headers = JSON | {"validator-hotkey": Hotkey().ss58}
    away = {"X-Forwarded-For": "203.0.113.9"}
    closed = start_miner(TRUSTED_PROXIES="127.0.0.1")
    async with await closed.connect() as connection:
        assert (await connection.request("POST", "/inference", body, headers)).status == 200
        assert (await connection.request("POST", "/inference", body, headers | away)).status == 403
        spoofed = headers | {"X-Forwarded-For": "127.0.0.1, 203.0.113.9"}
        assert (await connection.request("POST", "/inference", body, spoofed)).status == 403
    assert engine.stats().requests == 1
    opened = start_miner(TRUSTED_PROXIES="127.0.0.1", ENABLE_LEGACY_INFERENCE="true")
    async with await opened.connect() as connection:
        assert (await connection.request("POST", "/inference", body, headers | away)).status == 200


async def test_threat_9_a_forwarded_address_is_believed_from_proxies_only(
    start_miner: StartMiner, engine: StubEngine
) -> None:
    """Without TRUSTED_PROXIES the header says nothing: limits count the real address."""
    miner = start_miner(ENABLE_RATE_LIMITS="true")
    statuses: list[int] = []
    async with await miner.connect("127.9.0.1") as connection:
        for at in range(30):
            headers = {"X-Forwarded-For": f"203.0.113.{at}", "Forwarded": f"for=203.0.113.{at}"}
            statuses.append((await connection.request("GET", "/availability", None, headers)).status)
    assert 429 in statuses
    assert statuses.count(200) < 15


async def test_limits_name_when_to_come_back(start_miner: StartMiner) -> None:
    miner = start_miner(ENABLE_RATE_LIMITS="true")
    routes = {"/availability": 6, PUBLIC_KEY: 6, "/readyz": 15, "/docs": 15, "/no-such-path": 15}
    for at, (path, limit) in enumerate(routes.items()):
        async with await miner.connect(f"127.9.1.{at + 1}") as connection:
            replies = [await connection.request("GET", path) for _ in range(limit + 5)]
        refused = [reply for reply in replies if reply.status == 429]
        assert all(reply.status != 429 for reply in replies[:limit]), path
        assert len(refused) >= 3, f"{path} is not limited: {[reply.status for reply in replies]}"
        assert all(1 <= int(reply.headers["retry-after"]) <= 60 for reply in refused)


async def test_threat_16_an_empty_allow_list_serves_nobody(
    start_miner: StartMiner, engine: StubEngine, new_validator: NewValidator
) -> None:
    miner = start_miner(wait=False, DEVELOPMENT_MODE="on", ENABLE_VALIDATOR_WHITELIST="true", VALIDATOR_HOTKEYS="")
    for body in miner.polls(20):
        assert body["available"] is False
        if "allow-list" in body["reason"]:
            break
    else:
        pytest.fail("never says why")
    status, _, text = fetch(miner.port, "/readyz")
    assert status == 503
    assert b"VALIDATOR_HOTKEYS" in text
    for _ in range(50):
        stranger = await new_validator(miner)
        session = Session(stranger.hotkey)
        pem = await stranger.public_key()
        reply = await stranger.connection.request("POST", KEY_EXCHANGE, session.handshake(pem), JSON)
        assert reply.status == 403
        headers = JSON | {"validator-hotkey": stranger.hotkey.ss58}
        reply = await stranger.connection.request("POST", "/inference", b'{"prompt": "x"}', headers)
        assert reply.status in {403, 503}
    assert engine.stats().requests == 0


async def test_threat_16_only_listed_validators_are_served(
    start_miner: StartMiner, engine: StubEngine, new_validator: NewValidator
) -> None:
    listed, stranger = Hotkey(), Hotkey()
    miner = start_miner(ENABLE_VALIDATOR_WHITELIST="true", VALIDATOR_HOTKEYS=f"{listed.ss58},{Hotkey().ss58}")
    served = await new_validator(miner, hotkey=listed)
    assert (await served.ask("am I?"))["response_text"]
    other = await new_validator(miner, hotkey=stranger)
    pem = await other.public_key()
    reply = await other.connection.request("POST", KEY_EXCHANGE, Session(stranger).handshake(pem), JSON)
    assert reply.status == 403
    assert reply.detail
    forged = Session(stranger).handshake(pem, validator_hotkey_ss58=listed.ss58)
    assert (await other.connection.request("POST", KEY_EXCHANGE, forged, JSON)).status == 400
    assert served.session is not None
    for claimed in (stranger.ss58, listed.ss58):
        headers = served.session.headers | {"x-fiber-validator-hotkey-ss58": claimed}
        reply = await other.connection.request("POST", CHALLENGE, Session(stranger).seal(challenge("?")), headers)
        assert reply.status in {401, 403}
    for claimed, status in ((stranger.ss58, 403), ("", 403), (listed.ss58, 200)):
        reply = await other.connection.request(
            "POST", "/inference", b'{"prompt": "x"}', JSON | {"validator-hotkey": claimed}
        )
        assert reply.status == status, claimed
    assert engine.stats().requests == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_threat_20_admin_paths_are_not_there_from_outside(
    connection: Connection, miner: MinerProcess, method: str
) -> None:
    body = b"{}" if method == "POST" else None
    for path in ADMIN_PATHS:
        reply = await connection.request(method, path, body, {"Host": f"127.0.0.1:{miner.admin_port}"})
        assert reply.status in ({404} if method == "GET" else {404, 405}), (path, reply.status)
        assert b"loosh" not in reply.body.lower()
        assert b"# HELP" not in reply.body


def test_threat_20_the_admin_listener_is_on_loopback(miner: MinerProcess) -> None:
    assert miner.listening() == {("127.0.0.1", miner.port), ("127.0.0.1", miner.admin_port)}


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8010", "127.0.0.1.evil.example", "localhost.evil.example", ""]
)
async def test_threat_20_the_admin_listener_checks_the_host(miner: MinerProcess, host: str) -> None:
    """A web page in the operator's browser may reach loopback under a name of its own (DNS rebinding)."""
    for path in ("/metrics", "/health"):
        reply = await once(miner.admin_port, "GET", path, None, {"Host": host}, keep=miner.keep)
        assert 400 <= reply.status < 500
        assert b"# HELP" not in reply.body
    headers = {"Host": host, "Authorization": f"Bearer {miner.admin_token}"}
    assert 400 <= (await once(miner.admin_port, "POST", "/drain", b"", headers)).status < 500
    assert fetch(miner.port, "/availability")[2] == b'{"available":true}'


async def test_threat_20_the_admin_listener_answers_its_own_names(miner: MinerProcess) -> None:
    for host in (f"127.0.0.1:{miner.admin_port}", f"localhost:{miner.admin_port}", "localhost"):
        reply = await once(miner.admin_port, "GET", "/health", None, {"Host": host})
        assert reply.status == 200, host


async def test_threat_20_drain_needs_the_token(start_miner: StartMiner, new_validator: NewValidator) -> None:
    miner = start_miner()
    validator = await new_validator(miner)
    await validator.shake()
    token = miner.admin_token
    assert len(token) >= 32
    assert miner.admin_token_mode == 0o600

    async def drain(headers: Mapping[str, str]) -> Reply:
        return await once(miner.admin_port, "POST", "/drain", b"", headers, keep=miner.keep)

    wrong = ["", "Bearer", "Bearer ", f"Bearer {token[:-1]}", f"Bearer {token}x", f"Basic {token}", token, "Bearer é"]
    for value in wrong:
        assert (await drain({"Authorization": value})).status in {401, 403}, value
    assert (await drain({})).status in {401, 403}
    assert (await drain({"Cookie": f"token={token}"})).status in {401, 403}
    assert fetch(miner.port, "/availability")[2] == b'{"available":true}'

    assert (await drain({"Authorization": f"Bearer {token}"})).status == 200
    body = json.loads(fetch(miner.port, "/availability")[2])
    assert body["available"] is False
    assert "drain" in body["reason"]
    reply = await validator.send(challenge("too late"))
    assert reply.status == 503
    assert int(reply.headers["retry-after"]) >= 1


async def test_threat_20_get_never_changes_anything(miner: MinerProcess) -> None:
    headers = {"Authorization": f"Bearer {miner.admin_token}"}
    assert (await once(miner.admin_port, "GET", "/drain", None, headers)).status in {404, 405}
    assert fetch(miner.port, "/availability")[2] == b'{"available":true}'


class Handshakes:
    """Handshakes that fail for different reasons."""

    def __init__(self, pem: str) -> None:
        self.pem = pem
        self.hotkey = Hotkey()

    def good_signature(self, **changed: object) -> bytes:
        return Session(self.hotkey).handshake(self.pem, **changed)

    def all(self) -> dict[str, bytes]:
        """One of each."""
        sealed = {"encrypted_symmetric_key": seal_key(self.pem, b"not a Fernet key")}
        return {
            "a signature of nobody": self.good_signature(signature="0x" + "5a" * 64),
            "a signature of another hotkey": self.good_signature(signature=Hotkey().sign("something else")),
            "another hotkey's name": self.good_signature().replace(self.hotkey.ss58.encode(), Hotkey().ss58.encode()),
            "too old": self.good_signature(timestamp=time.time() - 3600),
            "too new": self.good_signature(timestamp=time.time() + 3600),
            "not encrypted": self.good_signature(encrypted_symmetric_key="ab" * 256),
            "not below the modulus": self.good_signature(encrypted_symmetric_key="ff" * 256),
            "encrypted, but no key": self.good_signature(**sealed),
            "an empty key": self.good_signature(encrypted_symmetric_key=seal_key(self.pem, b"")),
            "a key of 44 other bytes": self.good_signature(encrypted_symmetric_key=seal_key(self.pem, b"!" * 44)),
        }


async def test_threat_23_one_text_for_every_refused_handshake(connection: Connection) -> None:
    pem = str((await connection.request("GET", PUBLIC_KEY)).json()["public_key"])
    makers = Handshakes(pem)
    seen: dict[tuple[int, bytes], list[str]] = {}
    for name, body in makers.all().items():
        reply = await connection.request("POST", KEY_EXCHANGE, body, JSON)
        seen.setdefault((reply.status, reply.body), []).append(name)
    once_more = makers.good_signature(nonce="the-same", timestamp=time.time())
    assert (await connection.request("POST", KEY_EXCHANGE, once_more, JSON)).status == 200
    reply = await connection.request("POST", KEY_EXCHANGE, once_more, JSON)
    seen.setdefault((reply.status, reply.body), []).append("replayed")
    assert len(seen) == 1, seen
    assert {status for status, _ in seen} == {400}


async def test_threat_23_a_failed_decryption_costs_the_same(connection: Connection) -> None:
    """Bad padding and a good padding around rubbish can't be told apart by time (rough: a shared machine)."""
    pem = str((await connection.request("GET", PUBLIC_KEY)).json()["public_key"])
    makers = Handshakes(pem)
    rubbish = seal_key(pem, b"!" * 44)
    seconds: dict[str, list[float]] = {"padding": [], "content": []}
    for at in range(400):
        kind = "padding" if at % 2 else "content"
        sealed = "7b" * 256 if kind == "padding" else rubbish
        body = makers.good_signature(encrypted_symmetric_key=sealed)
        reply = await connection.request("POST", KEY_EXCHANGE, body, JSON)
        assert reply.status == 400
        seconds[kind].append(reply.seconds)
    medians = {kind: statistics.median(values) * 1e6 for kind, values in seconds.items()}
    print(f"\nOAEP: {medians} microseconds")  # noqa: T201
    assert abs(medians["padding"] - medians["content"]) < 0.1 * max(medians.values())


async def test_every_route_has_one_error_shape(connection: Connection) -> None:
    bad: list[tuple[str, str, bytes | None]] = [
        ("GET", "/nothing-here", None),
        ("POST", "/availability", b""),
        ("DELETE", CHALLENGE, None),
        ("PUT", KEY_EXCHANGE, b"{}"),
        ("GET", CHALLENGE, None),
        ("GET", "/inference", None),
        ("POST", KEY_EXCHANGE, b"{}"),
        ("POST", CHALLENGE, b""),
        ("PATCH", "/docs", b""),
        ("GET", "/docs/%00", None),
        ("GET", "/" + "a" * 5000, None),
        ("GET", "/availability?" + "a=1&" * 500, None),
    ]
    for method, path, body in bad:
        reply = await connection.request(method, path, body)
        if reply.status == 200:
            continue
        assert 400 <= reply.status < 500, (method, path[:40])
        assert reply.headers["content-type"].startswith("application/json")
        assert reply.detail


async def test_pages_need_nothing_from_elsewhere(connection: Connection) -> None:
    for path in ("/docs", "/redoc", "/openapi.json"):
        reply = await connection.request("GET", path)
        assert reply.status == 200
        linked: set[Any] = set(re.findall(rb"(?:src|href|url)\s*[=:]\s*[\"']?(https?:)?//", reply.body))
        assert not linked, path
    page = (await connection.request("GET", "/docs")).body
    for asset in re.findall(rb"(?:src|href)=[\"'](?!data:)([^\"']+)[\"']", page):
        reply = await connection.request("GET", asset.decode())
        assert reply.status == 200, asset


async def test_every_401_tells_how_to_mend_it(miner: MinerProcess, validator: Validator) -> None:
    session = validator.session
    assert session is not None
    pem = await validator.public_key()
    stranger = Session(Hotkey())
    wrong = [
        (stranger.seal(challenge("?")), stranger.headers),
        (stranger.seal(challenge("?")), session.headers),
        (b"", session.headers),
        (b"gAAAAA==", session.headers),
        (session.seal(challenge("?"))[:-7], session.headers),
    ]
    for token, headers in wrong:
        reply = await validator.connection.request("POST", CHALLENGE, token, headers)
        assert reply.status == 401
        body = reply.json()
        assert body["requires_handshake"] is True
        assert body["public_key"] == pem
        assert body["detail"]
        assert reply.headers["content-type"].startswith("application/json")
