"""Evaluation in place."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, chdir, nullcontext
from dataclasses import replace

from l2l_dask.capture import Capture
from l2l_dask.evaluating import Where, described, evaluate_all
from l2l_dask.evaluation import Candidate, Evaluation, Status
from l2l_dask.executors.base import Executor
from l2l_dask.optimizee import Optimizee


class Serial(Executor):
    """One after the other, in this very process: for debugging, and for functions that cost nothing.

    Evaluations are not shielded: one that hangs or crashes takes the driver with it.

    Parameters
    ----------
    cwd
        The folder to evaluate in; this process goes back to its own after each.
    show_output
        Whether evaluations may print. Otherwise it is kept with those that fail.
    """

    def __init__(self, cwd: str | None = None, *, show_output: bool = False) -> None:
        self._cwd, self._show_output = cwd or ".", show_output
        self._capture: Capture | None = None
        self._waiting: deque[Candidate] = deque()

    def start(self, optimizee: Optimizee, where: Where) -> None:
        self._optimizee, self._where = optimizee, where
        self._problem, self._capture = "", None if self._show_output else Capture()
        try:
            with self._quiet(), chdir(self._cwd):
                optimizee.setup()
        except Exception as error:
            self._problem = described(error) + self._printed()

    @property
    def slots(self) -> int:
        return 1

    def submit(self, candidates: Sequence[Candidate]) -> None:
        self._waiting.extend(candidates)

    @property
    def capacity(self) -> int:
        return self._optimizee.batch_size

    @property
    def quantum(self) -> int:
        return self._optimizee.batch_size

    def collect(self, timeout: float) -> list[Evaluation]:
        if not self._waiting:
            time.sleep(timeout)
            return []
        n = min(len(self._waiting), self._optimizee.batch_size)
        submitted, candidates = time.time(), [self._waiting.popleft() for _ in range(n)]
        if self._problem:
            return [
                Evaluation(c.id, Status.FAILED, c.attempt, error=self._problem, worker="serial") for c in candidates
            ]
        with self._quiet(), chdir(self._cwd):
            ended = evaluate_all(self._optimizee, candidates, self._where, listener=self.listener)
        ended = [replace(e, error=e.error + self._printed()) if e.error else e for e in ended]
        return [replace(e, submitted=submitted, worker="serial") for e in ended]

    def _quiet(self) -> AbstractContextManager[None]:
        return nullcontext() if self._capture is None else self._capture()

    def _printed(self) -> str:
        return "" if self._capture is None else self._capture.tail()

    def close(self) -> None:
        self._waiting.clear()
        if self._capture is not None:
            self._capture.close()
