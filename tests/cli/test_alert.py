"""Alerts as they arrive at a real web server: signed, retried, from the command and from a running miner."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, override

import pytest

from tests.chain.registered import until
from tests.cli.command import run
from tests.conftest import StartMiner
from tests.miner.process import free_port

SECRET = "between-us"


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted; refuses the first `refuse`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Posts)
        self.taken: list[dict[str, Any]] = []
        self.refuse = 0
        self.forged = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook-with-a-token"


class _Posts(BaseHTTPRequestHandler):
    server: Receiver  # pyright: ignore[reportIncompatibleVariableOverride] - the only one it serves

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        signed = f"{self.headers['x-loosh-timestamp']}.".encode() + body
        wanted = "sha256=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        self.server.forged += self.headers["x-loosh-signature"] != wanted
        if self.server.refuse:
            self.server.refuse -= 1
            self.send_response(503)
        else:
            self.server.taken.append(json.loads(body))
            self.send_response(204)
        self.end_headers()

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_command_sends_a_signed_one(tmp_path: Path, receiver: Receiver) -> None:
    done = run(tmp_path, "alert", "test", ALERT_WEBHOOK_URL=receiver.url, ALERT_WEBHOOK_SECRET=SECRET)
    assert done.code == 0, done.err
    assert [(one["event"], one["name"]) for one in receiver.taken] == [("test", "test")]
    assert receiver.forged == 0
    receiver.refuse = 1
    refused = run(tmp_path, "alert", "test", ALERT_WEBHOOK_URL=receiver.url)
    assert refused.code == 1
    assert "status 503" in refused.err
    assert "hook-with-a-token" not in refused.err


def test_without_an_address_or_with_a_wrong_one(tmp_path: Path) -> None:
    assert "ALERT_WEBHOOK_URL" in run(tmp_path, "alert", "test").err
    for url in ("example", "ftp://x/y", "http://example.com/x"):
        done = run(tmp_path, "alert", "test", ALERT_WEBHOOK_URL=url)
        assert done.code == 2, url
        assert url not in done.err
    nobody = run(tmp_path, "alert", "test", ALERT_WEBHOOK_URL=f"http://127.0.0.1:{free_port()}/x")
    assert nobody.code == 1
    assert "can't be reached" in nobody.err


def test_a_miner_whose_engine_stays_away_says_so_in_spite_of_a_refusal(
    start_miner: StartMiner, receiver: Receiver
) -> None:
    receiver.refuse = 1
    miner = start_miner(
        wait=False,
        VLLM_API_BASE=f"http://127.0.0.1:{free_port()}/v1",
        ALERT_WEBHOOK_URL=receiver.url,
        ALERT_WEBHOOK_SECRET=SECRET,
    )
    until(lambda: "engine_down" in {one["name"] for one in receiver.taken}, 240)
    assert receiver.forged == 0
    (one,) = [one for one in receiver.taken if one["name"] == "engine_down"]
    assert one["event"] == "begun"
    assert one["hotkey"].startswith("5")
    assert "hook-with-a-token" not in miner.log.read_text()
    miner.stop()
