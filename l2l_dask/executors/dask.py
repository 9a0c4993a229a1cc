"""Evaluation on a Dask cluster."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

import distributed
from distributed import Client, as_completed

from l2l_dask import shipping, worker
from l2l_dask.child import Payload
from l2l_dask.errors import ClusterError
from l2l_dask.evaluating import Where, described
from l2l_dask.evaluation import Candidate, Evaluation, Status
from l2l_dask.executors.base import Executor
from l2l_dask.optimizee import Optimizee

Future: TypeAlias = distributed.Future[Any]

_DEEPEST_RESERVE = 8  # evaluations waiting per slot, at most
_LATENCY = 0.05  # seconds of work to keep waiting at a slot
_LOOK = 1.0
_PATIENCE = 3.0  # seconds that the scheduler may take to answer


@dataclass
class Dask(Executor):
    """One future per candidate on a Dask cluster, each evaluated in a child process of its worker.

    Parameters
    ----------
    client
        Connected; it is not closed.
    timeout
        Seconds per evaluation; None for no limit.
    paths, cwd
        Where user modules are imported from, and the folder to work in, on workers that see the same files.
    local
        Whether the workers are this process's own.
    """

    client: Client
    timeout: float | None = None
    paths: tuple[str, ...] = ()
    cwd: str = field(default_factory=lambda: str(Path.cwd()))
    local: bool = False
    threaded = True

    def __post_init__(self) -> None:
        self._inbox: SimpleQueue[list[Evaluation] | None] = SimpleQueue()
        self._in_flight: dict[Future, tuple[Candidate, float]] = {}
        self._seconds = math.nan
        self._slots = 0
        self._looked = -math.inf
        self._closed = False
        self._completed = as_completed([], loop=self.client.loop, raise_errors=False)
        self._something = threading.Event()
        self._lost = ""

    def start(self, optimizee: Optimizee, where: Where) -> None:
        payload = Payload(shipping.pack(optimizee), where, self.paths, self.cwd)
        self._plugin = f"l2l-{where.uuid}-{where.epoch}"
        plugin = worker.EvaluationPlugin(self._plugin, payload, self.timeout, local=self.local)
        self._clear(f"l2l-{where.uuid}-")
        try:
            self.client.register_plugin(plugin, name=self._plugin)
        except (ImportError, AttributeError, OSError, TimeoutError) as error:
            raise ClusterError(
                f"the workers at {self.client.scheduler_info()['address']} cannot take the experiment ({error}): "
                "install the same l2l_dask there as here"
            ) from error
        self._collector = threading.Thread(target=self._collect, name="l2l-collector", daemon=True)
        self._collector.start()

    def _clear(self, prefix: str) -> None:
        """End what a driver of the same store that was killed left on the workers."""
        try:
            left = self.client.run_on_scheduler(
                lambda dask_scheduler: [name for name in dask_scheduler.worker_plugins if name.startswith(prefix)]
            )
        except (OSError, ValueError):  # it is far too busy, or runs no code from elsewhere
            return
        for name in left:
            self._unregister(name)

    def _unregister(self, plugin: str) -> None:
        scheduler: Any = self.client.scheduler
        with suppress(OSError, ValueError):  # a cluster that is gone has nothing left to end
            self.client.sync(scheduler.unregister_worker_plugin, name=plugin, callback_timeout=_PATIENCE)

    @property
    def slots(self) -> int:
        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            try:
                scheduler: Any = self.client.scheduler
                threads = self.client.sync(scheduler.ncores, callback_timeout=_PATIENCE)
                self._slots = sum(threads.values())
            except TimeoutError:
                pass  # a busy scheduler; a lost one shows in collect
            except OSError as error:
                self._lost = str(error)
        return self._slots

    @property
    def capacity(self) -> int:
        """Slots, and a reserve that hides the way to the workers; none when evaluations are long."""
        reserve = 0.0 if math.isnan(self._seconds) else _LATENCY / max(self._seconds, 1e-9)
        return self.slots + int(self.slots * min(_DEEPEST_RESERVE, reserve))

    def submit(self, candidates: Sequence[Candidate]) -> None:
        keys = [f"{self._plugin}-{c.id}-{c.attempt}" for c in candidates]
        futures = self.client.map(worker.evaluate, [self._plugin] * len(keys), list(candidates), key=keys, pure=False)
        now = time.time()
        for future, candidate in zip(futures, candidates, strict=True):
            self._in_flight[future] = candidate, now
        self._completed.update(futures)
        self._something.set()

    def _collect(self) -> None:
        """Gather what has ended, all of it at once; on a thread of its own."""
        while not self._closed:
            self._something.wait()
            self._something.clear()
            try:
                for batch in self._completed.batches():
                    self._inbox.put(self._gather([item for item in batch if isinstance(item, distributed.Future)]))
            except Exception as error:
                self._lost = self._lost or described(error)
                self._inbox.put(None)

    def _gather(self, futures: list[Future]) -> list[Evaluation]:
        good = [f for f in futures if f.status == "finished"]
        results: dict[Future, Evaluation] = dict(zip(good, self.client.gather(good), strict=True)) if good else {}
        ended = []
        for future in futures:
            candidate, submitted = self._in_flight.pop(future)
            result = results.get(future) or self._broken(future, candidate)
            if result is not None:
                ended.append(replace(result, submitted=submitted))
            future.release()
        return ended

    def _broken(self, future: Future, candidate: Candidate) -> Evaluation | None:
        """Turn a future without a result into one; None if the scheduler forgot it."""
        if future.status != "error":
            self._lost = self._lost or "the connection to it broke"
            return None
        error: Any = future.exception()
        killed = type(error).__name__ == "KilledWorker"
        reason = f"KilledWorker: {error}" if killed else described(error)
        return Evaluation(candidate.id, Status.CRASHED if killed else Status.FAILED, candidate.attempt, error=reason)

    def collect(self, timeout: float) -> list[Evaluation]:
        ended: list[Evaluation] = []
        try:
            ended += self._inbox.get(timeout=timeout) or []
            while True:
                ended += self._inbox.get_nowait() or []
        except Empty:
            pass
        if not ended and (self._lost or self.client.status not in ("running", "connecting")):
            raise ClusterError(f"the scheduler was lost ({self._lost or self.client.status})")
        for e in ended:
            if not math.isnan(e.seconds):
                self._seconds = e.seconds if math.isnan(self._seconds) else 0.9 * self._seconds + 0.1 * e.seconds
        return ended

    def wake(self) -> None:
        self._inbox.put(None)

    def close(self) -> None:
        self._closed = True
        self._something.set()
        if self.client.status not in ("running", "connecting"):
            return
        if self._in_flight:
            self.client.cancel(list(self._in_flight), force=True)
        self._unregister(self._plugin)
