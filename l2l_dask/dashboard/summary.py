"""What the overview says of a store."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2l_dask.dashboard.data_workers import began, pauses
from l2l_dask.dashboard.times import duration
from l2l_dask.evaluation import FAILURES, Status
from l2l_dask.trajectory import Trajectory
from l2l_dask.trajectory.layout import LIVE
from l2l_dask.underway import Underway

_RECENT = 60.0  # seconds over which a rate is taken
_MOST_CORNERS = 2_000
_FEW = 20  # results, which a rate is made from at least
_ENDED = ("finished", "stopped", "failed")


@dataclass(frozen=True, eq=False)  # arrays have no truth of their own
class Curve:
    """The best so far: from each ``x`` on."""

    x: NDArray[Any] = field(default_factory=lambda: np.empty(0))
    best: NDArray[Any] = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Summary:
    """One line of the overview.

    Attributes
    ----------
    stamp
        Of the files that it was made from.
    state
        Of the driver; empty if the store cannot be read.
    ended, budget, failed
        Individuals with a result, how many there are to be, and how many of the former failed.
    objective, is_maximized
        The first one, and whether more of it is better.
    best
        Fitness by that; None before the first.
    rate
        Evaluations a second: of the last minute or, if these are few, the last twenty; if it has ended, of all, but for
        pauses. None if it is neither, or that is not known.
    workers
        That delivered these, or evaluate now.
    seconds_left
        At this rate; None if it has ended, or that is not known.
    over_evaluations, over_time
        The best so far, by how many had ended, and by seconds since the first was submitted.
    """

    stamp: Any = None
    problem: str = ""
    state: str = ""
    what: str = ""
    ended: int = 0
    budget: int = 0
    failed: int = 0
    objective: str = ""
    is_maximized: bool = False
    best: float | None = None
    rate: float | None = None
    workers: int = 0
    seconds_left: float | None = None
    over_evaluations: Curve = field(default_factory=Curve)
    over_time: Curve = field(default_factory=Curve)

    @property
    def moves(self) -> bool:
        """Whether it changes with time alone."""
        return bool(self.problem) or self.state in LIVE


def stamp(store: Path) -> tuple[int, ...]:
    """Tell versions of a store apart, without reading it."""
    found = []
    for path in (store / "zarr.json", store / ".l2l", store / ".l2l" / "state.json", store / "status"):
        try:
            status = path.stat()
            found += [status.st_mtime_ns, status.st_ino]
        except OSError:
            found += [0, 0]
    return tuple(found)


def summed_up(trajectory: Trajectory, underway: Collection[Underway] = ()) -> Summary:
    """Sum a store up.

    Parameters
    ----------
    underway
        What is evaluated just now.
    """
    record, labels = trajectory.record, trajectory.experiment.get("labels", {})
    status, running = record["status"], trajectory.state == "running"
    named: set[str] = set()
    ended = int((status != Status.PENDING).sum())
    budget = int(trajectory.details.get("evaluations", len(trajectory)))
    rate = None
    if running:
        rate, named = _pace_now(trajectory, time.time())
        named |= {each.worker for each in underway}
    elif trajectory.state in _ENDED:
        rate, named = _pace(trajectory)
    left = max(budget - ended, 0) / rate if running and rate else None
    best, curves = trajectory.best, best_so_far(trajectory)
    return Summary(
        state=trajectory.state,
        what=f"{labels.get('optimizer', '?')} on {labels.get('optimizee', '?')}",
        ended=ended,
        budget=budget,
        failed=int(np.isin(status, FAILURES).sum()),
        objective=trajectory.objectives.names[0],
        is_maximized=trajectory.objectives[0].sign < 0,
        best=None if best is None else next(iter(best.fitness.values())),
        rate=rate,
        workers=len(named),
        seconds_left=left,
        over_evaluations=curves[0],
        over_time=curves[1],
    )


def _pace_now(trajectory: Trajectory, now: float) -> tuple[float | None, set[str]]:
    """Return evaluations a second of late, and which workers delivered them."""
    finished, started = trajectory.record["finished"], trajectory.record["started"]
    known = finished[np.isfinite(finished)]
    if not len(known):
        return None, set()
    # From the end of the one before, on: evaluations may take longer than a minute each.
    before = float(np.partition(known, -_FEW - 1)[-_FEW - 1]) if len(known) > _FEW else -np.inf
    resumed = max((end for _, end in pauses(trajectory)), default=-np.inf)
    since = max(min(now - _RECENT, before), float(np.nanmin(started, initial=np.inf)), resumed)
    rows = np.flatnonzero(finished > since)
    rate = len(rows) / (now - since) if now > since else None
    return rate, set(trajectory.record["worker"][rows].tolist())


def _pace(trajectory: Trajectory) -> tuple[float | None, set[str]]:
    """Return evaluations a second of a search that has ended, and its workers."""
    finished, started = trajectory.record["finished"], trajectory.record["started"]
    rows = np.flatnonzero(np.isfinite(finished))
    if not len(rows):
        return None, set()
    paused = sum(end - begin for begin, end in pauses(trajectory))
    span = float(finished[rows].max() - np.nanmin(started[rows], initial=np.inf)) - paused
    rate = len(rows) / span if np.isfinite(span) and span > 0 else None
    return rate, set(trajectory.record["worker"][rows].tolist())


def best_so_far(trajectory: Trajectory) -> tuple[Curve, Curve]:
    """Follow the best by the first objective: by how many had ended, and by seconds since the first was submitted."""
    record, cost = trajectory.record, trajectory.cost[:, 0]
    ended = np.flatnonzero(record["status"] != Status.PENDING)
    if not len(ended):
        return Curve(), Curve()
    sign = trajectory.objectives[0].sign
    told = ended[np.argsort(record["told"][ended], kind="stable")]
    finished, begun = record["finished"][ended], began(trajectory)
    known = np.flatnonzero(np.isfinite(finished))
    in_time = known[np.argsort(finished[known], kind="stable")]
    return (
        _curve(np.arange(1, len(told) + 1), cost[told], sign),
        _curve(finished[in_time] - begun, cost[ended[in_time]], sign),
    )


def _curve(x: NDArray[Any], cost: NDArray[Any], sign: float) -> Curve:
    """Keep where the best changes, and the end."""
    if not len(x):
        return Curve()
    best = np.minimum.accumulate(np.where(np.isfinite(cost), cost, np.inf))
    keep = np.flatnonzero(best != np.concatenate(([np.inf], best[:-1])))
    keep = np.union1d(keep, [len(best) - 1])
    keep = keep[np.isfinite(best[keep])]  # none ended well before the first of these
    if len(keep) > _MOST_CORNERS:
        keep = keep[np.linspace(0, len(keep) - 1, _MOST_CORNERS).round().astype(int)]
    return Curve(x[keep], best[keep] * sign)


def line(name: str, summary: Summary) -> dict[str, Any]:
    """Say a store's summary in words, beside the numbers to sort by."""
    share = summary.ended / summary.budget if summary.budget else 0.0
    best = summary.best
    return {
        "name": name,
        "what": summary.what,
        "problem": summary.problem,
        "state": summary.state,
        "progress": "" if summary.problem else f"{summary.ended:,} of {summary.budget:,}",
        "best": "" if best is None else f"{best:.6g}",
        "rate": "" if summary.rate is None else f"{_two(summary.rate)}/s",
        "failed": f"{summary.failed:,}" if summary.failed else "",
        "workers": str(summary.workers) if summary.workers else "",
        "left": "" if summary.seconds_left is None else duration(summary.seconds_left, brief=True),
        "sort": {
            "progress": min(share, 1.0),
            "best": best if best is not None and math.isfinite(best) else None,
            "rate": summary.rate,
            "failed": summary.failed,
            "workers": summary.workers,
            "left": summary.seconds_left,
        },
    }


def _two(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
