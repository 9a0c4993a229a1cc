"""What the workers did and when: from a trajectory's times to what a plot shows, never more than some thousand points.

All times are in seconds since the first individual was submitted. A store knows them once an evaluation has ended; of
those that still run, its driver leaves word of what has run for more than a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2l_dask.evaluation import Ids, Status
from l2l_dask.space import Floats
from l2l_dask.trajectory import Trajectory
from l2l_dask.underway import Underway

_NAMED = 50_000  # rows of which it is looked at who evaluated them: names are slow
_MOST_GENERATIONS = 200
_DECADES = 100.0
_HUGE = 1e100
_PAUSE = 60.0  # seconds at least, in which nothing is evaluated, and longer than any evaluation: nobody was there


@dataclass(frozen=True)
class Gantt:
    """The last evaluations of each worker.

    Attributes
    ----------
    names
        The workers, in the order of their names.
    row, id, start, end, status : (n,) arrays
        Of each evaluation: which of the workers it was on, and when.
    shown
        What part of all that is, in words.
    """

    names: list[str]
    row: Ids
    id: Ids
    start: Floats
    end: Floats
    status: NDArray[Any]
    shown: str


@dataclass(frozen=True)
class Busy:
    """How many workers there were and how many of them evaluated, in slices of the time.

    Attributes
    ----------
    edges : (n + 1,) array
        Where the slices begin and end.
    busy, workers : (n,) arrays
        Means over each slice: a worker counts from its first evaluation to its last, but for pauses of the search.
    shown
        What that is made from, in words.
    """

    edges: Floats
    busy: Floats
    workers: Floats
    shown: str

    @property
    def share(self) -> Floats:
        """Which part of the workers was busy; NaN where there were none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.workers > 0, np.minimum(self.busy / self.workers, 1.0), np.nan)


@dataclass(frozen=True)
class Durations:
    """How long evaluations took.

    Attributes
    ----------
    edges, counts : (n + 1,) and (n,) arrays
    log
        Whether the edges are evenly spaced on a logarithmic axis.
    median, longest
        NaN if none is known.
    shown
        What is counted, in words.
    """

    edges: Floats
    counts: Ids
    log: bool
    median: float
    longest: float
    shown: str


@dataclass(frozen=True)
class Waits:
    """Which part of the workers' time went by in waiting for the last of a generation.

    Attributes
    ----------
    generation, share : (n,) arrays
    shown
        What part of all generations that is, in words.
    """

    generation: Ids
    share: Floats
    shown: str


def began(t: Trajectory) -> float:
    """Return when the first individual was submitted, in seconds since the epoch; 0 if that is not known."""
    head = np.concatenate([t.record[name][:10_000] for name in ("submitted", "started")])
    head = head[_sane(head)]
    return float(head.min()) if len(head) else 0.0


def gantt(t: Trajectory, per_worker: int = 50, most: int = 3000) -> Gantt:
    """Find the last evaluations of each worker: of those that ended last."""
    ids = timed(t)
    finished = t.record["finished"]
    of = len(ids)
    if of > _NAMED:
        ids = np.sort(ids[np.argpartition(finished[ids], of - _NAMED)[-_NAMED:]])
    names, row = _coded(t, ids)
    order = np.lexsort((-finished[ids], row))
    firsts = np.searchsorted(row[order], np.arange(len(names)))
    rank = np.arange(len(ids)) - np.repeat(firsts, np.bincount(row, minlength=len(names)))
    few = max(1, min(per_worker, most // max(1, len(names))))
    chosen = np.sort(order[rank < few])[-most:]
    ids, row = ids[chosen], row[chosen]
    zero = began(t)
    shown = f"{of:,} evaluations" if len(ids) == of else f"the last {len(ids):,} of {of:,} evaluations shown"
    times = (t.record["started"][ids] - zero, finished[ids] - zero)
    shown += f", of {len(names):,} worker{'s' * (len(names) != 1)}"
    return Gantt(names, row, ids, *times, t.record["status"][ids], shown)


@dataclass(frozen=True)
class Running:
    """What runs just now.

    Attributes
    ----------
    names
        All workers: those of a :class:`Gantt`, then those that have ended nothing yet.
    row, id, start : (n,) arrays
        Of each evaluation, as there.
    end
        Now, in the same seconds.
    """

    names: list[str]
    row: Ids
    id: Ids
    start: Floats
    end: float


def running(t: Trajectory, found: Gantt, underway: Sequence[Underway], now: float) -> Running:
    """Find the evaluations that run just now, and add their workers to those of a chart.

    Parameters
    ----------
    now
        In seconds since the epoch.
    """
    status = t.record["status"]
    known = [each for each in underway if each.id < len(status) and status[each.id] == Status.PENDING]
    rows = {name: row for row, name in enumerate(found.names)}
    for name in sorted({each.worker for each in known}.difference(rows)):
        rows[name] = len(rows)
    zero = began(t) or min((each.since for each in known), default=now)  # times are recorded with results
    return Running(
        list(rows),
        np.array([rows[each.worker] for each in known], dtype=np.int64),
        np.array([each.id for each in known], dtype=np.int64),
        np.array([each.since - zero for each in known], dtype=np.float64),
        now - zero,
    )


def busy(t: Trajectory, slices: int = 200) -> Busy:
    """Find out how many workers were busy, from all evaluations."""
    ids, zero = timed(t), began(t)
    if not len(ids):
        return Busy(np.array([0.0, 1.0]), np.zeros(1), np.zeros(1), "no evaluations yet")
    start, end = t.record["started"][ids] - zero, t.record["finished"][ids] - zero
    edges = np.linspace(start.min(), max(end.max(), np.nextafter(start.min(), np.inf)), slices + 1)
    some = ids if len(ids) <= _NAMED else ids[np.linspace(0, len(ids) - 1, _NAMED).astype(np.intp)]
    names, row = _coded(t, some)
    first, last = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    np.minimum.at(first, row, t.record["started"][some] - zero)
    np.maximum.at(last, row, t.record["finished"][some] - zero)
    counted = f"{len(ids):,} evaluations"
    if len(some) < len(ids):
        counted += f", workers from {len(some):,} of them"
    shown = f"means over {slices} slices of the time, from {counted}"
    workers = _at_once(first, last, edges)
    for begin, stop in pauses(t):  # of a resumed search: its workers were not there
        absent = np.array([begin - zero]), np.array([stop - zero])
        workers -= ((first <= absent[0]) & (last >= absent[1])).sum() * _at_once(*absent, edges)
    return Busy(edges, _at_once(start, end, edges), np.maximum(workers, 0.0), shown)


def pauses(t: Trajectory) -> list[tuple[float, float]]:
    """Find when nothing was evaluated for so long that no worker can have been there: from, to, since the epoch."""
    ids = timed(t)
    if not len(ids):
        return []
    order = np.argsort(t.record["started"][ids], kind="stable")
    start, end = t.record["started"][ids][order], t.record["finished"][ids][order]
    before = np.maximum.accumulate(end)[:-1]
    gaps = np.flatnonzero(start[1:] - before > max(_PAUSE, float((end - start).max())))
    return list(zip(before[gaps].tolist(), start[1:][gaps].tolist(), strict=True))


def durations(t: Trajectory, bins: int = 60) -> Durations:
    """Count how long evaluations took."""
    ids = timed(t)
    seconds = t.record["finished"][ids] - t.record["started"][ids]
    seconds = seconds[seconds > 0]
    shown = f"{len(seconds):,} evaluations counted in {bins} bins"
    if not len(seconds):
        return Durations(np.array([0.0, 1.0]), np.zeros(1, dtype=np.int64), False, np.nan, np.nan, "no evaluations yet")
    low, high = float(seconds.min()), float(seconds.max())
    log = high / low > _DECADES
    edges = np.geomspace(low, high, bins + 1) if log else np.linspace(0.0, high, bins + 1)
    edges[[0, -1]] = (low if log else 0.0), high
    counts, _ = np.histogram(seconds, edges)
    return Durations(edges, counts.astype(np.int64), log, float(np.median(seconds)), high, shown)


def waits(t: Trajectory) -> Waits | None:
    """Find out how long workers waited for the last of their generation; None if there are no generations.

    Of a generation, the time from its first start to its last end counts, of each worker that evaluated in it; what a
    worker waited is what came after the last that it evaluated, up to the next that it began, of whatever generation.
    """
    column = t.record.columns.get("generation")
    if column is None or column.ndim != 1:
        return None
    ids = timed(t)
    ids = ids[column[ids] >= 0]
    if not len(ids):
        return Waits(ids, np.empty(0), "no generations yet")
    numbers, sizes = np.unique(column[ids], return_counts=True)
    few = int(max(1, min(len(numbers), _MOST_GENERATIONS, _NAMED // sizes.mean())))
    chosen = numbers[np.unique(np.linspace(0, len(numbers) - 1, few).astype(np.intp))]
    mine = np.isin(column[ids], chosen)
    which = np.searchsorted(chosen, column[ids[mine]])
    opened, closed = np.full(len(chosen), np.inf), np.full(len(chosen), -np.inf)
    np.minimum.at(opened, which, t.record["started"][ids[mine]])
    np.maximum.at(closed, which, t.record["finished"][ids[mine]])
    meanwhile = mine | _within(t.record["started"][ids], opened, closed)
    ids, mine = ids[meanwhile], mine[meanwhile]
    names, row = _coded(t, ids)
    start, end = t.record["started"][ids], t.record["finished"][ids]
    pairs, inverse = np.unique(which * len(names) + row[mine], return_inverse=True)
    last = np.full(len(pairs), -np.inf)
    np.maximum.at(last, inverse, end[mine])
    of = pairs // len(names)
    until = np.minimum(closed[of], _next(start, row, last, pairs % len(names)))
    waited = np.bincount(of, np.maximum(until - last, 0.0), len(chosen))
    whole = np.bincount(of, closed[of] - opened[of], len(chosen))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(whole > 0, waited / whole, 0.0)
    some = f"{len(numbers):,}" if len(chosen) == len(numbers) else f"{len(chosen):,} of {len(numbers):,}"
    return Waits(chosen.astype(np.int64), share, f"{some} generations shown")


def _within(times: Floats, opened: Floats, closed: Floats) -> NDArray[np.bool_]:
    """Tell which times lie in one of some intervals."""
    begun = np.searchsorted(np.sort(opened), times, side="right")
    inside: NDArray[np.bool_] = begun > np.searchsorted(np.sort(closed), times, side="left")
    return inside


def _next(start: Floats, row: Ids, after: Floats, of: Ids) -> Floats:
    """Return when each of some workers began its next evaluation after a time; infinity if it began none."""
    zero = float(start.min())
    span = max(float(start.max()), float(after.max())) - zero + 1.0
    begun = np.sort(row * span + (start - zero))
    place = np.searchsorted(begun, of * span + (after - zero))
    found = np.append(begun, np.inf)[place] - of * span
    starts: Floats = np.where(found < span, found + zero, np.inf)
    return starts


def _sane(times: Floats) -> NDArray[np.bool_]:
    """Tell which times are known, and are times."""
    with np.errstate(invalid="ignore"):
        known: NDArray[np.bool_] = np.abs(times) < _HUGE
    return known


def timed(t: Trajectory) -> Ids:
    """Return whose evaluation is known to have begun and, later, ended."""
    started, finished = t.record["started"], t.record["finished"]
    with np.errstate(invalid="ignore"):
        return np.flatnonzero(_sane(started) & _sane(finished) & (finished >= started))


def _coded(t: Trajectory, ids: Ids) -> tuple[list[str], Ids]:
    """Return the workers' names, sorted, and which of them evaluated each of these rows."""
    found: dict[str, int] = {}
    codes = [found.setdefault(name, len(found)) for name in t.record["worker"][ids].tolist()]
    names = sorted(found)
    place = np.empty(len(names), dtype=np.int64)
    place[[found[name] for name in names]] = np.arange(len(names))
    return names, place[np.array(codes, dtype=np.int64)]


def _at_once(start: Floats, end: Floats, edges: Floats) -> Floats:
    """Return how many intervals overlap on the mean of each slice: exactly, without sorting them."""
    past = _past(start, edges) - _past(end, edges)  # seconds in intervals, up to each edge
    mean: Floats = np.maximum(np.diff(past) / np.diff(edges), 0.0)
    return mean


def _past(times: Floats, edges: Floats) -> Floats:
    """Return for each edge how many seconds it lies after the times before it, summed up."""
    n, width = len(edges) - 1, edges[1] - edges[0]
    since = times - edges[0]  # small numbers, for the sums' sake
    slot = np.clip((since / width).astype(np.int64), 0, n - 1)
    count = np.concatenate([[0], np.cumsum(np.bincount(slot, minlength=n))])
    total = np.concatenate([[0.0], np.cumsum(np.bincount(slot, since, n))])
    past: Floats = count * (edges - edges[0]) - total
    return past
