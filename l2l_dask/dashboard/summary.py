"""What the overview says of a store."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2l_dask.evaluation import Status
from l2l_dask.trajectory import Trajectory

_RECENT = 60.0  # seconds over which a rate is taken
_MOST_CORNERS = 2_000
_FAILED = (Status.FAILED, Status.TIMED_OUT, Status.CRASHED)


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
    best
        Fitness by the first objective; None before the first.
    rate
        Evaluations a second in the last minute, over all if it has ended; None if it is not known.
    workers
        That delivered anything in the last minute, or ever if it has ended.
    seconds_left
        At this rate; None if it has ended, or that is not known.
    over_evaluations, over_time
        The best so far, by how many had ended, and by seconds after the first began.
    """

    stamp: Any
    problem: str = ""
    state: str = ""
    what: str = ""
    ended: int = 0
    budget: int = 0
    failed: int = 0
    objective: str = ""
    best: float | None = None
    rate: float | None = None
    workers: int = 0
    seconds_left: float | None = None
    over_evaluations: Curve = field(default_factory=Curve)
    over_time: Curve = field(default_factory=Curve)

    @property
    def moves(self) -> bool:
        """Whether it changes with time alone."""
        return bool(self.problem) or self.state in ("running", "paused", "queued")


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


def summed_up(trajectory: Trajectory, stamp: Any) -> Summary:
    """Sum a store up."""
    record, labels = trajectory.record, trajectory.experiment.get("labels", {})
    status, running = record["status"], trajectory.state == "running"
    ended = int((status != Status.PENDING).sum())
    budget = int(trajectory.details.get("evaluations", len(trajectory)))
    rate, workers = _pace(trajectory, recent=running)
    left = max(budget - ended, 0) / rate if running and rate else None
    best, curves = trajectory.best, best_so_far(trajectory)
    return Summary(
        stamp=stamp,
        state=trajectory.state,
        what=f"{labels.get('optimizer', '?')} on {labels.get('optimizee', '?')}",
        ended=ended,
        budget=budget,
        failed=int(np.isin(status, _FAILED).sum()),
        objective=trajectory.objectives.names[0],
        best=None if best is None else next(iter(best.fitness.values())),
        rate=rate,
        workers=workers,
        seconds_left=left,
        over_evaluations=curves[0],
        over_time=curves[1],
    )


def _pace(trajectory: Trajectory, *, recent: bool) -> tuple[float | None, int]:
    """Return evaluations a second, and how many workers delivered them."""
    record = trajectory.record
    finished = record["finished"]
    if recent:
        now = time.time()
        rows = np.flatnonzero(finished > now - _RECENT)
        begun = float(np.nanmin(record["started"], initial=np.inf))
        span = min(_RECENT, now - begun)
    else:
        rows = np.flatnonzero(np.isfinite(finished))
        span = float(finished[rows].max() - np.nanmin(record["started"][rows], initial=np.inf)) if len(rows) else 0.0
    rate = len(rows) / span if np.isfinite(span) and span > 0 else None
    return rate, len(set(record["worker"][rows].tolist()))


def best_so_far(trajectory: Trajectory) -> tuple[Curve, Curve]:
    """Follow the best by the first objective: by how many had ended, and by seconds after the first began."""
    record, cost = trajectory.record, trajectory.cost[:, 0]
    ended = np.flatnonzero(record["status"] != Status.PENDING)
    if not len(ended):
        return Curve(), Curve()
    sign = trajectory.objectives.cost(np.ones(len(trajectory.objectives)))[0]
    told = ended[np.argsort(record["told"][ended], kind="stable")]
    finished, begun = record["finished"][ended], np.nanmin(record["started"][ended], initial=np.inf)
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
