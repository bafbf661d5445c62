"""Has Ollama pull a model through its own API, and notes the digest."""

import asyncio
from collections.abc import Callable
from typing import Final

import aiohttp
import msgspec

from app.appliance.compute.lock_file import LockedWeights
from app.appliance.compute.pull import Pulled
from app.errors import DownloadError

_CONNECT_SECONDS: Final = 5.0
_QUIET_SECONDS: Final = 300.0
"""Between two lines of progress: checking tens of gigabytes says nothing for a while."""
_OK: Final = 200

type Tell = Callable[[str, int, int], None]
"""What is done, bytes done, bytes in all."""


class _Line(msgspec.Struct):
    """A line of `/api/pull`."""

    status: str = ""
    digest: str = ""
    total: int = 0
    completed: int = 0
    error: str = ""


class _Model(msgspec.Struct):
    """An entry of `/api/tags`."""

    name: str
    digest: str = ""
    size: int = 0


class _Models(msgspec.Struct):
    models: list[_Model]


def pull_ollama(tag: str, base: str, locked: LockedWeights | None, tell: Tell) -> Pulled:
    """Pull a tag and compare its digest with the lock's. Errors: `DownloadError`."""
    try:
        return asyncio.run(_pull(tag, base.rstrip("/"), locked, tell))
    except (aiohttp.ClientConnectorError, ConnectionError):
        raise DownloadError(f"Ollama at {base} can't be reached: start it, or correct OLLAMA_BASE_URL") from None
    except (aiohttp.ClientError, TimeoutError) as error:
        reason = str(error) or "it went quiet"
        raise DownloadError(f"Ollama broke off pulling {tag} ({reason}): pull again, it goes on") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise DownloadError(f"what answers at {base} is not Ollama: correct OLLAMA_BASE_URL") from None


async def _pull(tag: str, base: str, locked: LockedWeights | None, tell: Tell) -> Pulled:
    limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_QUIET_SECONDS)
    decoder = msgspec.json.Decoder(_Line)
    async with aiohttp.ClientSession(timeout=limits) as http:
        done = False
        async with http.post(f"{base}/api/pull", json={"model": tag, "stream": True}) as answer:
            async for raw in answer.content:
                if not raw.strip():
                    continue
                line = decoder.decode(raw)
                if line.error:
                    raise DownloadError(f"Ollama can't pull {tag}: {line.error}")
                tell(line.status, line.completed, line.total)
                done = line.status == "success"
            if answer.status != _OK or not done:
                raise DownloadError(f"Ollama broke off pulling {tag} (status {answer.status}): pull again, it goes on")
        async with http.get(f"{base}/api/tags") as answer:
            models = msgspec.json.decode(await answer.read(), type=_Models).models
    found = next((model for model in models if model.name == tag), None)
    if found is None:
        raise DownloadError(f"Ollama says it pulled {tag} and does not list it: see its log")
    revision = f"sha256:{found.digest.removeprefix('sha256:')}"
    if locked is not None and locked.revision != revision:
        raise DownloadError(
            f"{tag} is now {revision}, and models.lock.json says {locked.revision}: the tag moved; remove the"
            " entry from the lock if you want the new one"
        )
    return Pulled(name=tag, revision=revision, path=None, bytes=found.size, locked=LockedWeights(revision=revision))
