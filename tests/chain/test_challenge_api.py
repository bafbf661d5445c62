"""The Challenge API's client, against the API as a process of its own (protocol, section 5)."""

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from app.chain import challenge_api
from app.chain.challenge_api import ChallengeApi
from app.clock import SystemClock
from app.domain.source_list import ListedValidator
from app.errors import ChainError
from app.protocol.hotkeys import Hotkey
from app.secret import Secret
from tests.chain.api_process import ChallengeApiProcess
from tests.domain.hand_clock import HandClock

ALICE, BOB, CAROL = (Hotkey.ephemeral().ss58 for _ in range(3))
ME = Hotkey.ephemeral()


@pytest.fixture(scope="module")
def process() -> Iterator[ChallengeApiProcess]:
    with ChallengeApiProcess() as started:
        yield started


@pytest.fixture
def api(process: ChallengeApiProcess) -> ChallengeApiProcess:
    process.behave()
    return process


def client(api: ChallengeApiProcess, key: str | None = None) -> ChallengeApi:
    return ChallengeApi(api.url + "/", ME, None if key is None else Secret(key), SystemClock())


async def refused(source: ChallengeApi) -> ChainError:
    with pytest.raises(ChainError) as caught:
        await source.validators()
    assert caught.value.cause
    assert caught.value.remedy
    return caught.value


async def test_the_active_validators_and_their_addresses(api: ChallengeApiProcess) -> None:
    api.behave(
        {"hotkey_ss58": ALICE, "status": "active", "ip": "203.0.113.7", "more": {"of": ["it"]}},
        {"hotkey_ss58": BOB, "status": "active", "ip": None},
        CAROL,
    )
    found = await client(api).validators()
    assert found == (
        ListedValidator(hotkey=ALICE, addresses=("203.0.113.7",)),
        ListedValidator(hotkey=BOB),
        ListedValidator(hotkey=CAROL),
    )
    assert api.stats().refused == []


async def test_only_active_and_readable_entries_count(api: ChallengeApiProcess) -> None:
    api.behave(
        {"hotkey_ss58": ALICE, "status": "Active", "ip": "not an address"},
        {"hotkey_ss58": BOB, "status": "inactive"},
        {"hotkey_ss58": BOB, "status": "somethingnew"},
        {"hotkey_ss58": BOB, "status": None},
        {"hotkey_ss58": BOB, "status": ["active"]},
        {"hotkey_ss58": "5NotAnAddress", "status": "active"},
        {"hotkey_ss58": ALICE[:-1], "status": "active"},
        {"hotkey_ss58": None, "status": "active"},
        {"status": "active"},
        {"hotkey_ss58": CAROL, "ip": 3405803783},
        None,
        7,
        [],
        "",
        "5" * 10_000,
    )
    source = client(api)
    with capture_logs() as logs:
        found = await source.validators()
        await source.validators()
    assert found == (ListedValidator(hotkey=ALICE), ListedValidator(hotkey=CAROL))
    assert [(log["skipped"], log["read"]) for log in logs] == [(9, 2)], "told once"


async def test_several_entries_of_one_hotkey_are_one_validator(api: ChallengeApiProcess) -> None:
    """Active if one says so; an address of an entry that does not is none of its."""
    api.behave(
        {"hotkey_ss58": ALICE, "status": "active", "ip": "203.0.113.7"},
        {"hotkey_ss58": ALICE, "status": "inactive", "ip": "203.0.113.9"},
        {"hotkey_ss58": ALICE, "status": "active", "ip": "2001:db8::8"},
        {"hotkey_ss58": ALICE, "status": "active", "ip": "203.0.113.7"},
        ALICE,
    )
    assert await client(api).validators() == (ListedValidator(hotkey=ALICE, addresses=("203.0.113.7", "2001:db8::8")),)


async def test_an_empty_list_is_empty(api: ChallengeApiProcess) -> None:
    assert await client(api).validators() == ()


async def test_requests_are_signed_and_nothing_else_is_told(api: ChallengeApiProcess) -> None:
    api.behave(known=[ME.ss58])
    await client(api).validators()
    headers = api.stats().headers
    assert headers["x-hotkey"] == ME.ss58
    assert abs(int(headers["x-nonce"]) - time.time()) < 60
    assert "x-api-key" not in headers
    api.behave(api_key="canary-api-key-77aa")
    await client(api, "canary-api-key-77aa").validators()
    assert api.stats().headers["x-api-key"] == "canary-api-key-77aa"


async def test_a_wrong_clock_is_named_as_the_cause(api: ChallengeApiProcess) -> None:
    late = ChallengeApi(api.url, ME, None, HandClock(time.time() - 3600))
    error = await refused(late)
    assert error.code == "unauthorized"
    assert "clock" in error.remedy
    assert api.stats().refused == ["nonce"]


async def test_an_unknown_hotkey_is_told_to_register(api: ChallengeApiProcess) -> None:
    api.behave(known=[ALICE])
    error = await refused(client(api))
    assert error.code == "forbidden"
    assert "does not know this hotkey" in error.cause
    assert "register" in error.remedy


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "not_found"), (429, "rate"), (500, "server_fault"), (503, "server_fault"), (204, "status"), (418, "status")],
)
async def test_each_status_has_its_word(api: ChallengeApiProcess, status: int, code: str) -> None:
    api.behave(ALICE, status=status)
    assert (await refused(client(api))).code == code


async def test_redirects_are_not_followed(api: ChallengeApiProcess) -> None:
    with ChallengeApiProcess() as elsewhere:
        elsewhere.behave(ALICE)
        api.behave(redirect=f"{elsewhere.url}/validators/active-hotkeys")
        error = await refused(client(api))
        assert error.code == "redirect"
        assert elsewhere.stats().asked == 0


@pytest.mark.parametrize(
    "body",
    ["", "null", "{}", '{"validators": []}', "[1,", "not json", "[" * 100_000, '["\xff"]', '["\\ud800"]', "<html>"],
    ids=lambda body: repr(body[:16]),
)
async def test_rubbish_is_no_list(api: ChallengeApiProcess, body: str) -> None:
    api.behave(body=body)
    assert (await refused(client(api))).code == "bad_answer"


async def test_a_list_without_end_is_cut_off(api: ChallengeApiProcess) -> None:
    api.behave(huge=True)
    error = await refused(client(api))
    assert error.code == "bad_answer"
    assert "more than 1048576 bytes" in error.cause
    assert api.stats().sent_bytes < 32 * 1024 * 1024


async def test_too_many_entries_are_no_list(api: ChallengeApiProcess) -> None:
    api.behave(*["5"] * 5000)
    assert (await refused(client(api))).code == "bad_answer"


async def test_a_connection_that_breaks_is_named(api: ChallengeApiProcess) -> None:
    api.behave(*[ALICE] * 100, cut=True)
    assert (await refused(client(api))).code == "unreachable"


async def test_nobody_there(api: ChallengeApiProcess) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        error = await refused(ChallengeApi(gone, ME, None, SystemClock()))
    assert error.code == "unreachable"
    assert "CHALLENGE_API_URL" in error.remedy


async def test_plain_http_where_tls_is_spoken(api: ChallengeApiProcess) -> None:
    secure = ChallengeApi(api.url.replace("http://", "https://"), ME, None, SystemClock())
    assert (await refused(secure)).code in {"tls", "unreachable"}


async def test_an_api_that_never_answers(api: ChallengeApiProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenge_api, "_TOTAL_SECONDS", 0.5)
    api.behave(silent=True)
    async with asyncio.timeout(10):
        error = await refused(client(api))
    assert error.code == "timeout"
