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
        ``(candidate, rng) -> duration``; the generator is the individual's own, until the function returns. What it
        draws depends on the experiment's seed and the individual's id alone.
    """

    virtual = True

    def __init__(self, workers: int, seconds: Callable[[Candidate, np.random.Generator], float]) -> None:
        self._workers = workers
        self._seconds = seconds
        self._draws: dict[int, _Draws] = {}
        self._now = 0.0
        # finish, id, worker, submission, start, candidate
        self._running: list[tuple[float, int, int, float, float, Candidate]] = []
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
        self._begin()

    def _begin(self) -> None:
        while self._waiting and self._idle:
            submitted, candidate = self._waiting.popleft()
            if candidate.seed not in self._draws:
                self._draws[candidate.seed] = _Draws(candidate.seed)
            finish = self._now + self._seconds(candidate, self._draws[candidate.seed].of(candidate.id))
            slot = heapq.heappop(self._idle)
            heapq.heappush(self._running, (finish, candidate.id, slot, submitted, self._now, candidate))

    def collect(self, timeout: float) -> list[Evaluation]:
        if not self._running:
            time.sleep(timeout)
            return []
        self._now, _, slot, submitted, started, candidate = heapq.heappop(self._running)
        heapq.heappush(self._idle, slot)
        result = evaluate(self._optimizee, candidate, self._where)
        self._begin()
        worker = f"virtual-{slot}"
        ended = replace(result, submitted=submitted, started=started, finished=self._now, worker=worker, host="virtual")
        return [ended]

    def close(self) -> None:
        self._running.clear()
        self._waiting.clear()
        self._idle = list(range(self._workers))


class _Draws:
    """One random generator that begins anew for each individual, which costs a fortieth of making one.

    Philox numbers are a function of a key and a counter: the key is the experiment's, and the individual's id is a part
    of the counter that no individual's own draws reach.
    """

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Philox(individual_seed(seed, 0).spawn(1)[0])
        self._rng = np.random.Generator(self._bits)
        self._start = self._bits.state

    def of(self, id: int) -> np.random.Generator:
        self._start["state"]["counter"][2] = id
        self._bits.state = self._start
        return self._rng
