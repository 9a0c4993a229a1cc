"""How far an experiment is."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from l2l_dask.evaluation import Evaluation, Objectives, Status
from l2l_dask.trajectory import Record

_BAR = 20  # characters


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
    def share(self) -> float:
        """Of the budget that has ended."""
        return self.ended / max(self.total, 1)

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


def bar(share: float) -> str:
    """Draw a share in characters."""
    done = min(_BAR, int(_BAR * share))
    return "━" * done + "─" * (_BAR - done)


def line(p: Progress, width: int) -> str:
    """Put progress into a line; the less important parts go first where the terminal is narrow."""
    drawn = f"{bar(p.share)} {p.ended}/{p.total}"
    waits = f"stopping: waits for {p.in_flight} running (Ctrl-C again: at once)" if p.stopping else ""
    parts = [drawn, *words(p, waits)]
    while width and len(parts) > 2 and len("  ".join(parts)) > width:
        parts.pop()
    return "  ".join(parts)


def words(p: Progress, stopping: str = "") -> list[str]:
    """Say in words how it goes, the most important first; ``stopping`` replaces what is said while it stops."""
    left = "" if p.seconds_left is None or p.ended >= p.total else f"{clock(p.seconds_left)} left"
    parts = [
        (stopping or f"stopping: waits for {p.in_flight} running") if p.stopping else _doing(p),
        "" if p.best is None else f"best {p.best:.6g}",
        f"{p.failed} failed" if p.failed else "",
        f"{p.stopped} stopped early" if p.stopped else "",
        left,
        f"{p.rate:.3g}/s",
        f"{min(p.in_flight, p.slots)}/{p.slots} workers busy",
        clock(p.seconds),
    ]
    return [part for part in parts if part]


def _doing(p: Progress) -> str:
    if p.paused:
        return "paused"
    if p.slots == 0:
        return f"waiting for workers: {p.waits}" if p.waits else "waiting for workers"
    return p.waits


def clock(seconds: float) -> str:
    """Write seconds as a clock does."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
