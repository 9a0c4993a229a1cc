"""``l2l service``: start, status, submit and stop."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
_WAIT = 8.0  # seconds for a job that begins at once


@click.group()
def service() -> None:
    """Run a long-lived service: experiments queue in its folder and share its workers."""


@service.command()
@FOLDER
@click.option(
    "--cluster",
    default="local",
    show_default=True,
    metavar="WHERE",
    help="local, slurm or another batch system, or a TOML file.",
)
@click.option("--min", "fewest", type=click.IntRange(min=0), default=0, show_default=True, help="Worker jobs at least.")
@click.option(
    "--max",
    "most",
    type=click.IntRange(min=1),
    help="Worker jobs at most.  [default: the file's workers, or 10; local: one a core]",
)
@click.option("--walltime", metavar="HH:MM:SS", help="Of the service's own job; it hands over before.")
@click.option("--memory", default="4 GB", show_default=True, help="Of the service's own job.")
@click.option(
    "--idle", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Cancel idle workers after S."
)
@click.option("--experiments", "at_once", type=click.IntRange(min=1), default=16, show_default=True, help="At a time.")
@click.option("--here", is_flag=True, help="Run it in this process, not in a job of its own.")
@click.option("--no-tls", is_flag=True, help="Let anyone who reaches this network run code as you.")
def start(folder: Path, cluster: str, walltime: str | None, memory: str, no_tls: bool, **given: Any) -> None:
    """Start a service in DIR, or go on with one that ended."""
    from l2l_dask.service import starting
    from l2l_dask.service.settings import chosen

    own = {"cores": 1, "memory": memory} | ({"walltime": walltime} if walltime else {})
    settings = chosen(cluster, Path.cwd(), service=own, encrypted=False if no_tls else None, **given)
    at = starting.prepare(folder, settings)
    if not settings.encrypted:
        _say("WARNING: without TLS anyone on this network can run code as you, and read what you compute")
    if settings.here:
        _serve_here(at.root, folder)
        return
    job = starting.start(at, settings)
    _say(f"the service is job {job}; it asks for {settings.fewest} to {settings.most} worker jobs, as they are needed")
    found = starting.wait_for(at, job, _WAIT)
    _say(found.line())
    _say(f"submit to it: l2l service submit {folder} EXPERIMENT.toml; watch: l2l service status {folder}")
    _say(f"see its experiments, and Dask's own pages, in a browser: l2l dashboard {folder}")


def _serve_here(root: Path, folder: Path) -> None:
    import logging

    from l2l_dask.service.serving import serve

    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO, stream=sys.stderr)
    _say(f"the service runs in this process: Ctrl-C ends it; submit from elsewhere: l2l service submit {folder} ...")
    _say(f"see its experiments, and Dask's own pages, in a browser: l2l dashboard {folder}")
    serve(root)
    _say(f"ended; l2l service status {folder} says what remains")


@service.command()
@FOLDER
@click.argument("what", metavar="EXPERIMENT", type=click.Path(path_type=Path))
@click.option("--name", help="Of its store; if not given, that of the file's own store.")
@click.option("--weight", type=click.FloatRange(min=0, min_open=True), help="Its share of the slots.  [default: 1]")
@click.option("--evaluations", type=click.IntRange(min=1), help="How many individuals to evaluate in all.")
@click.option("--seed", type=click.IntRange(min=0), help="Same seed, same search.")
@JSON
def submit(folder: Path, what: Path, name: str | None, weight: float | None, as_json: bool, **overrides: Any) -> None:
    """Queue EXPERIMENT, a TOML file, in DIR; or a store in DIR that was stopped or failed."""
    from l2l_dask.experiment import Experiment
    from l2l_dask.service.client import Service

    at = Service(folder)
    if what.suffix == ".zarr":
        submitted = at.submit_again(what, weight)
    else:
        experiment = Experiment.from_config(what, **overrides)
        submitted = at.submit(experiment, name, 1.0 if weight is None else weight)
    found = at.standing()
    if as_json:
        json.dump({"name": submitted.name, "store": str(submitted.store), "service": found.condition}, sys.stdout)
        sys.stdout.write("\n")
        return
    _say(f"queued: {submitted.store}")
    _say(found.line() if found.alive else f"it waits until a service runs: {found.line()}")


@service.command()
@FOLDER
@JSON
def status(folder: Path, as_json: bool) -> None:
    """Show how the service in DIR and its experiments stand."""
    from l2l_dask.service.client import connect

    content = connect(folder).status()
    if as_json:
        json.dump(content, sys.stdout)
        sys.stdout.write("\n")
    else:
        _show(content)


@service.command()
@FOLDER
@click.option("--now", is_flag=True, help="Do not wait for evaluations that run; they run again when it goes on.")
def stop(folder: Path, now: bool) -> None:
    """End the service in DIR and all its jobs; its experiments can go on later."""
    from l2l_dask.service import starting
    from l2l_dask.service.client import Service
    from l2l_dask.service.place import Place

    found = starting.stop(Place(folder.resolve()), now=now, said=_say)
    _say(found.line())
    left = [name for name, each in Service(folder).experiments.items() if each.state in ("queued", "interrupted")]
    if left:
        _say(f"unfinished: {', '.join(left)}; they go on with: l2l service start {folder}, or one by l2l resume STORE")


def _show(content: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    console.print(escape(content["line"]))
    if content["state"] in ("running", "leaving"):
        slots, jobs = content["slots"], content["jobs"]
        counted = ", ".join(f"{n} {state}" for state, n in sorted(jobs.items())) or "none"
        console.print(f"since {_clock(content['since'])}, until {_clock(content['ends'])}; worker jobs: {counted}")
        console.print(f"slots: {slots['busy']} busy of {slots['total']}, {slots['wanted']:g} could be used")
        if content["successor"]:
            console.print(f"goes on in job {content['successor']}, which waits for its end")
        console.print(f"in a browser, with Dask's own pages: l2l dashboard {escape(content['folder'])}")
    for trouble in filter(None, (content["trouble"], content["no_successor"])):
        console.print(f"[red]{escape(trouble)}[/red]")
    console.print(_table(content["experiments"]) if content["experiments"] else "no experiments yet")
    for name, each in content["experiments"].items():
        if each["problem"]:
            again = f"l2l service submit {content['folder']} {each['store']}"
            console.print(f"[red]{escape(name)}[/red]: {escape(each['problem'])}; once that is put right: {again}")


def _table(experiments: dict[str, Any]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None)
    for title in ("experiment", "state", "evaluations", "best", "slots", "weight", "slot-seconds"):
        table.add_column(title, justify="left" if title in ("experiment", "state") else "right")
    for name, each in experiments.items():
        n, best = each["evaluations"], each["best"]
        fitness = f"{next(iter(best['fitness'].values())):.6g}" if best else ""
        slots = f"{each['in_flight']}/{each['quota']}" if each["pid"] else ""
        ended = f"{n['total'] - n['pending']} of {n['budget']}"
        state = "given up" if each["problem"] else each["state"]
        table.add_row(escape(name), state, ended, fitness, slots, f"{each['weight']:g}", f"{each['slot_seconds']:.0f}")
    return table


def _clock(seconds: float | None) -> str:
    return "it is stopped" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _say(line: str) -> None:
    click.echo(line, err=True)
