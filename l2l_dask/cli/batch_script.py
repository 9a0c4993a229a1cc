"""``l2l batch-script``: print an sbatch file."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

_ALL = "module load NEST; can be given more than once."


@click.command("batch-script")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(["one-node", "workers", "allocation", "array"]),
    default="one-node",
    show_default=True,
    help="The cores of one node; a small job that submits worker jobs; all nodes of one job; several searches.",
)
@click.option("--store", type=click.Path(path_type=Path), help="NAME.zarr, if not the one that CONFIG says.")
@click.option("--nodes", type=click.IntRange(min=1), help="Of an allocation.  [default: 2]")
@click.option("--workers", type=click.IntRange(min=1), help="Worker jobs.  [default: 4]")
@click.option("--cores", type=click.IntRange(min=1), help="Of each node, or worker job.  [default: a whole node; 1]")
@click.option("--memory", metavar="SIZE", help='"8 GB": of each node, or worker job.  [default: Slurm\'s; 4 GB]')
@click.option("--walltime", default="01:00:00", show_default=True, metavar="HH:MM:SS", help="Of each job.")
@click.option("--partition", help="Slurm's --partition.")
@click.option("--account", help="Slurm's --account.")
@click.option("--gpus", type=click.IntRange(min=0), default=0, help="Of a worker job, or 1 of one node.")
@click.option(
    "--array", metavar="N", help="So many searches, with seeds 1 to N; or 3,5,7-9, or 1-100%10.  [default: 4]"
)
@click.option("--prologue", multiple=True, metavar="COMMAND", help=f"To be run first, such as {_ALL}")
@click.option("--python", help="The interpreter of the jobs.  [default: this one]")
@click.option("--chain", is_flag=True, help="Let each job submit its successor, until the search has finished.")
def batch_script(config: Path, store: Path | None, python: str | None, **options: Any) -> None:
    """Print an sbatch file for the experiment in CONFIG, to keep and edit.

    Submitted again, it goes on where the search was, whatever ended it.
    """
    from l2l_dask import config as experiments
    from l2l_dask.cluster.scripts import Wanted, script

    read = experiments.read(config)
    written = str(store or experiments.store(config, read.run))
    if options["kind"] == "array":
        written = written.removesuffix(".zarr") + "-$SLURM_ARRAY_TASK_ID.zarr"
    told: dict[str, Any] = {"takes": read.cluster.resources, "command": shlex.join(["l2l", *sys.argv[1:]])}
    wanted = Wanted(str(config), written, python=python or sys.executable, **told, **options)
    click.echo(script(wanted), nl=False)
