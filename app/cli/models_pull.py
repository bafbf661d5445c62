"""`loosh-miner models pull`: fetch the weights of the chosen model."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich_click import RichCommand

from app.cli.common import emit, emit_json, env_file_option, load_settings, warn
from app.cli.machine_options import asked, choice_options

if TYPE_CHECKING:
    from app.appliance.compute.pull_ollama import Tell


@click.command(cls=RichCommand)
@click.argument("model", metavar="[ID]", required=False)
@choice_options
@env_file_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def pull(*, model: str | None, env_file: Path | None, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - typed in asked
    """Fetch the chosen model's weights, or those of the model ID: resumed, checked, and noted in models.lock.json.

    Exit codes: 0 done, 1 not fetched, 2 wrong settings or files, 3 the model does not fit this machine.
    """
    from app.appliance.compute.pulling import pull_chosen  # noqa: PLC0415 - keeps --help quick
    from app.appliance.compute.selection import lock_file, select  # noqa: PLC0415 - same

    loaded = load_settings(env_file)
    warn(*loaded.warnings)
    wanted = asked(model=model, **options)
    selection = select(loaded, wanted)
    with _Bar() as tell:
        pulled = pull_chosen(loaded, selection, lock_file(loaded, wanted), tell)
    if as_json:
        emit_json(pulled)
    elif pulled is None:
        emit("nothing to pull: the embedded model came with the miner")
    else:
        emit(f"{pulled.name} {pulled.revision}" + (f"\n{pulled.path}" if pulled.path else ""))


class _Bar:
    """A progress bar on stderr, for what does not bring one of its own; no more than the text where nobody watches."""

    def __enter__(self) -> "Tell":
        from rich.console import Console  # noqa: PLC0415 - keeps --help quick
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, console=console, disable=not sys.stderr.isatty())
        self._task = self._progress.add_task("", total=None, visible=False)
        self._progress.start()
        return self._tell

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def _tell(self, what: str, done: int, total: int) -> None:
        self._progress.update(self._task, description=what, completed=done, total=total or None, visible=True)
