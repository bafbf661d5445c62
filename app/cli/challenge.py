"""`loosh-miner challenge`: ask a miner as a validator would."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, override
from urllib.parse import urlsplit

import click
from rich_click import RichCommand

from app.cli.common import emit_json, env_file_option

if TYPE_CHECKING:
    from app.cli.asking import Asked

_MOST_TOOL_BYTES: Final = 2 * 1024 * 1024


class _Seconds(click.FloatRange):
    """A range that takes no `nan`."""

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number", param, ctx)
        return number


def _text(ctx: click.Context, param: click.Parameter, value: str) -> str:
    del ctx, param
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("is not UTF-8 text.") from None
    if not value.strip():
        raise click.BadParameter("is empty: say what to ask.")
    return value


def _url(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    del ctx, param
    if value is None:
        return None
    try:
        url = urlsplit(value)
        good = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        good = False
    if not good or not value.isascii() or not value.isprintable() or " " in value:
        raise click.BadParameter("is not a miner's address: use http://host:port.")
    return value.rstrip("/")


def _tools(ctx: click.Context, param: click.Parameter, value: Path | None) -> list[dict[str, Any]] | None:
    del ctx, param
    if value is None:
        return None
    import msgspec  # noqa: PLC0415 - keeps --help quick

    try:
        with value.open("rb") as file:
            return msgspec.json.decode(file.read(_MOST_TOOL_BYTES), type=list[dict[str, Any]])
    except OSError as error:
        raise click.BadParameter(f"{value} can't be read: {error.strerror}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise click.BadParameter(f"{value} is not a JSON list of OpenAI tools.") from None


@click.command(cls=RichCommand)
@click.argument("text", callback=_text)
@click.option("--url", callback=_url, help="The miner; this machine's, on API_PORT, if not given.")
@click.option(
    "--tools", type=click.Path(exists=True, dir_okay=False, path_type=Path), callback=_tools, help="JSON list of tools."
)
@click.option("--max-tokens", type=click.IntRange(1, 10_000_000), default=12288, show_default=True)
@click.option("--temperature", type=_Seconds(0, 2), default=0.7, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--repeat", type=click.IntRange(1, 1_000_000), default=1, help="Ask so often, show a summary.")
@click.option("--concurrency", type=click.IntRange(1, 1024), default=1, help="Of these, so many at the same time.")
@click.option("--timeout", type=_Seconds(0.1, 3600), default=60, show_default=True, help="Seconds to wait.")
@click.option("--wallet-name", help="Ask with the hotkey of this wallet instead of an ephemeral one.")
@click.option("--hotkey", help="That hotkey's name.")
@env_file_option
def challenge(*, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - passed on whole, typed in Question
    """Ask the miner TEXT as a validator does: handshake, encrypted challenge, decrypted answer.

    Exit codes: 0 answered, 1 not (nothing listens, no answer in time, or some of --repeat failed), 2 wrong usage,
    3 the miner is not ready or refused.
    """
    from app.cli.asking import Question, ask  # noqa: PLC0415 - keeps --help quick: HTTP client and crypto

    asked = ask(Question(**options))
    if as_json:
        emit_json(asked.as_object())
    else:
        _show(asked)
    sys.exit(asked.exit_code)


def _show(asked: "Asked") -> None:
    for line in asked.as_lines():
        sys.stdout.write(line + "\n")
    sys.stdout.flush()
