"""The address to post: given, resolved, or found on this machine's interfaces."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from app.chain import own_endpoint
from app.chain.own_endpoint import Endpoint
from app.domain.metagraph import Axon
from app.errors import ChainError
from app.settings import Settings

ROOT: Final = Path(__file__).resolve().parents[2]


def find(
    address: str | None = None,
    port: int | None = None,
    *,
    posted: Axon | None = None,
    allow_local: bool = False,
    settings: Settings | None = None,
) -> Axon:
    return asyncio.run(
        Endpoint(settings or Settings(), address=address, port=port, allow_local=allow_local).find(posted)
    )


def refusal(address: str, *, allow_local: bool = False) -> ChainError:
    with pytest.raises(ChainError) as caught:
        find(address, allow_local=allow_local)
    return caught.value


def test_what_is_given_wins_over_the_settings() -> None:
    settings = Settings(external_address="8.8.4.4", external_port=9000, api_port=7000)
    assert find(settings=settings) == Axon("8.8.4.4", 9000)
    assert find("1.0.0.1", 1, settings=settings) == Axon("1.0.0.1", 1)
    assert find(settings=Settings(external_address="8.8.4.4", api_port=7000)) == Axon("8.8.4.4", 7000)


def test_addresses_are_posted_in_their_short_form() -> None:
    assert find("2606:4700:0000::0:1111").ip == "2606:4700::1111"
    assert find("[2606:4700::1111]").ip == "2606:4700::1111"


@pytest.mark.parametrize("address", ["10.0.0.1", "100.64.0.9", "::1", "203.0.113.7", "fd00::1"])
def test_local_addresses_need_the_flag(address: str) -> None:
    error = refusal(address)
    assert error.code == "not_public"
    assert "--allow-private" in error.remedy
    assert find(address, allow_local=True).ip == address


@pytest.mark.parametrize("address", ["0.0.0.1", "224.0.0.1", "::ffff:8.8.4.4", "::8.8.4.4", "255.255.255.255"])
def test_some_addresses_never_will_do(address: str) -> None:
    for allow_local in (False, True):
        error = refusal(address, allow_local=allow_local)
        assert error.code == "not_public"
        assert "--allow-private" not in error.remedy


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "8.8.4.4:8000",
        "http://8.8.4.4",
        "8.8.4",
        "0x8.8.4.4",
        "134743044",
        "010.8.4.4",
        "a b",
        "a..b",
        "-a.b",
        "ä\x1b",
    ],
)
def test_what_is_neither_address_nor_name(text: str) -> None:
    error = refusal(text)
    assert error.code == "bad_address"
    assert "\x1b" not in str(error)


class _Names:
    """Stands in for the machine's resolver, which tests have no zone for."""

    def __init__(self, **names: list[str]) -> None:
        self._names = names

    def __call__(self, name: str) -> list[Any]:
        if name not in self._names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in self._names[name]]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    known = _Names(
        v4=["8.8.4.4"],
        v6=["2606:4700::1111"],
        both=["2606:4700::1111", "8.8.4.4", "1.0.0.1"],
        inside=["10.0.0.1", "fd00::1"],
        mixed=["10.0.0.1", "1.0.0.1"],
    )

    async def getaddrinfo(_loop: object, name: str, *_: object, **__: object) -> list[Any]:
        return known(name)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


@pytest.mark.usefixtures("names")
def test_a_name_leads_to_ipv4_or_ipv6() -> None:
    assert find("v4").ip == "8.8.4.4"
    assert find("v6").ip == "2606:4700::1111"
    assert find("both").ip == "8.8.4.4"
    assert find("mixed").ip == "1.0.0.1"


@pytest.mark.usefixtures("names")
def test_a_names_posted_address_stays() -> None:
    for ip in ("1.0.0.1", "2606:4700::1111"):
        assert find("both", posted=Axon(ip, 1)).ip == ip
    assert find("both", posted=Axon("9.9.9.9", 1)).ip == "8.8.4.4"


@pytest.mark.usefixtures("names")
def test_a_name_that_leads_inside_only() -> None:
    error = refusal("inside")
    assert error.code == "not_public"
    assert "10.0.0.1 is private" in error.cause
    assert find("inside", allow_local=True).ip == "10.0.0.1"


def test_a_name_that_leads_nowhere() -> None:
    error = refusal("miner.invalid")
    assert error.code == "dns"
    assert "miner.invalid" in error.cause


def test_this_machines_name_for_itself_is_refused() -> None:
    assert refusal("localhost").code == "not_public"


def test_this_machines_interfaces_are_seen() -> None:
    assert "127.0.0.1" in {str(address) for address in own_endpoint.own_addresses()}


NAMESPACE: Final = """
ip link set lo up
ip link add wan type veth peer name far && ip link set wan up && ip link set far up
{commands}
exec {python} -c '
import asyncio
from app.chain.own_endpoint import Endpoint
from app.settings import Settings
print(asyncio.run(Endpoint(Settings(), address=None, port=None, allow_local=False).find(None)).shown)'
"""
TWO: Final = "ip addr add 8.8.4.4/24 dev wan; ip addr add 1.0.0.1/24 dev far"


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"),
    reason="interfaces of its own need root, unshare and iproute2",
)
@pytest.mark.parametrize(
    ("commands", "says"),
    [
        ("ip addr add 8.8.4.4/24 dev wan", "8.8.4.4:8000"),
        ("ip addr add 10.0.0.9/24 dev wan; ip addr add 2606:4700::9/64 dev wan nodad", "[2606:4700::9]:8000"),
        ("ip addr add 8.8.4.4/24 dev wan; ip addr add 2606:4700::9/64 dev wan nodad", "8.8.4.4:8000"),
        (f"{TWO}; ip route add default via 1.0.0.254", "1.0.0.1:8000"),
        (TWO, "several public addresses"),
        ("ip addr add 192.168.1.2/24 dev wan", "has no public address of its own"),
    ],
)
def test_the_machines_own_public_address(commands: str, says: str) -> None:
    script = NAMESPACE.format(commands=commands, python=sys.executable)
    done = subprocess.run(
        ["unshare", "--net", "bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert says in done.stdout + done.stderr
