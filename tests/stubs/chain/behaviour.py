"""How the node fails when a test asks for it, and what it saw."""

from typing import Any

import msgspec


class Behaviour(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How connections and requests are met from now on."""

    handshake: bool = True
    """False: a connection is taken, and its websocket handshake never answered."""
    http_status: int = 0
    """Refuse the websocket with this status."""
    silent: bool = False
    """Requests are read and never answered."""
    slow_ms: float = 0
    close_before: str = ""
    """Close the connection when this method comes, and don't do it."""
    close_after: str = ""
    """Do this method, then close the connection instead of answering."""
    close_at: str = ""
    """Close the connection instead of telling this status of an extrinsic: ready, inBlock, finalized."""
    end_watch: str = ""
    """Instead of including an extrinsic, tell this of it: dropped, invalid, usurped, finalityTimeout."""
    rpc_errors: dict[str, dict[str, Any]] = {}
    """The JSON-RPC error that a method gets, by its name."""
    fail_dispatch: dict[str, Any] | None = None
    """An extrinsic is included, and fails with this dispatch error."""
    overwrite_axon: str = ""
    """In each block, another machine's post for the same hotkey follows ours: `ip:port`."""
    rubbish: bool = False
    """Answers are not JSON."""
    stall_head: bool = False
    stall_finality: bool = False


class Stats(msgspec.Struct, kw_only=True):
    """What the node saw since it was last told how to behave."""

    methods: dict[str, int] = {}
    connections: int = 0
    submitted: int = 0
    """Extrinsics that the pool took."""
    block: int = 0
    final: int = 0
