"""Asks the running miner on its admin listener."""

import http.client

import msgspec

from app.errors import MinerError

_SECONDS = 3.0
_MOST_BYTES = 4 * 1024 * 1024
_OK = 200


class NoMiner(MinerError):
    """No miner answers on ADMIN_PORT."""


def ask_miner[T](port: int, path: str, kind: type[T]) -> T:
    """Give what it tells at a path. Errors: `NoMiner`, with what to do."""
    url = f"http://127.0.0.1:{port}{path}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        connection.request("GET", path, headers={"Accept": "application/json"})
        response = connection.getresponse()
        body = response.read(_MOST_BYTES)
    except TimeoutError:
        raise NoMiner(f"{url} does not answer within {_SECONDS:g} s: restart the miner, and see its log") from None
    except ConnectionRefusedError:
        raise NoMiner(
            f"no miner runs here (nothing listens on ADMIN_PORT={port}): start one with `loosh-miner serve`, or give"
            " this command the settings it was started with"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise NoMiner(f"{url} can't be asked ({type(error).__name__}): is ADMIN_PORT another program's?") from None
    finally:
        connection.close()
    if response.status != _OK:
        raise NoMiner(f"{url} answers with status {response.status}: is ADMIN_PORT another program's?")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NoMiner(f"what answers at {url} is no miner of this version: restart it, or correct ADMIN_PORT") from None
