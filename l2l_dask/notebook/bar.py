"""A progress bar in a notebook: one output that is renewed in its place."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

from l2l_dask.errors import L2LError
from l2l_dask.notebook import in_notebook
from l2l_dask.progress import Progress, bar, clock, words
from l2l_dask.trajectory import look

_PERIOD = 0.5  # seconds between two looks of it,
_PAUSE = 4.0  # or more: so many times what it took to find out what to show


class Bar:
    """What shows how far an experiment is; in a kernel alone.

    Parameters
    ----------
    store
        Of the experiment.
    """

    def __init__(self, store: Path) -> None:
        self._store = store
        self._next = -math.inf
        self._progress: Progress | None = None
        # The module is untyped, and there in a kernel alone.
        display: Any = import_module("IPython.display").display
        self._output: Any = display(_drawn(0.0, f"{store.name}: waiting for its start"), raw=True, display_id=True)

    def note(self, progress: Progress) -> None:
        """Take what a driver says."""
        self._progress = progress
        self.say(self._words)

    def say(self, what: Callable[[], tuple[float, str]]) -> None:
        """Show a share and words, which are asked for only if it is time to show some."""
        began = time.monotonic()
        if began < self._next:
            return
        with suppress(L2LError):  # the next time, perhaps; who waits is told by other means
            self._show(*what())
        now = time.monotonic()
        self._next = now + max(_PERIOD, _PAUSE * (now - began))

    def end(self, what: Callable[[], tuple[float, str]] | None = None) -> None:
        """Leave the last words, which stay in the notebook."""
        try:
            self._show(*(what or self._last_words)())
        except L2LError as error:
            self._show(0.0, str(error))

    def _words(self) -> tuple[float, str]:
        p = self._progress
        assert p is not None, "a driver said something"
        return p.share, " · ".join([f"{p.ended}/{p.total}", *words(p)])

    def _last_words(self) -> tuple[float, str]:
        state = look(self._store)[1] if self._store.exists() else "not started"
        said, p = f"{self._store.name}: {state}", self._progress
        if p is None:
            return 0.0, said
        best = "" if p.best is None else f", best {p.best:.6g}"
        failed = f", {p.failed} failed" if p.failed else ""
        said += f", {p.ended} of {p.total} evaluations{best}{failed}, {clock(p.seconds)}"
        return p.share, said

    def _show(self, share: float, text: str) -> None:
        self._output.update(_drawn(share, text), raw=True)


def _drawn(share: float, text: str) -> dict[str, str]:
    graphic = f"<progress max='1' value='{share:.4f}' style='width: 14em; vertical-align: middle'></progress>"
    return {
        "text/plain": f"{bar(share)} {text}",
        "text/html": f"<div style='font-variant-numeric: tabular-nums'>{graphic} {escape(text)}</div>",
    }


@contextmanager
def shown(
    store: Path, on_progress: Callable[[Progress], None] | None = None
) -> Iterator[Callable[[Progress], None] | None]:
    """Yield what a driver tells its progress: what the caller gave, or else, in a notebook, a bar."""
    if on_progress is not None or not in_notebook():
        yield on_progress
        return
    bar = Bar(store)
    try:
        yield bar.note
    finally:
        bar.end()


@contextmanager
def followed(store: Path, what: Callable[[], tuple[float, str]]) -> Iterator[Callable[[], None]]:
    """Yield what is called now and then while an experiment is waited for: in a notebook, it renews a bar.

    Parameters
    ----------
    what
        Says a share and words; may take a while.
    """
    if not in_notebook():
        yield lambda: None
        return
    bar = Bar(store)
    try:
        yield lambda: bar.say(what)
    finally:
        bar.end(what)
