"""The progress line, and the last words of a run; both on standard error."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from l2l_dask.cli.show import counted, fitness_of, summary
from l2l_dask.progress import Progress, line
from l2l_dask.trajectory import Trajectory

_QUIET = 30.0  # seconds between two lines where standard error is not a terminal


@contextmanager
def bar(store: Path, explanation: Callable[[], str] = str) -> Iterator[Callable[[Progress], None]]:
    """Show progress: one line that is renewed on a terminal, a line now and then elsewhere.

    Before the first, say what the optimizer chose: with the workers that it has by then. A Ctrl-C that finds no driver
    to stop, because the workers start or end, says how to go on, too.
    """
    console = _console()
    descriptors = {1, 2, *([console.file.fileno()] if console.is_terminal else [])}
    try:
        with _shown(store, console) as show:
            try:
                yield _explained(show, console, explanation)
            finally:
                _leave_a_closed_window(descriptors)
    except KeyboardInterrupt:
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # an impatient finger must not cut the last words short, also below
        go_on = f"go on with: l2l resume {store}" if store.exists() else "nothing was started"
        console.print(f"interrupted: {go_on}", markup=False, soft_wrap=True)
        raise SystemExit(130) from None


def _explained(
    show: Callable[[Progress], None], console: Console, explanation: Callable[[], str]
) -> Callable[[Progress], None]:
    said = False

    def shown(progress: Progress) -> None:
        nonlocal said
        if not said and (words := explanation()):
            console.print(words, markup=False, soft_wrap=True)
        said = True
        show(progress)

    return shown


def _console() -> Console:
    """Return standard error; a terminal by a descriptor of its own, as evaluations in this process may not use ours."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    file = os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8", errors="replace") if terminal else None
    return Console(stderr=True, file=file, highlight=False)


def _leave_a_closed_window(descriptors: Iterable[int]) -> None:
    """Say nothing more to a terminal that is gone: its window was closed, and whatever is written there fails."""
    for descriptor in descriptors:
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                with open(os.devnull, "w") as nowhere:
                    os.dup2(nowhere.fileno(), descriptor)


@contextmanager
def _shown(store: Path, console: Console) -> Iterator[Callable[[Progress], None]]:
    if not console.is_terminal:
        yield _lines(console)
        return
    with Live(Text(f"{store}: starting the workers"), console=console, refresh_per_second=5, transient=False) as live:
        yield lambda progress: live.update(Text(line(progress, console.width), no_wrap=True, overflow="ellipsis"))


def _lines(console: Console) -> Callable[[Progress], None]:
    last, complete = -math.inf, False

    def show(progress: Progress) -> None:
        nonlocal last, complete
        if time.monotonic() - last < _QUIET and (complete or progress.ended < progress.total):
            return
        last, complete = time.monotonic(), progress.ended >= progress.total
        console.print(line(progress, 0), soft_wrap=True)

    return show


def conclude(ended: Trajectory, *, report: bool, as_json: bool) -> None:
    """Say how it ended, write the report, and exit with the status that says so too."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    content = summary(ended)
    first, _, rest = str(content["reason"]).partition("\n")
    if first.startswith("interrupted by"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    console.print(f"{content['state']}: {first}", markup=False)
    if rest:
        console.print(rest, markup=False)
    console.print(counted(content["evaluations"]), markup=False)
    if content["best"]:
        best = content["best"]
        console.print(f"best: individual {best['id']}, {fitness_of(best)}", markup=False)
    if content.get("front"):
        console.print(f"Pareto front: {len(content['front'])} individual(s), which l2l show lists", markup=False)
    if report and len(ended):
        from l2l_dask.dashboard.report import write

        path = ended.layout.root / "report.html"
        try:
            write(ended, path)
            console.print(f"report: {path}", markup=False)
        except Exception as error:  # the search is what counts
            console.print(f"no report: {type(error).__name__}: {error}", markup=False)
    command = "l2l show" if content["state"] == "finished" else "go on with: l2l resume"
    console.print(f"{command} {ended.layout.root}", markup=False)
    if as_json:
        json.dump(content, sys.stdout)
        sys.stdout.write("\n")
    if content["state"] == "failed":
        raise SystemExit(1)
    if first.startswith("interrupted by"):
        raise SystemExit(130)
