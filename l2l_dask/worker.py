"""What a Dask worker does for an experiment: it keeps one warm child process for each of its slots.

The optimizee travels once to each worker, as opaque bytes inside a worker plugin, and is opened in the child alone: an
import that fails there is a recorded error, never a dead worker.
"""

from __future__ import annotations

import logging
import math
import pickle
import queue
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import numpy as np
from distributed import Reschedule, Worker, WorkerPlugin, get_worker

from l2l_dask.child import Payload
from l2l_dask.evaluation import Candidate, Evaluation
from l2l_dask.process import Child, ClosedError
from l2l_dask.reports import Point, Report

_PACE = 0.05  # seconds between two messages with reports: what comes meanwhile travels together


class EvaluationPlugin(WorkerPlugin):
    """One experiment's processes on a worker.

    Parameters
    ----------
    name
        Unique for each driver.
    payload
        What is evaluated.
    timeout
        Seconds per evaluation; None for no limit.
    resources
        What one evaluation takes of the worker's.
    local
        Whether the worker belongs to the driver's own terminal: then Ctrl-C is the driver's business.
    """

    def __init__(
        self, name: str, payload: Payload, timeout: float | None, resources: Mapping[str, float], *, local: bool
    ) -> None:
        self.name = name
        self._payload = payload
        self._timeout = timeout
        self._resources = resources
        self._local = local

    def setup(self, worker: Worker) -> None:
        if self._local and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            logging.getLogger("distributed").setLevel(logging.CRITICAL)  # of its end it would tell with tracebacks
        self._worker, self._worker_name = worker, str(worker.name)
        self._outbox: dict[int, tuple[int, list[Point]]] = {}
        self._outbox_lock, self._sent = threading.Lock(), -_PACE
        offered = {"nthreads": worker.state.nthreads, "resources": worker.state.total_resources}
        slots = max(1, slots_of(offered, self._resources))
        limit = int((worker.memory_manager.memory_limit or 0) / slots)
        self._children: queue.LifoQueue[Child] = queue.LifoQueue()
        folder = worker.local_directory  # Dask clears it up, should the worker be killed
        self._all = [Child(self._payload, self._timeout, limit, folder, self._relay) for _ in range(slots)]
        for child in self._all:
            self._children.put(child)

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        self._sent = math.inf
        with ThreadPoolExecutor(len(self._all)) as together:  # each may be given a moment to end by itself
            for closed in [together.submit(child.close) for child in self._all]:
                with suppress(OSError):
                    closed.result()

    def evaluate(self, candidates: list[Candidate]) -> list[Evaluation]:
        """Evaluate in a free child process; what has not begun after a second is left out, as Child.evaluate says."""
        child = self._children.get()
        try:
            return [replace(e, worker=self._worker_name) for e in child.evaluate(candidates)]
        except ClosedError as error:  # the worker is leaving: another one can
            raise Reschedule from error
        finally:
            self._children.put(child)

    def stop(self, ids: list[int]) -> None:
        """Let individuals stop at their next reports, those of them that are evaluated here."""
        for child in self._all:
            child.stop(ids)

    def _relay(self, report: Report) -> None:
        """Take a report, on a thread that evaluates, for the next message."""
        with self._outbox_lock:
            is_first = not self._outbox
            first, points = self._outbox.get(report.id, (report.first, []))
            if first + len(points) != report.first:  # another attempt, which begins anew
                first, points = report.first, []
            points += report.points
            self._outbox[report.id] = first, points
        if is_first:
            self._worker.loop.add_callback(self._arrange)

    def _arrange(self) -> None:
        if math.isinf(self._sent):
            return
        pause = max(0.0, self._sent + _PACE - time.monotonic())
        self._worker.loop.call_later(pause, self._send)

    def _send(self) -> None:
        """Send what was reported to the driver, as an event of Dask's on the topic that has our name."""
        with self._outbox_lock:
            outbox, self._outbox = self._outbox, {}
        if math.isinf(self._sent):  # nobody listens any more
            return
        self._sent = time.monotonic()
        reports = [[id, first, packed(points)] for id, (first, points) in outbox.items()]
        message: dict[str, Any] = {"worker": self._worker.address, "reports": reports}
        self._worker.log_event(self.name, message)


def slots_of(worker: Mapping[str, Any], resources: Mapping[str, float]) -> int:
    """Tell how many evaluations can run on a worker at once: one for each thread, as far as its resources go.

    Parameters
    ----------
    worker
        What Dask's scheduler says of it.
    resources
        What one evaluation takes.
    """
    offered = worker["resources"]
    return min(
        [int(worker["nthreads"]), *(int(offered.get(name, 0) / taken + 1e-9) for name, taken in resources.items())]
    )


def packed(points: Sequence[Point]) -> bytes:
    """Pack points: the scheduler keeps a thousand messages, which a flood of reports would make large."""
    return np.array(points, dtype="<f8").tobytes()


def unpacked(points: bytes) -> tuple[Point, ...]:
    return tuple((step, value) for step, value in np.frombuffer(points, dtype="<f8").reshape(-1, 2).tolist())


def stop(plugin: str, ids: list[int], dask_worker: Worker) -> None:
    """Let individuals stop on this worker; one that is leaving stops them anyway."""
    found = dask_worker.plugins.get(plugin)
    if found is not None:
        cast(EvaluationPlugin, found).stop(ids)


def evaluate(plugin: str, candidates: bytes) -> list[Evaluation]:
    """Evaluate pickled candidates on the worker that runs this; the function that is submitted to Dask.

    In the candidates' order, and at least one: those that have not begun after a second are left out.
    """
    found = cast(EvaluationPlugin, get_worker().plugins[plugin])
    return found.evaluate(pickle.loads(candidates))
