"""`loosh-miner hardware`: what the miner sees of the machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich_click import RichCommand

from app.cli.common import emit, emit_json, env_file_option, load_settings
from app.cli.machine_options import hardware_option

if TYPE_CHECKING:
    from app.domain.compute.hardware import Hardware


@click.command(cls=RichCommand)
@hardware_option
@env_file_option
@click.option("--json", "as_json", is_flag=True, help="All of it; this is what --hardware reads elsewhere.")
@click.option(
    "--textfile",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.prom",
    help="Only write GPUs and driver as metrics, for node_exporter's textfile collector.",
)
def hardware(*, env_file: Path | None, as_json: bool, textfile: Path | None, **options: Any) -> None:  # noqa: ANN401 - typed in Asked
    """Show GPUs, processors, RAM, disk and system as the choice of a model sees them."""
    from app.appliance.compute.listing import machine  # noqa: PLC0415 - keeps --help quick
    from app.appliance.compute.selection import Asked, look  # noqa: PLC0415 - same

    found = look(load_settings(env_file), Asked(**options))
    if textfile is not None:
        _write(textfile, found, of_this_machine=Asked(**options).hardware is None)
        return
    if as_json:
        emit_json(found)
        return
    problems = [f"{problem.probe}: {problem.text}" for problem in found.problems]
    emit("\n".join([machine(found), *problems]))


def _write(textfile: Path, found: "Hardware", *, of_this_machine: bool) -> None:
    from app.appliance.driver_state import DriverState, read_driver_state  # noqa: PLC0415 - keeps --help quick
    from app.appliance.hardware.nvidia import read_xids  # noqa: PLC0415 - same
    from app.appliance.textfile import gpu_metrics, write_textfile  # noqa: PLC0415 - same

    # Not those in `found`: they are only looked for where a GPU answers, and the gravest Xids silence it.
    xids = read_xids() if of_this_machine else found.nvidia.xids
    state = read_driver_state() if of_this_machine else DriverState()
    write_textfile(textfile, gpu_metrics(found, state, xids))
