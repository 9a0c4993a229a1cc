"""The best individuals so far, which are evaluated again at the end."""

from __future__ import annotations

import math

import numpy as np

from l2l_dask.evaluation import Objectives, Status
from l2l_dask.space import Floats
from l2l_dask.trajectory import FINAL, Record


class Finalists:
    """Keeps the ``k`` best different vectors by the first objective; of equals the older.

    Parameters
    ----------
    record
        What there is already.
    """

    def __init__(self, k: int, objectives: Objectives, record: Record) -> None:
        self._k, self._objectives = k, objectives
        self._best: dict[bytes, tuple[float, int, Floats]] = {}
        self._worst = math.inf  # what a newcomer has to beat
        if k:
            done = np.flatnonzero((record["status"] == Status.DONE) & (record["origin"] != FINAL))
            for id in done.tolist():
                self.note(id, record["x"][id], record["fitness"][id])

    def note(self, id: int, x: Floats, fitness: Floats) -> None:
        """Take one more individual into account."""
        cost = float(self._objectives.cost(fitness)[0])
        if not self._k or cost > self._worst:
            return
        key = x.tobytes()
        self._best[key] = min(self._best.get(key, (math.inf, id, x)), (cost, id, x), key=lambda entry: entry[:2])
        if len(self._best) > self._k:
            del self._best[max(self._best, key=lambda key: self._best[key][:2])]
        if len(self._best) == self._k:
            self._worst = max(cost for cost, _, _ in self._best.values())

    def best(self) -> tuple[list[int], Floats]:
        """Return their ids and encoded vectors, the best first."""
        ranked = sorted(self._best.values(), key=lambda entry: entry[:2])
        return [id for _, id, _ in ranked], np.array([x for _, _, x in ranked])
