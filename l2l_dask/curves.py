"""The learning curves of individuals that the optimizer was not told yet: what of them it has seen, and who is to stop.

An optimizer sees each point once, also where an individual is evaluated again, with the same seed and so the same
curve: after a crash, or by a driver that took over. It sees all of them before it is told the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from l2l_dask.evaluation import Evaluation, Status
from l2l_dask.optimizer import Optimizer
from l2l_dask.reports import CURVE, Point, Points, Report, Reports
from l2l_dask.trajectory import Record

_AGAIN = 1.0  # seconds after which one that goes on reporting is told again that it is to stop


def observes(optimizer: Optimizer) -> bool:
    """Tell whether an optimizer looks at learning curves: for all others they do not travel while it runs."""
    return getattr(optimizer._observe, "__func__", None) is not Optimizer._observe


def decided(optimizer: Optimizer, reports: Reports) -> tuple[int, ...]:
    """Ask an optimizer which individuals are to stop, ascending."""
    return tuple(sorted({int(id) for id in optimizer.observe(dict(reports))}))


@dataclass
class _Curve:
    seen: list[Point] = field(default_factory=list)
    place: str = ""  # where it is evaluated
    ordered: float = -np.inf  # when it was told to stop


class Curves:
    """Keeps account of learning curves.

    Parameters
    ----------
    record
        What happened before.
    known
        Tells whether an individual was asked and is not told yet.
    """

    def __init__(self, record: Record, known: Callable[[int], bool]) -> None:
        self._known = known
        self._curves: dict[int, _Curve] = {}
        self._stopping: set[int] = set()
        for event in record.observations():
            for id, points in (event.reports or {}).items():
                if known(id):
                    self._curve(id).seen += points
            self._stopping.update(id for id in event.stop if known(id))

    def _curve(self, id: int) -> _Curve:
        return self._curves.setdefault(id, _Curve())

    def new(self, reports: Iterable[Report]) -> dict[int, Points]:
        """Return what the optimizer has not seen yet, by id, and take it for seen."""
        found: dict[int, list[Point]] = {}
        for report in reports:
            if not self._known(report.id):
                continue
            curve = self._curve(report.id)
            curve.place = report.place or curve.place
            points = report.points[max(0, len(curve.seen) - report.first) :]
            if points and report.first <= len(curve.seen):  # else one before it was lost: the result brings them all
                curve.seen += points
                found.setdefault(report.id, []).extend(points)
        return {id: tuple(found[id]) for id in sorted(found)}

    def is_stopping(self, id: int) -> bool:
        return id in self._stopping

    def stop(self, ids: Iterable[int]) -> None:
        """Note that individuals are to stop."""
        self._stopping.update(ids)

    def orders(self, ids: Iterable[int]) -> dict[int, str]:
        """Return where those of them are that are to stop and were not told of late."""
        now, orders = time.monotonic(), {}
        for id in self._stopping.intersection(ids):
            curve = self._curve(id)
            if now - curve.ordered > _AGAIN:
                curve.ordered = now
                orders[id] = curve.place
        return orders

    def stopped(self, id: int, attempt: int) -> Evaluation:
        """Return the result of one that is to stop and need not be evaluated again for that."""
        return self.whole(Evaluation(id, Status.STOPPED, attempt))

    def whole(self, e: Evaluation) -> Evaluation:
        """Give one that was stopped the curve for which it was, should it have begun anew since."""
        seen = self._curves[e.id].seen if e.id in self._curves else []
        if e.status is not Status.STOPPED or len(seen) <= len(e.curve):
            return e
        arrays = {**e.arrays, CURVE: np.array(seen)}
        return replace(
            e, curve=tuple(seen), saved=tuple({**dict.fromkeys(e.saved), CURVE: None}), arrays=arrays, stored=False
        )

    def forget(self, ids: Sequence[int]) -> None:
        """Let go what the optimizer was told."""
        for id in ids:
            self._curves.pop(id, None)
        self._stopping.difference_update(ids)
