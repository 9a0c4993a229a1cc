"""``l2l dashboard``: the server in the foreground, with the link to open."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import click

_PORT = 8807


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"0 takes a free one.  [default: {_PORT}, or a free one if that is taken]",
)
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen: by default for this machine alone, which an SSH tunnel reaches too.",
)
@click.option(
    "--no-token",
    is_flag=True,
    help="Let everybody on this machine in, to stop experiments too: loopback addresses only.",
)
def dashboard(folder: Path, port: int | None, address: str, no_token: bool) -> None:
    """Watch the experiments below DIR, running or ended, in a browser.

    The link that it prints carries a token: who has it sees all that is in DIR, and can pause and stop what runs.
    """
    from l2l_dask.dashboard.access import Access, is_loopback

    if not folder.is_dir():
        raise click.UsageError(f"there is no folder {folder}")
    if no_token and not is_loopback(address):
        raise click.UsageError(
            f"--no-token needs a loopback address, got {address}: anybody could stop your experiments"
        )
    for noisy in ("bokeh", "tornado.access"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    server = _serve(folder.absolute(), address, port, Access("") if no_token else Access.new())
    _say(f"the dashboard of {folder}: Ctrl-C ends it")
    if not is_loopback(address):
        _say("WARNING: others on this network can read what goes to and fro, the token too: a tunnel is safer")
    for line in tunnel(server.link, server.port):
        _say(line)
    _run(server, lambda: click.echo(server.link))


def _serve(folder: Path, address: str, port: int | None, access: Any) -> Any:
    from l2l_dask.cli.control import tell
    from l2l_dask.dashboard.server import Dashboard, DashboardError
    from l2l_dask.service.pages import DaskPages

    of_dask = DaskPages(folder)
    if port is not None:
        return Dashboard(folder, address, port, access, tell, dask_pages=of_dask)
    try:
        return Dashboard(folder, address, _PORT, access, tell, dask_pages=of_dask)
    except DashboardError as refused:
        try:
            return Dashboard(folder, address, 0, access, tell, dask_pages=of_dask)
        except DashboardError:
            raise refused from None


def _run(server: Any, ready: Callable[[], None]) -> None:
    """Serve until told to end; ``ready`` is called once that can be told."""

    def end(_number: int, _frame: FrameType | None) -> None:
        server.io_loop.add_callback_from_signal(server.io_loop.stop)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    server.start()
    server.io_loop.add_callback(ready)
    try:
        server.io_loop.start()
    finally:
        server.stop()
        _say("the dashboard has ended")


def tunnel(link: str, port: int) -> list[str]:
    """Say how to reach the server from where the user sits, if that is another machine."""
    connection = os.environ.get("SSH_CONNECTION", "").split()
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or "USER"
    if len(connection) == 4:
        to = [f"{user}@{connection[2]}"]
    elif "SLURM_JOB_ID" in os.environ:
        to = ["-J", f"{user}@LOGIN_NODE", f"{user}@{socket.gethostname()}"]
    else:
        return []
    host = urlsplit(link).hostname or "127.0.0.1"
    forwarded = f"{port}:{f'[{host}]' if ':' in host else host}:{port}"
    return [
        f"from your own machine, type there: {shlex.join(['ssh', '-N', '-L', forwarded, *to])}",
        f"and open there: {urlsplit(link)._replace(netloc=f'localhost:{port}').geturl()}",
    ]


def _say(line: str) -> None:
    click.echo(line, err=True)
