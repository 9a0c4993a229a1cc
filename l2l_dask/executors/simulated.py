"""Evaluation on a virtual cluster."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from l2l_dask.evaluating import Where, evaluate
from l2l_dask.evaluation import Candidate, Evaluation, Status, individual_seed
from l2l_dask.executors.base import Executor
from l2l_dask.optimizee import Optimizee
from l2l_dask.reports import CURVE, Report


class Simulated(Executor):
    """A virtual cluster: fitness is computed in place, time passes on a virtual clock.

    Where a search looks at learning curves, an evaluation's reports are spread evenly over its time.

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
        # Where there is a listener: what will come of those that run; and when, of whom, and which point is reported.
        self._results: dict[int, Evaluation] = {}
        self._reports: list[tuple[float, int, int]] = []

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
            if self.listener is not None:
                self._announce(candidate, finish)

    def _announce(self, candidate: Candidate, finish: float) -> None:
        """Evaluate at once, to know what will be reported when: the first report is what is waited for next."""
        result = self._results[candidate.id] = evaluate(self._optimizee, candidate, self._where)
        n = len(result.curve)
        for i in range(n):
            when = self._now + (finish - self._now) * (i + 1) / (n + 1)
            heapq.heappush(self._reports, (when, candidate.id, i))

    def _listen(self) -> None:
        """Pass on what is reported before the next evaluation ends, and end those that are stopped."""
        while self._reports and self._reports[0][0] <= self._running[0][0]:
            self._now, id, i = heapq.heappop(self._reports)
            result = self._results.get(id)
            if result is None or result.status is Status.STOPPED or self.listener is None:
                continue
            if self.listener(Report(id, i, (result.curve[i],))):
                curve = result.curve[: i + 1]
                arrays = {CURVE: np.array(curve)}
                self._results[id] = replace(
                    result,
                    status=Status.STOPPED,
                    fitness=(),
                    error="",
                    curve=curve,
                    saved=(CURVE,),
                    stored=False,
                    arrays=arrays,
                )
                self._running = [(self._now, *run[1:]) if run[1] == id else run for run in self._running]
                heapq.heapify(self._running)

    def collect(self, timeout: float) -> list[Evaluation]:
        if not self._running:
            time.sleep(timeout)
            return []
        self._listen()
        self._now, _, slot, submitted, started, candidate = heapq.heappop(self._running)
        heapq.heappush(self._idle, slot)
        result = self._results.pop(candidate.id, None) or evaluate(self._optimizee, candidate, self._where)
        self._begin()
        worker = f"virtual-{slot}"
        ended = replace(result, submitted=submitted, started=started, finished=self._now, worker=worker, host="virtual")
        return [ended]

    def close(self) -> None:
        self._running.clear()
        self._waiting.clear()
        self._results.clear()
        self._reports.clear()
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
