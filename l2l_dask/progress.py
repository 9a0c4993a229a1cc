"""How far an experiment is."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from l2l_dask.evaluation import Evaluation, Objectives, Status
from l2l_dask.trajectory import Record


@dataclass(frozen=True)
class Progress:
    """How far an experiment is.

    Attributes
    ----------
    ended, failed, stopped
        Individuals with a result, how many of those failed, and how many were stopped early.
    total
        The budget.
    best
        Fitness of the best by the first objective, in the user's direction; None before the first.
    in_flight, slots
        Individuals on their way, and evaluations that can run at once.
    seconds
        Since this driver started.
    rate
        Evaluations per second of late.
    demand
        Individuals that could be on their way at this moment, were there slots for all.
    waits
        Which workers are waited for, and why; empty if none are or it is not known.
    """

    ended: int
    failed: int
    total: int
    best: float | None
    in_flight: int
    slots: int
    paused: bool
    stopping: bool
    seconds: float
    rate: float
    stopped: int = 0
    demand: int = 0
    waits: str = ""

    @property
    def seconds_left(self) -> float | None:
        return (self.total - self.ended) / self.rate if self.rate > 0 else None


class Meter:
    """Counts what has ended, for the progress line."""

    _SPAN = 15.0  # seconds that the rate looks back

    def __init__(self, record: Record, objectives: Objectives) -> None:
        self._objectives = objectives
        status = record["status"]
        self._ended = int((status != Status.PENDING).sum())
        self._stopped = int((status == Status.STOPPED).sum())
        self._failed = self._ended - self._stopped - int((status == Status.DONE).sum())
        cost = self._objectives.cost(record["fitness"])[:, 0]
        self._best = float(np.nanmin(cost)) if not np.isnan(cost).all() else np.inf
        self._started = time.monotonic()
        self._recent: deque[tuple[float, int]] = deque([(self._started, self._ended)])
        self.mean_seconds = 0.0

    def count(self, e: Evaluation) -> None:
        """Take one more result into account."""
        self._ended += 1
        if e.status is Status.DONE:
            self._best = min(self._best, float(self._objectives.cost(np.array(e.fitness))[0]))
        elif e.status is Status.STOPPED:
            self._stopped += 1
        else:
            self._failed += 1
        if e.seconds > 0:
            self.mean_seconds = e.seconds if not self.mean_seconds else 0.9 * self.mean_seconds + 0.1 * e.seconds

    def progress(self, total: int, in_flight: int, slots: int, *, paused: bool, stopping: bool) -> Progress:
        """Sum up."""
        now = time.monotonic()
        self._recent.append((now, self._ended))
        while len(self._recent) > 2 and self._recent[0][0] < now - self._SPAN:
            self._recent.popleft()
        then, before = self._recent[0]
        rate = (self._ended - before) / (now - then) if now > then else 0.0
        best = None
        if np.isfinite(self._best):
            padded = np.full(len(self._objectives), self._best)
            best = float(self._objectives.cost(padded)[0])
        seconds = now - self._started
        return Progress(
            self._ended, self._failed, total, best, in_flight, slots, paused, stopping, seconds, rate, self._stopped
        )
