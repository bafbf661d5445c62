"""What `challenge` does once its arguments are read."""

import asyncio
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from app.chain.wallet import load_hotkey
from app.cli.common import ENV_FILE
from app.protocol.hotkeys import Hotkey
from app.settings import LoadedSettings, load
from app.validator.client import ReceivedAnswer, ValidatorClient
from app.validator.runs import Summary, run_many


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """The command's arguments."""

    text: str
    url: str | None
    tools: list[dict[str, Any]] | None
    max_tokens: int
    temperature: float
    repeat: int
    concurrency: int
    timeout: float
    wallet_name: str | None
    hotkey: str | None
    env_file: Path | None


class Answered(msgspec.Struct, frozen=True):
    """One answer, ready to be shown."""

    url: str
    received: ReceivedAnswer
    exit_code: int = 0

    def as_object(self) -> object:
        """For `--json`: the answer's own fields, and how it came."""
        received = self.received
        return {
            "url": self.url,
            "miner_hotkey": received.miner_hotkey,
            "seconds": round(received.seconds, 4),
            "handshakes": received.handshakes,
            **msgspec.to_builtins(received.answer),
        }

    def as_lines(self) -> Iterator[str]:
        """For people: the text, then the figures."""
        answer, usage = self.received.answer, self.received.answer.usage
        if answer.response_text:
            yield printable(answer.response_text)
        for call in answer.tool_calls or ():
            yield printable(msgspec.json.encode(call).decode())
        tokens = f"{usage.prompt_tokens} tokens in, {usage.completion_tokens} out" if usage else "tokens not told"
        finish = printable(answer.finish_reason or "not told")
        yield f"\n{self.received.seconds:.2f} s · {tokens} · finish reason: {finish}"


class Ran(msgspec.Struct, frozen=True):
    """What came of `--repeat`, ready to be shown."""

    url: str
    summary: Summary

    @property
    def exit_code(self) -> int:
        """1 when any challenge went without its answer."""
        return 1 if self.summary.failed else 0

    def as_object(self) -> object:
        """For `--json`."""
        return {"url": self.url, **msgspec.to_builtins(self.summary)}

    def as_lines(self) -> Iterator[str]:
        """For people."""
        run = self.summary
        failed = ", ".join(f"{count} x {label}" for label, count in run.failed.items())
        yield f"answered  {run.ok} of {run.asked} in {run.wall_seconds:.2f} s"
        yield f"failed    {failed or 'none'}"
        if run.p50_seconds is not None:
            yield f"seconds   p50 {run.p50_seconds:.3f} · p95 {run.p95_seconds:.3f} · p99 {run.p99_seconds:.3f}"
        yield f"tokens    {run.completion_tokens} out, {run.tokens_per_second:.1f} a second"


Asked = Answered | Ran


def ask(question: Question) -> Asked:
    """Wait until the miner is ready, then ask. Errors: `NotAnswered`, `SettingsError`, `WalletError`."""
    with asyncio.Runner() as runner:
        return runner.run(_ask(question))


async def _ask(question: Question) -> Asked:
    loaded = _settings(question) if _needs_settings(question) else None
    url = question.url or _own_url(loaded)
    hotkey = load_hotkey(loaded.settings, credentials=loaded.credentials) if loaded and _named(question) else None
    async with ValidatorClient(url, hotkey or Hotkey.ephemeral(), question.timeout) as client:
        await client.wait_available(question.timeout, _tell)
        if question.repeat == 1:
            return Answered(url, await client.challenge(_payload(question)))
        await client.shake_hands()
        payload = _payload(question)
        return Ran(url, await run_many(client, payload, repeat=question.repeat, concurrency=question.concurrency))


def _named(question: Question) -> bool:
    return question.wallet_name is not None or question.hotkey is not None


def _needs_settings(question: Question) -> bool:
    return question.url is None or _named(question) or question.env_file is not None


def _settings(question: Question) -> LoadedSettings:
    env_file = question.env_file or (ENV_FILE if ENV_FILE.is_file() else None)
    named = {"WALLET_NAME": question.wallet_name, "HOTKEY_NAME": question.hotkey}
    return load({**os.environ, **{name: value for name, value in named.items() if value is not None}}, env_file)


def _own_url(loaded: LoadedSettings | None) -> str:
    return f"http://127.0.0.1:{loaded.settings.api_port}" if loaded else ""


def _tell(reason: str) -> None:
    sys.stderr.write(f"waiting for the miner: {printable(reason)}\n")
    sys.stderr.flush()


def _payload(question: Question) -> dict[str, Any]:
    """Build the plaintext of a challenge, with the fields a real validator sends."""
    payload: dict[str, Any] = {
        "messages": [{"role": "user", "content": question.text}],
        "max_tokens": question.max_tokens,
        "temperature": question.temperature,
        "top_p": 0.95,
        "correlation_id": str(uuid.uuid4()),
    }
    if question.tools is not None:
        payload |= {"tools": question.tools, "tool_choice": "auto"}
    return payload


def printable(text: str) -> str:
    """Show control characters as escapes, so that a model's text can't steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)
