"""The kernel's packet filter, through Debian's `nft` command: check, load, list and remove the miner's own table."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from app.domain.firewall.ruleset import FAMILY, JUDGE, REMOVAL, SET_V4, SET_V6, TABLE
from app.errors import FirewallError

_SECONDS: Final = 30.0
_SYSTEM_FOLDERS: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where `nft` lies; Debian leaves them out of an ordinary user's PATH."""
_MOST_LINES: Final = 5
_MOST_LETTERS: Final = 200


class LoadedTable(msgspec.Struct, frozen=True):
    """What the kernel holds of the miner's table: the port, entries of the sets, and what was dropped."""

    port: int
    v4: int
    v6: int
    dropped_packets: int
    dropped_bytes: int


class _Set(msgspec.Struct, frozen=True):
    name: str
    elem: tuple[Any, ...] = ()


class _Payload(msgspec.Struct, frozen=True):
    field: str = ""


class _Left(msgspec.Struct, frozen=True):
    payload: _Payload = _Payload()


class _Match(msgspec.Struct, frozen=True):
    left: _Left
    right: Any


class _Counter(msgspec.Struct, frozen=True):
    packets: int
    bytes: int


class _Statement(msgspec.Struct, frozen=True):
    match: _Match | None = None
    counter: _Counter | None = None


class _Rule(msgspec.Struct, frozen=True):
    chain: str
    expr: tuple[_Statement, ...]


class _Entry(msgspec.Struct, frozen=True):
    set: _Set | None = None
    rule: _Rule | None = None


class _Listing(msgspec.Struct, frozen=True):
    """What is read of libnftables' JSON; the rest is passed over."""

    nftables: tuple[_Entry, ...]


class Nftables:
    """Runs `nft`, each time as a process of its own. Errors: `FirewallError`."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._path = f"{environ.get('PATH', '')}:{_SYSTEM_FOLDERS}"

    def load(self, text: str) -> None:
        """Load a ruleset, after a trial, in one transaction: on errors nothing is changed."""
        self._change(["-c", "-f", "-"], text)
        self._change(["-f", "-"], text)

    def remove(self) -> None:
        """Take the table away, if it is there."""
        self._change(["-f", "-"], REMOVAL)

    def listing(self) -> str | None:
        """The table as `nft` lists it, without its counters' figures; None when there is none."""
        return self._list("-s")

    def table(self) -> LoadedTable | None:
        """What the table holds and has dropped; None when there is none, or not one as the miner makes it."""
        listed = self._list("-j")
        if listed is None:
            return None
        try:
            return _table(msgspec.json.decode(listed, type=_Listing))
        except (msgspec.ValidationError, StopIteration):
            return None

    def _list(self, form: str) -> str | None:
        # The names of all tables first: asked for one that is not there, nft fails as it does for other causes.
        tables = msgspec.json.decode(self._run(["-j", "list", "tables", FAMILY]), type=dict[str, list[dict[str, Any]]])
        names = {entry["table"]["name"] for entry in tables["nftables"] if "table" in entry}
        return self._run([form, "list", "table", FAMILY, TABLE]) if TABLE in names else None

    def _change(self, arguments: list[str], text: str) -> None:
        self._run(arguments, text)

    def _run(self, arguments: list[str], text: str = "") -> str:
        program = shutil.which("nft", path=self._path)
        if program is None:
            raise FirewallError("nft is not installed: `apt install nftables`")
        try:
            done = subprocess.run(  # noqa: S603 - a fixed program and fixed arguments, no shell
                [program, *arguments],
                input=text,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_SECONDS,
                check=False,
                env={"PATH": self._path, "LC_ALL": "C"},
            )
        except subprocess.TimeoutExpired:
            raise FirewallError(f"nft did not end within {_SECONDS:.0f} s: see `dmesg` and try again") from None
        except OSError as error:
            raise FirewallError(f"{program} can't be started ({error.strerror}): reinstall nftables") from None
        if done.returncode:
            raise FirewallError(_complaint(done.stderr))
        return done.stdout


def _complaint(stderr: str) -> str:
    if "Operation not permitted" in stderr or "must be root" in stderr:
        return "the packet filter needs root (or CAP_NET_ADMIN): run it with sudo"
    lines = [line.strip()[:_MOST_LETTERS] for line in stderr.splitlines() if line.strip()][:_MOST_LINES]
    said = " / ".join(lines) or "it says nothing"
    return (
        f"nft or the kernel refuses the rules ({said}): is the kernel's nf_tables, with fib and ct, there and nft new?"
    )


def _table(listing: _Listing) -> LoadedTable:
    """Raise StopIteration for a table that lacks one of the miner's parts."""
    elements = {entry.set.name: len(entry.set.elem) for entry in listing.nftables if entry.set}
    rules = [entry.rule for entry in listing.nftables if entry.rule]
    matches = [statement.match for rule in rules for statement in rule.expr if statement.match]
    ports = (match.right for match in matches if match.left.payload.field == "dport")
    counters = (one.counter for rule in rules if rule.chain == JUDGE for one in rule.expr if one.counter)
    counter = next(counters)
    return LoadedTable(
        next(port for port in ports if isinstance(port, int)),
        elements.get(SET_V4, 0),
        elements.get(SET_V6, 0),
        counter.packets,
        counter.bytes,
    )
