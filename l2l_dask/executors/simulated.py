"""Evaluation on a virtual cluster."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from l2l_dask.evaluating import Where, evaluate
from l2l_dask.evaluation import Candidate, Evaluation, individual_seed
from l2l_dask.executors.base import Executor
from l2l_dask.optimizee import Optimizee


class Simulated(Executor):
    """A virtual cluster: fitness is computed in place, time passes on a virtual clock.

    Parameters
    ----------
    workers
        Number of virtual workers, one slot each.
    seconds
        ``(candidate, rng) -> duration``; the generator is the individual's own.
    """

    virtual = True

    def __init__(self, workers: int, seconds: Callable[[Candidate, np.random.Generator], float]) -> None:
        self._workers = workers
        self._seconds = seconds
        self._now = 0.0
        self._running: list[tuple[float, int, int, float, Candidate]] = []  # finish, id, worker, start, candidate
        self._idle = list(range(workers))
        self._waiting: deque[tuple[float, Candidate]] = deque()

    def start(self, optimizee: Optimizee, where: Where) -> None:
        self._optimizee, self._where = optimizee, where
        optimizee.setup()

    @property
    def slots(self) -> int:
        return self._workers

    @property
    def now(self) -> float:
        """The virtual time in seconds."""
        return self._now

    def submit(self, candidates: Sequence[Candidate]) -> None:
        self._waiting.extend((self._now, candidate) for candidate in candidates)
        while self._waiting and self._idle:
            _, candidate = self._waiting.popleft()
            rng = np.random.default_rng(individual_seed(candidate.seed, candidate.id).spawn(1)[0])
            finish = self._now + self._seconds(candidate, rng)
            heapq.heappush(self._running, (finish, candidate.id, heapq.heappop(self._idle), self._now, candidate))

    def collect(self, timeout: float) -> list[Evaluation]:
        if not self._running:
            time.sleep(timeout)
            return []
        self._now, _, slot, started, candidate = heapq.heappop(self._running)
        heapq.heappush(self._idle, slot)
        result = evaluate(self._optimizee, candidate, self._where)
        self.submit([])
        result = replace(result, submitted=started, started=started, finished=self._now)
        return [replace(result, worker=f"virtual-{slot}", host="virtual")]

    def close(self) -> None:
        self._running.clear()
        self._waiting.clear()
