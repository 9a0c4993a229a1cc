"""The best individuals so far, which are evaluated again at the end."""

from __future__ import annotations

import heapq

import numpy as np

from l2l_dask.evaluation import Objectives, Status
from l2l_dask.space import Floats
from l2l_dask.trajectory import FINAL, Record


class Finalists:
    """Keeps the ``k`` best by the first objective; of equals the older.

    Parameters
    ----------
    record
        What there is already.
    """

    def __init__(self, k: int, objectives: Objectives, record: Record) -> None:
        self._k, self._objectives = k, objectives
        self._heap: list[tuple[float, int, Floats]] = []  # the worst first
        if k:
            done = np.flatnonzero((record["status"] == Status.DONE) & (record["origin"] != FINAL))
            for id in done.tolist():
                self.note(id, record["x"][id], record["fitness"][id])

    def note(self, id: int, x: Floats, fitness: Floats) -> None:
        """Take one more individual into account."""
        cost = float(self._objectives.cost(fitness)[0])
        if len(self._heap) < self._k:
            heapq.heappush(self._heap, (-cost, -id, x))
        elif self._k and (-cost, -id) > self._heap[0][:2]:
            heapq.heapreplace(self._heap, (-cost, -id, x))

    def best(self) -> tuple[list[int], Floats]:
        """Return their ids and encoded vectors, the best first."""
        ranked = sorted(self._heap, key=lambda entry: entry[:2], reverse=True)
        return [-id for _, id, _ in ranked], np.array([x for _, _, x in ranked])
