"""What a Dask worker does for an experiment: it keeps one warm child process for each of its slots.

The optimizee travels once to each worker, as opaque bytes inside a worker plugin, and is opened in the child alone: an
import that fails there is a recorded error, never a dead worker.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
from distributed import Reschedule, Worker, WorkerPlugin, get_worker
from tornado.ioloop import PeriodicCallback

from l2l_dask.child import Payload
from l2l_dask.evaluation import Candidate, Evaluation
from l2l_dask.leaving import post_of
from l2l_dask.process import Child, ClosedError
from l2l_dask.reports import Point, Report
from l2l_dask.underway import LONG, Runs

_PACE = 0.05  # seconds between two messages with reports: what comes meanwhile travels together
_TOLD = 0.2  # seconds in which a message reaches the scheduler, whatever happens to this worker then
_DEVICES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


class Terms(NamedTuple):
    """On what terms a future is to be evaluated.

    Attributes
    ----------
    number, needs
        The seconds that an evaluation may need, and a number by which the newest word of that is known.
    alone
        Whether nothing else may run on the worker meanwhile.
    """

    number: int = 0
    needs: float = 0.0
    alone: bool = False


class CutError(Exception):
    """An evaluation was ended because the job of its worker was about to be.

    Attributes
    ----------
    seconds
        How long it had run.
    whole
        How long it might have, on a worker that is fresh.
    fresh
        Whether this was one.
    """

    def __init__(self, seconds: float, whole: float, fresh: bool) -> None:
        super().__init__(seconds, whole, fresh)
        self.seconds, self.whole, self.fresh = seconds, whole, fresh


class ElsewhereError(Exception):
    """An evaluation could not begin on a worker that goes on with those of other experiments."""


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
    memory
        Bytes that one evaluation may use; None for its share of the worker's limit.
    local
        Whether the worker belongs to the driver's own terminal: then Ctrl-C is the driver's business.
    """

    def __init__(
        self,
        name: str,
        payload: Payload,
        timeout: float | None,
        resources: Mapping[str, float],
        *,
        memory: int | None = None,
        local: bool,
    ) -> None:
        self.name = name
        self._payload = payload
        self._timeout = timeout
        self._resources = resources
        self._memory = memory
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
        self._limit = self._memory or int((worker.memory_manager.memory_limit or 0) / slots)
        self._devices = [devices_of(slot, self._resources, os.environ) for slot in range(slots)]
        self._all = [self._child(slot) for slot in range(slots)]
        self._free: queue.LifoQueue[int] = queue.LifoQueue()
        for slot in range(slots):
            self._free.put(slot)
        self._at: dict[str, Child] = {}  # by the keys of what they evaluate
        self._withdrawn: set[str] = set()
        self._runs, self._teller = Runs(), PeriodicCallback(self._tell_what_runs, 1000 * LONG)
        self._teller.start()
        self._post = post_of(worker)
        self._post.join(self.name, self._close)

    def _child(self, slot: int) -> Child:
        folder = self._worker.local_directory  # Dask clears it up, should the worker be killed
        devices = self._devices[slot]
        return Child(self._payload, self._timeout, self._limit, folder, self._relay, environment=devices)

    def _take_slot(self) -> int:
        """Wait for a free child process, and choose one whose GPUs no other experiment uses just now."""
        free = [self._free.get()]
        with suppress(queue.Empty):
            while True:
                free.append(self._free.get_nowait())
        slot = self._post.devices.take({slot: self._gpus(slot) for slot in free})
        for other in reversed(free):
            if other != slot:
                self._free.put(other)
        return slot

    def _gpus(self, slot: int) -> list[str]:
        return next((devices.split(",") for devices in self._devices[slot].values()), [])

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002
        self._sent = math.inf
        self._teller.stop()
        self._post.quit(self.name)
        self._close()

    def _close(self) -> None:
        with ThreadPoolExecutor(len(self._all)) as together:  # each may be given a moment to end by itself
            for closed in [together.submit(child.close) for child in self._all]:
                with suppress(OSError):
                    closed.result()

    def evaluate(self, key: str, candidates: list[Candidate], terms: Terms) -> list[Evaluation]:
        """Evaluate in a free child process; what has not begun after a second is left out, as Child.evaluate says.

        Raises
        ------
        Reschedule
            If another worker is to do it: this one is leaving.
        ElsewhereError
            If this one would come to its end before, but others' evaluations would not.
        CutError
            If it was ended because this worker came to its end.
        """
        needs = self._post.expect(self.name, terms.number, terms.needs, max(c.repeats for c in candidates))
        if not self._post.gate.enter(alone=terms.alone):
            raise Reschedule
        try:
            if self._post.may_begin(needs):
                if terms.alone:
                    self._worker.log_event(self.name, {"worker": self._worker.address, "alone": key})
                    time.sleep(_TOLD)
                return self._evaluate(key, candidates)
        finally:
            self._post.gate.leave()
        if self._post.others_may_begin(self.name):
            raise ElsewhereError  # its driver waits before it tries again: Dask may send it right back
        self._post.leave()
        raise Reschedule

    def _evaluate(self, key: str, candidates: list[Candidate]) -> list[Evaluation]:
        slot, begun = self._take_slot(), time.time()
        self._at[key] = child = self._all[slot]
        try:
            if key in self._withdrawn:
                raise Reschedule
            self._runs.begin(key, [c.id for c in candidates], begun)
            return [replace(e, worker=self._worker_name) for e in child.evaluate(candidates)]
        except ClosedError as error:
            life = self._post.life
            if self._post.cutting and life is not None:
                raise CutError(time.time() - begun, life.whole, life.fresh(begun)) from error
            raise Reschedule from error  # the worker is leaving: another one can
        finally:
            del self._at[key]
            self._runs.end(key)
            if key in self._withdrawn:
                time.sleep(_TOLD)  # the scheduler is about to forget it
                self._withdrawn.discard(key)
                child.close()
                self._all[slot] = self._child(slot)
            self._post.devices.leave(self._gpus(slot))
            self._free.put(slot)

    def stop(self, ids: list[int]) -> None:
        """Let individuals stop at their next reports, those of them that are evaluated here."""
        for child in self._all:
            child.stop(ids)

    def withdraw(self, keys: list[str]) -> None:
        """End the evaluation of futures that were given up, and begin none of them."""
        self._withdrawn.update(keys)
        for child in [child for key in keys if (child := self._at.get(key)) is not None]:
            child.close()

    def _tell_what_runs(self) -> None:
        """Tell the driver what has run for a while, once."""
        begun = self._runs.news(time.time())
        if begun:
            message: dict[str, Any] = {"worker": self._worker.address, "name": self._worker_name, "begun": begun}
            self._worker.log_event(self.name, message)

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


def devices_of(slot: int, resources: Mapping[str, float], environment: Mapping[str, str]) -> dict[str, str]:
    """Tell which of its worker's GPUs a child process may see, as variables of its environment.

    Parameters
    ----------
    slot
        The number of the child process, from 0.
    resources
        What one evaluation takes: half a ``GPU`` is one that two of them share.
    environment
        The worker's.
    """
    taken = resources.get("GPU", 0)
    shares = {}
    for variable in _DEVICES:
        devices = [device for device in environment.get(variable, "").split(",") if device]
        if taken and devices:
            first, n = int(slot * taken + 1e-9), max(1, math.ceil(taken))
            shares[variable] = ",".join(devices[i % len(devices)] for i in range(first, first + min(n, len(devices))))
    return shares


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


async def withdraw(plugin: str, keys: list[str], dask_worker: Worker) -> None:
    """End the evaluation of futures that were given up; what they started may take a moment to end."""
    found = dask_worker.plugins.get(plugin)
    if found is not None:
        await asyncio.to_thread(cast(EvaluationPlugin, found).withdraw, keys)


def evaluate(plugin: str, candidates: bytes, terms: Terms) -> list[Evaluation]:
    """Evaluate pickled candidates on the worker that runs this; the function that is submitted to Dask.

    In the candidates' order, and at least one: those that have not begun after a second are left out.
    """
    here = get_worker()
    found = cast(EvaluationPlugin, here.plugins[plugin])
    return found.evaluate(str(here.get_current_task()), pickle.loads(candidates), terms)
