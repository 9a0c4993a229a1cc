"""``l2l dashboard``: the server in the foreground, with the link to open."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import socket
from collections.abc import Callable
from functools import partial
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
    from l2l_dask.dashboard.followed import Stores
    from l2l_dask.dashboard.server import Dashboard, DashboardError
    from l2l_dask.service.pages import DaskPages

    at = partial(Dashboard, Stores(folder), address, access=access, command=tell, dask_pages=DaskPages(folder))
    if port is not None:
        return at(port)
    try:
        return at(_PORT)
    except DashboardError as refused:
        try:
            return at(0)
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
    if _ssh_address() is None and "SLURM_JOB_ID" not in os.environ:
        return []
    return [
        f"from your own machine, type there: {tunnel_command(link, port)}",
        f"and open there: {urlsplit(link)._replace(netloc=f'localhost:{port}').geturl()}",
    ]


def tunnel_command(link: str, port: int) -> str:
    """Write what is to be typed on another machine to reach the server from there."""
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or "USER"
    address = _ssh_address()
    if "SLURM_JOB_ID" in os.environ:  # a job has the address of the login node
        to = ["-J", f"{user}@{_bracketed(address or 'LOGIN_NODE')}", f"{user}@{socket.gethostname()}"]
    else:
        to = [f"{user}@{address or socket.gethostname()}"]
    host = urlsplit(link).hostname or "127.0.0.1"
    forwarded = f"{port}:{_bracketed(host)}:{port}"
    return shlex.join(["ssh", "-N", "-L", forwarded, *to])


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host  # IPv6


def _ssh_address() -> str | None:
    """Return the address to which the user's SSH connected; None if the user did not come by that."""
    connection = os.environ.get("SSH_CONNECTION", "").split()
    return connection[2] if len(connection) == 4 else None


def _say(line: str) -> None:
    click.echo(line, err=True)
