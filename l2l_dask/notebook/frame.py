"""An experiment's plots in a notebook: a frame around a page of the dashboard, which a process of its own serves.

A process, and not a thread of the kernel: simulators hold Python's lock for long, and what the kernel computes is not
to be slowed down. It ends with the kernel, however that ends: its standard input is at its end then.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import shlex
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode

from l2l_dask.errors import ConfigError, L2LError
from l2l_dask.notebook import jupyter

PAGES = ("search", "parameters", "workers", "individuals")
_PATIENCE = 60.0  # seconds: a file system of a cluster may take its time for the first import
_STYLE = "width: 100%; height: 42rem; border: 1px solid #8888; resize: vertical; background: transparent"


class FrameError(L2LError):
    """Plots that cannot be served."""


class View(str):
    """How far an experiment is, in a line; in a notebook, its live plots.

    Parameters
    ----------
    line
        What it is where nothing can be drawn: printed, or outside of a notebook.
    store
        Of the experiment.
    page
        Of the dashboard: ``"search"``, ``"parameters"``, ``"workers"`` or ``"individuals"``.

    Raises
    ------
    ConfigError
        If there is no such page.
    """

    store: Path
    page: str

    def __new__(cls, line: str, store: Path, page: str = "search") -> View:
        if page not in PAGES:
            raise ConfigError(f"page: expected one of {', '.join(PAGES)}, got {page!r}")
        view = super().__new__(cls, line)
        view.store, view.page = store, page
        return view

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        served = _served()
        address = served.base + self.page + "?" + urlencode({"store": served.name(self.store)}, quote_via=quote)
        frame = f"<iframe src='{escape(address)}' title='{escape(self.store.name)}' style='{_STYLE}'></iframe>"
        return f"{frame}<div style='opacity: .75; font-size: 90%'>{served.hint(address, self.store)}</div>"


@dataclass
class _Served:
    """The process.

    Attributes
    ----------
    base
        Its address in the browser, with the token.
    """

    process: subprocess.Popen[bytes]
    owner: int = field(default_factory=os.getpid)
    base: str = ""
    tunnel: str = ""
    names: dict[Path, str] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        return self.owner == os.getpid() and self.process.poll() is None

    def open(self) -> None:
        """Wait until it serves, and find the way to it."""
        told = self._answer()
        port, inside = told["port"], f"{told['token']}/"
        self.tunnel = told["tunnel"]
        way = jupyter.proxied(port, f"{inside}own/icon.svg")
        self.base = f"{way or f'http://127.0.0.1:{port}/'}{inside}"
        if way:
            self.tunnel = ""
        else:
            self.ask(frames=jupyter.frames())

    def name(self, store: Path) -> str:
        """Return the name under which it shows a store."""
        store = store.absolute()
        if store not in self.names:
            self.names[store] = self.ask(store=str(store))["name"]
        return self.names[store]

    def hint(self, address: str, store: Path) -> str:
        """Say, in HTML, what a frame that stays empty may need."""
        lives = "Live while this notebook's kernel runs; at any time, in a terminal:"
        command = f"<code>l2l dashboard {escape(_typed(store.parent))}</code>"
        if not self.tunnel:
            return f"{lives} {command}"
        link = f"<a href='{escape(address)}' target='_blank' rel='noopener noreferrer'>open in a tab</a>"
        return (
            f"{lives} {command} ({link}). Empty, because your browser is on another machine? Type there "
            f"<code>{escape(self.tunnel)}</code>, or install <code>jupyter-server-proxy</code> where Jupyter runs."
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        """Send it a question and wait for the answer."""
        stdin = self.process.stdin
        assert stdin is not None, "it was started with a pipe"
        with suppress(OSError):  # what it says at its end is told below
            stdin.write(json.dumps(question).encode() + b"\n")
            stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        stdout = self.process.stdout
        assert stdout is not None, "it was started with a pipe"
        try:
            answer: dict[str, Any] = json.loads(_line(stdout))
        except ValueError:
            self.close()
            raise FrameError(
                "the process that serves the plots did not answer: show them again, or see them by l2l dashboard DIR"
            ) from None
        if "error" in answer:
            self.close()
            raise FrameError(str(answer["error"]))
        return answer

    def close(self) -> None:
        """End it."""
        if self.owner != os.getpid():
            return
        for end in (self.process.stdin, self.process.stdout):
            assert end is not None, "it was started with pipes"
            with suppress(OSError):
                end.close()
        try:
            self.process.wait(5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _typed(folder: Path) -> str:
    """Write a folder as it is typed in a shell."""
    home = os.path.expanduser("~")  # itself, where nobody knows it
    if not folder.is_relative_to(home):
        return shlex.quote(str(folder))
    return f"~/{shlex.quote(folder.relative_to(home).as_posix())}" if folder != Path(home) else "~"


_lock = threading.Lock()
_one: _Served | None = None


def _served() -> _Served:
    """Return this kernel's process, which is started when something is shown first."""
    global _one  # noqa: PLW0603
    with _lock:
        if _one is None or not _one.ours:
            if _one is not None:
                atexit.unregister(_one.close)
            _one = _start()
        return _one


def _start() -> _Served:
    places = [os.path.abspath(place) for place in sys.path if place]  # this package's may be the notebook's alone
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "l2l_dask.cli.beside"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
        start_new_session=True,  # to interrupt the kernel is not to end it
    )
    served = _Served(process)
    atexit.register(served.close)
    try:
        served.open()
    except BaseException:
        served.close()
        raise
    return served


def _line(file: IO[bytes]) -> bytes:
    until, line = time.monotonic() + _PATIENCE, b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([file], [], [], max(until - time.monotonic(), 0.0))
        more = os.read(file.fileno(), 65536) if ready else b""
        if not more:
            return b""
        line += more
    return line
