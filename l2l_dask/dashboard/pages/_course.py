"""How a search went: in what order individuals ended, the best so far, generations, and the Pareto front."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from l2l_dask.dashboard.data_workers import began
from l2l_dask.dashboard.pages import _common as common
from l2l_dask.evaluation import Ids
from l2l_dask.pareto import non_dominated
from l2l_dask.space import Floats
from l2l_dask.trajectory import FINAL, Trajectory

if TYPE_CHECKING:
    from l2l_dask.dashboard.followed import Followed

MOST_GENERATIONS, MOST_OF_ONE, MOST_CORNERS = 200, 500, 2_000
VOLUME_POINTS = 8_192
_CHECKPOINTS, _PIVOTS, _MANY = 60, 30, 1_000


class Course:
    """The order in which individuals ended, and the best so far: kept up by what is new.

    Attributes
    ----------
    version
        Of the store that it is of.
    number : (n,) array
        Who was told to the optimizer first, second, ...; 0 for those that were not yet.
    ended
        How many were.
    began
        When the first was submitted.
    best
        By each objective.
    front
        With several objectives.
    """

    def __init__(self, objectives: int) -> None:
        self.version = -1
        self.number = np.zeros(0, dtype=np.int32)
        self.ended = 0
        self.began = self._last = 0.0
        self.best = [Best() for _ in range(objectives)]
        self.front = Front() if objectives > 1 else None

    def follow(self, t: Trajectory) -> None:
        """Take in who ended since the last time."""
        told = t.record["told"]
        self.number = np.append(self.number, np.zeros(len(t) - len(self.number), dtype=np.int32))
        # Not by the number of the event: a reader may see one part of those told together before the other.
        new = np.flatnonzero((told >= 0) & (self.number == 0))
        if not len(new):
            return
        if (np.diff(told[new]) < 0).any():
            new = new[np.argsort(told[new], kind="stable")]
        if not self.ended:
            self.began = began(t)
        number = np.arange(self.ended + 1, self.ended + len(new) + 1)
        self.number[new] = number
        self.ended += len(new)
        seconds = t.record["finished"][new] - self.began
        seconds = np.maximum.accumulate(np.where(np.isfinite(seconds), seconds, self._last))
        self._last = max(self._last, float(seconds[-1]))
        for k, best in enumerate(self.best):
            best.follow(t.cost[new, k], number, np.maximum(seconds, 0.0))
        if self.front is not None:
            self.front.follow(t, new, self.ended)


def course(followed: Followed) -> Course:
    """Return a store's course as it is now; all viewers share it."""
    with followed.course_lock:
        version, trajectory = followed.version, followed.trajectory
        known = followed.course = followed.course or Course(len(trajectory.objectives))
        if known.version != version:
            known.follow(trajectory)
            known.version = version
    return known


@dataclass
class Best:
    """The best so far: as a cost, after which evaluation, and known after how many seconds; the end is the last."""

    number: Floats = field(default_factory=lambda: np.empty(0))
    seconds: Floats = field(default_factory=lambda: np.empty(0))
    cost: Floats = field(default_factory=lambda: np.empty(0))

    def follow(self, cost: Floats, number: NDArray[Any], seconds: Floats) -> None:
        """Take in costs in the order in which they came."""
        cost = np.where(np.isnan(common.finite(cost)), np.inf, cost)
        before = self.cost[-1] if len(self.cost) else np.inf
        best = np.minimum.accumulate(np.minimum(cost, before))
        keep = np.flatnonzero(np.diff(best, prepend=before) < 0) if np.isfinite(before) else _falls(best)
        if not len(keep) and not len(self.cost):
            return
        keep = np.append(keep, len(best) - 1)
        kept = slice(0, max(0, len(self.cost) - 1))  # the end was where it is no more
        self.number = np.append(self.number[kept], number[keep])
        self.seconds = np.append(self.seconds[kept], seconds[keep])
        self.cost = np.append(self.cost[kept], best[keep])
        if len(self.cost) > MOST_CORNERS:
            some = np.linspace(0, len(self.cost) - 1, MOST_CORNERS // 2).round().astype(int)
            self.number, self.seconds, self.cost = self.number[some], self.seconds[some], self.cost[some]


def _falls(best: Floats) -> NDArray[np.intp]:
    """Tell where the first best is, and where it gets better."""
    known = np.flatnonzero(np.isfinite(best))
    return known[np.flatnonzero(np.diff(best[known], prepend=np.inf) < 0)]


@dataclass(frozen=True)
class Generations:
    """Fitness in each of some generations."""

    number: Ids
    median: Floats
    quartile: Floats
    three: Floats
    best: Floats
    of: int


def generations(t: Trajectory, objective: int) -> Generations | None:
    """Sum generations up, evenly chosen where there are many; None where there are none."""
    column = t.record.columns.get("generation")
    if column is None or column.ndim != 1:
        return None
    ids = np.flatnonzero((column >= 0) & np.isfinite(t.cost[:, objective]))
    of = column[ids]
    if (np.diff(of) < 0).any():
        ids = ids[np.argsort(of, kind="stable")]
        of = column[ids]
    starts = np.flatnonzero(np.diff(of, prepend=of[:1] - 1 if len(of) else 0))
    ends = np.append(starts[1:], len(ids))
    some = np.unique(np.linspace(0, len(starts) - 1, min(len(starts), MOST_GENERATIONS)).round().astype(int))
    rows = []
    for start, end in zip(starts[some].tolist(), ends[some].tolist(), strict=True):
        cost = t.cost[ids[start:end], objective]
        part = np.sort(cost[:: -(-len(cost) // MOST_OF_ONE)])
        rows.append((*(part[int(q * (len(part) - 1) + 0.5)] for q in (0.25, 0.5, 0.75)), cost.min()))
    table = np.array(rows).reshape(-1, 4) * common.sign(t, objective)
    first, middle, third, best = (common.finite(values) for values in table.T)
    return Generations(of[starts[some]].astype(np.int64), middle, first, third, best, len(starts))


@dataclass
class Front:
    """The Pareto front, and how much of a box it dominates.

    The box reaches from the best by each objective to the worst of the front and a tenth more. How much of it is
    dominated is counted at points that fill it evenly.

    Attributes
    ----------
    ids
        The front, of those that have ended up to now.
    number, volume
        After how many evaluations which share of the box was dominated.
    ideal, reference
        The corners of the box, as costs.
    """

    ids: Ids = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    number: list[int] = field(default_factory=list)
    volume: list[float] = field(default_factory=list)
    ideal: Floats = field(default_factory=lambda: np.empty(0))
    reference: Floats = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        self._came: list[tuple[int, Ids]] = []  # after how many evaluations who came to the front

    def follow(self, t: Trajectory, ids: Ids, ended: int) -> None:
        """Take in who ended: ``ids``, in that order, and with them so many."""
        counted = len(self._came)
        parts = min(_CHECKPOINTS, max(1, len(ids) // 50)) if len(ids) > 1000 or not counted else 1
        cuts = np.unique(np.linspace(0, len(ids), parts + 1).astype(int)).tolist()
        for start, end in pairwise(cuts):
            before = self.ids
            self.ids = _fronted(t.cost, np.union1d(before, _usable(t, ids[start:end])), before)
            self._came.append((ended - len(ids) + end, np.setdiff1d(self.ids, before, assume_unique=True)))
        if not len(self.ids):
            return
        if self._fits(t.cost[self.ids]):
            self._count(t.cost, self._came[counted:])
        else:
            self._choose(t.cost[self.ids])
            self._count(t.cost, self._came)
        if len(self.number) > 4 * _CHECKPOINTS:
            self.number, self.volume = self.number[1::2], self.volume[1::2]

    def _fits(self, cost: Floats) -> bool:
        """Tell whether the box is still good."""
        return bool(len(self.ideal)) and bool((cost >= self.ideal - 0.02 * (self.reference - self.ideal)).all())

    def _choose(self, cost: Floats) -> None:
        """Choose another box."""
        best, worst = cost.min(axis=0), cost.max(axis=0)
        width = np.where(worst > best, worst - best, np.maximum(np.abs(worst), 1e-12))
        self.ideal, self.reference = best, worst + 0.1 * width
        self._points = best + _even(len(best)) * (self.reference - best)
        self._free = np.arange(len(self._points))
        self.number, self.volume = [], []

    def _count(self, cost: Floats, came: list[tuple[int, Ids]]) -> None:
        """Note how much of the box is dominated after each of some steps."""
        for number, ids in came:
            for point in cost[ids]:
                self._free = self._free[~(self._points[self._free] >= point).all(axis=1)]
            self.number.append(number)
            self.volume.append(1 - len(self._free) / VOLUME_POINTS)


def _usable(t: Trajectory, ids: Ids) -> Ids:
    cost = common.finite(t.cost[ids])
    usable: Ids = ids[~np.isnan(cost).any(axis=1) & (t.record["origin"][ids] != FINAL)]
    return usable


def _fronted(cost: Floats, ids: Ids, good: Ids) -> Ids:
    """Return who of these nobody beats; ``good`` are some that beat many."""
    values = cost[ids]
    if len(ids) > _MANY and not len(good):
        ranks = (values - values.min(axis=0)) / np.maximum(np.ptp(values, axis=0), 1e-300)
        good = ids[np.argpartition(ranks.sum(axis=1), _PIVOTS)[:_PIVOTS]]
    for pivot in cost[good[:: max(1, len(good) // _PIVOTS)]]:
        if len(ids) < _MANY:
            break
        keep = np.zeros(len(ids), dtype=bool)
        for column, value in zip(values.T, pivot, strict=True):
            keep |= column < value
        keep |= (values == pivot).all(axis=1)
        ids, values = ids[keep], values[keep]
    front: Ids = ids[non_dominated(values)]
    return front


def _even(dimensions: int) -> Floats:
    """Fill the unit cube evenly: Kronecker's sequence of the powers of the generalised golden ratio."""
    ratio = 2.0
    for _ in range(50):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    steps = ratio ** -np.arange(1.0, dimensions + 1)
    points: Floats = (0.5 + np.arange(1, VOLUME_POINTS + 1)[:, None] * steps) % 1
    return points


def histogram(values: Floats, edges: Floats) -> Floats:
    """Return the share of values in each bin; those beyond count in no bin, but in the whole."""
    counts, _ = np.histogram(values[~np.isnan(values)], edges)
    share: Floats = counts / max(1, len(values))
    return share
