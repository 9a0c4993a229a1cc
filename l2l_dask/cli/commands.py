"""The commands. What they need is imported when they run, so that ``l2l --help`` is quick."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import click

STORE = click.argument("store", type=click.Path(path_type=Path))
CLUSTER = click.option(
    "--cluster",
    metavar="WHERE",
    help="local, serial, slurm or another batch system, allocation, a TOML file, a scheduler's address or its file.",
)
WORKERS = click.option(
    "--workers", type=click.IntRange(min=1), help="Local workers, one per core if not given; or worker jobs."
)
EVALUATIONS = click.option("--evaluations", type=click.IntRange(min=1), help="How many individuals to evaluate in all.")
WALL_TIME = click.option(
    "--wall-time", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Ask no more after so many seconds."
)
BUNDLE = click.option("--bundle/--no-bundle", default=None, help="Whether short evaluations may share a future.")
SHOW_OUTPUT = click.option(
    "--show-output", is_flag=True, default=None, help="Show what evaluations print; else those that fail keep it."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
REPORT = click.option("--report/--no-report", default=True, help="Whether to write STORE/report.html at the end.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="l2l-dask")
def cli() -> None:
    """Search the parameters of simulations: asynchronously, durably, on a laptop or a cluster."""


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--store", type=click.Path(path_type=Path), help="The folder to create, NAME.zarr.")
@CLUSTER
@WORKERS
@EVALUATIONS
@click.option("--seed", type=click.IntRange(min=0), help="Same seed, same search.")
@WALL_TIME
@BUNDLE
@SHOW_OUTPUT
@REPORT
@JSON
def run(config: Path, report: bool, as_json: bool, **overrides: Any) -> None:
    """Run the experiment that the file CONFIG describes."""
    from l2l_dask.cli.allocated import allocated
    from l2l_dask.cli.progress import bar, conclude
    from l2l_dask.experiment import Experiment

    with allocated(overrides["cluster"], overrides["store"], config):
        experiment = Experiment.from_config(config, **overrides)
        with bar(experiment.store, lambda: experiment.explanation) as on_progress:
            ended = experiment.run(on_progress=on_progress)
    conclude(ended, report=report, as_json=as_json)


@cli.command()
@STORE
@EVALUATIONS
@WORKERS
@CLUSTER
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds per evaluation.")
@WALL_TIME
@BUNDLE
@SHOW_OUTPUT
@click.option("--target", type=float, metavar="F", help="Ask no more once the fitness is as good as this.")
@click.option("--trust-record", is_flag=True, help="Go on although the optimizer would not ask the same again.")
@REPORT
@JSON
def resume(store: Path, report: bool, as_json: bool, **options: Any) -> None:
    """Go on with an experiment whose driver ended, however it ended."""
    _go_on(store, report=report, as_json=as_json, **options)


@cli.command()
@STORE
@click.option("--failed", is_flag=True, required=True, help="Evaluate those that failed, timed out or crashed.")
@WORKERS
@CLUSTER
@WALL_TIME
@SHOW_OUTPUT
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds per evaluation.")
@REPORT
@JSON
def retry(store: Path, failed: bool, report: bool, as_json: bool, **options: Any) -> None:
    """Evaluate failed individuals again, each as a new row whose parent is the old one."""
    _go_on(store, report=report, as_json=as_json, retry_failed=failed, **options)


def _go_on(store: Path, *, report: bool, as_json: bool, **options: Any) -> None:
    from l2l_dask.cli.allocated import allocated
    from l2l_dask.cli.progress import bar, conclude
    from l2l_dask.experiment import Experiment

    with allocated(options["cluster"], store), bar(store) as on_progress:
        ended = Experiment.resume(store, on_progress=on_progress, **options)
    conclude(ended, report=report, as_json=as_json)


@cli.command()
@STORE
@click.option("--now", is_flag=True, help="Do not wait for what runs; it is evaluated again by l2l resume.")
def stop(store: Path, now: bool) -> None:
    """Stop a running experiment: ask no more, let what runs end."""
    _send(store, "stop-now" if now else "stop")


@cli.command()
@STORE
def pause(store: Path) -> None:
    """Make a running experiment ask no more until l2l unpause."""
    _send(store, "pause")


@cli.command()
@STORE
def unpause(store: Path) -> None:
    """Let a paused experiment go on."""
    _send(store, "unpause")


def _send(store: Path, command: Any) -> None:
    from l2l_dask.cli.control import tell
    from l2l_dask.errors import L2LError
    from l2l_dask.trajectory.actions import note

    click.echo(tell(store, command), err=True)
    try:
        note(store, command, f"the command line on {socket.gethostname()}")
    except L2LError as error:
        click.echo(f"this could not be put on record: {error}", err=True)


@cli.command("list")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@JSON
def list_(folder: Path, as_json: bool) -> None:
    """List the experiments below a folder."""
    from l2l_dask.cli.show import table_of_stores

    table_of_stores(folder, as_json=as_json)


@cli.command()
@STORE
@click.option("--best", type=click.IntRange(min=1), default=1, show_default=True, help="How many of the best to show.")
@JSON
def show(store: Path, best: int, as_json: bool) -> None:
    """Show an experiment's state, its best individuals and its failures."""
    from l2l_dask.cli.show import one_store

    one_store(store, best, as_json=as_json)


@cli.command()
@STORE
@click.argument("out", type=click.Path(path_type=Path))
def export(store: Path, out: Path) -> None:
    """Write a snapshot of an experiment, running or ended, to OUT: .csv, .parquet or .nc."""
    from l2l_dask.export import export as write
    from l2l_dask.trajectory import load

    write(load(store), out)
    click.echo(f"wrote {out}", err=True)


@cli.command()
@STORE
@click.argument("out", type=click.Path(path_type=Path))
def report(store: Path, out: Path) -> None:
    """Write one self-contained HTML page about an experiment to OUT, in place of an older one."""
    if _would_lose(out):
        raise click.UsageError(f"{out} exists and is no HTML page, which a report may replace: name another file")
    from l2l_dask.dashboard.report import write
    from l2l_dask.trajectory import load

    write(load(store), out)
    click.echo(f"wrote {out}", err=True)


def _would_lose(path: Path) -> bool:
    """Tell whether there is a file in which somebody wrote something else than a page."""
    if path.suffix.lower() in (".html", ".htm"):
        return False
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            begin = file.read(1000).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    except OSError:
        return False  # who writes there says what is wrong
    return not begin.startswith((b"<!doctype html", b"<html")) and path.stat().st_size > 0


@cli.command()
@click.argument("names", nargs=-1)
@JSON
def optimizers(names: tuple[str, ...], as_json: bool) -> None:
    """List the optimizers, or those of these NAMES, with their options and defaults."""
    _plugins("optimizers", names, as_json)


@cli.command()
@click.argument("names", nargs=-1)
@JSON
def optimizees(names: tuple[str, ...], as_json: bool) -> None:
    """List the optimizees, or those of these NAMES, with their options and defaults."""
    _plugins("optimizees", names, as_json)


def _plugins(group: Any, names: tuple[str, ...], as_json: bool) -> None:
    from l2l_dask.cli.plugins import described, printed

    plugins = described(group, names)
    if as_json:
        json.dump(plugins, sys.stdout)
        sys.stdout.write("\n")
    else:
        printed(plugins)
