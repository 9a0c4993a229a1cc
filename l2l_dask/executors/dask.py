"""Evaluation on a Dask cluster."""

from __future__ import annotations

import asyncio
import itertools
import math
import pickle
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

import distributed
from distributed import Client, as_completed

from l2l_dask import shipping, worker
from l2l_dask.aside import Aside
from l2l_dask.child import Payload
from l2l_dask.errors import ClusterError, LostError
from l2l_dask.evaluating import Where, described
from l2l_dask.evaluation import Candidate, Evaluation, Status
from l2l_dask.executors.base import Executor
from l2l_dask.executors.sizing import Sizing
from l2l_dask.optimizee import Optimizee
from l2l_dask.reports import Report

Future: TypeAlias = distributed.Future[Any]

_LOOK = 1.0
_START = 60.0  # seconds that the workers may take to get ready
_PATIENCE = 3.0  # seconds that the scheduler may take to answer
_HURRY = 1.0  # seconds that all results of one moment may take together
_APART = 0.01


@dataclass
class Dask(Executor):
    """One future per candidate (or bundle of them) on a Dask cluster, evaluated in a child process of its worker.

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
    bundle
        Whether short evaluations may share a future.
    resources
        What one evaluation takes of its worker's.
    show_output
        Whether what evaluations print is to come out of their workers.
    """

    client: Client
    timeout: float | None = None
    paths: tuple[str, ...] = ()
    cwd: str = field(default_factory=lambda: str(Path.cwd()))
    local: bool = False
    bundle: bool = False
    resources: Mapping[str, float] = field(default_factory=dict)
    show_output: bool = False
    threaded = True

    def __post_init__(self) -> None:
        self._inbox: SimpleQueue[list[Evaluation] | None] = SimpleQueue()
        self._in_flight: dict[Future, tuple[list[Candidate], float]] = {}
        self._sizing = Sizing(1, bundle=self.bundle)
        self._slots = 0
        self._looked = -math.inf
        self._closed = False
        self._completed = as_completed([], loop=self.client.loop, raise_errors=False)
        self._something = threading.Event()
        self._lost = ""
        self._defect: Exception | None = None
        self._topic = ""  # of the reports
        self._count = itertools.count()
        self._reports: SimpleQueue[Report] = SimpleQueue()

    def start(self, optimizee: Optimizee, where: Where) -> None:
        self._require_resources()
        size = optimizee.batch_size
        threads = int(self.resources.get("cores", 0))
        payload = Payload(
            shipping.pack(optimizee),
            where,
            self.paths,
            self.cwd,
            batch_size=size,
            threads=threads,
            show_output=self.show_output,
        )
        self._sizing = Sizing(size, bundle=self.bundle)
        self._plugin = f"l2l-{where.uuid}-{where.epoch}"
        plugin = worker.EvaluationPlugin(self._plugin, payload, self.timeout, self.resources, local=self.local)
        aside = Aside("l2l-start")
        aside.do(partial(self._clear, f"l2l-{where.uuid}-"))
        registered = aside.do(partial(self.client.register_plugin, plugin, name=self._plugin))
        try:
            registered.result(_START)
        except TimeoutError as error:
            raise ClusterError(
                f"the cluster at {self._address} did not get ready within {_START:g} s: do its scheduler and all its "
                "workers run?"
            ) from error
        except (ImportError, AttributeError, OSError) as error:
            raise ClusterError(
                f"the workers at {self._address} cannot take the experiment ({error}): "
                "install the same l2l_dask there as here"
            ) from error
        finally:
            aside.end()
        if where.reports:
            self._topic = self._plugin
            self.client.subscribe_topic(self._topic, self._hear)
        self._collector = threading.Thread(target=self._collect, name="l2l-collector", daemon=True)
        self._collector.start()

    @property
    def _address(self) -> str:
        scheduler: Any = self.client.scheduler
        return str(scheduler.address)

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
            self._forget_reports(name)

    def _unregister(self, plugin: str) -> None:
        scheduler: Any = self.client.scheduler
        with suppress(OSError, ValueError):  # a cluster that is gone has nothing left to end
            self.client.sync(scheduler.unregister_worker_plugin, name=plugin, callback_timeout=_PATIENCE)

    def _require_resources(self) -> None:
        """Refuse workers on which no evaluation would ever start; where there are none yet, they may bring enough."""
        scheduler: Any = self.client.scheduler
        if not self.resources or self.slots:
            return
        try:
            workers = self.client.sync(scheduler.identity, callback_timeout=_PATIENCE)["workers"].values()
        except (TimeoutError, OSError):  # which shows in a moment
            return
        if workers:
            needed = " ".join(f"{name}={amount:g}" for name, amount in self.resources.items())
            offered = next(iter(workers))["resources"] or "none"
            raise ClusterError(
                f"no worker at {self._address} offers the resources that an evaluation takes ({needed}; one has "
                f"{offered}): start them with `dask worker --resources '{needed}'`"
            )

    @property
    def slots(self) -> int:
        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            try:
                scheduler: Any = self.client.scheduler
                if self.resources:
                    workers = self.client.sync(scheduler.identity, callback_timeout=_PATIENCE)["workers"].values()
                    self._slots = sum(worker.slots_of(each, self.resources) for each in workers)
                else:
                    self._slots = sum(self.client.sync(scheduler.ncores, callback_timeout=_PATIENCE).values())
            except TimeoutError:
                pass  # a busy scheduler; a lost one shows in collect
            except OSError as error:
                self._lost = str(error)
        return self._slots

    @property
    def capacity(self) -> int:
        return self._sizing.capacity(self.slots)

    @property
    def quantum(self) -> int:
        return self._sizing.per_future

    def submit(self, candidates: Sequence[Candidate]) -> None:
        self._submit(self._sizing.pieces(candidates, self._slots, len(self._in_flight)))

    def _submit(self, pieces: list[list[Candidate]]) -> None:
        keys = [f"{self._plugin}-{piece[0].id}-{piece[0].attempt}-{next(self._count)}" for piece in pieces]
        packed = [pickle.dumps(piece) for piece in pieces]
        taken = dict(self.resources) or None
        plugins = [self._plugin] * len(keys)
        futures = self.client.map(worker.evaluate, plugins, packed, key=keys, pure=False, resources=taken)
        now = time.time()
        for future, piece in zip(futures, pieces, strict=True):
            self._in_flight[future] = piece, now
        self._await(futures)

    def _collect(self) -> None:
        """Gather what has ended, all of it at once; on a thread of its own."""
        while not self._closed:
            self._something.wait()
            self._something.clear()
            try:
                for batch in self._completed.batches():
                    self._receive([item for item in batch if isinstance(item, distributed.Future)])
            except Exception as error:
                self._give_up(error)

    def _receive(self, futures: list[Future]) -> None:
        """Hand on what has ended; a result that is slow to come, or that cannot be read, keeps no other waiting."""
        good = [f for f in futures if f.status == "finished"]
        results: dict[Any, list[Evaluation] | None] = {}
        try:
            if good:
                results = self.client.sync(self._fetch, good, callback_timeout=_HURRY)
        except Exception:
            loop: Any = self.client.loop
            for n, future in enumerate(good):  # apart, so that Dask does not make one of them
                loop.add_callback(self._receive_alone, future, n * _APART)
            alone = set(good)
            futures = [f for f in futures if f not in alone]
        self._inbox.put([e for f in futures if (result := results.get(f.key)) for e in self._ended(f, result)])
        for future in [f for f in futures if not results.get(f.key)]:
            failed = self._without_result(future)
            if failed is not None:
                self._inbox.put(self._ended(future, failed))

    async def _fetch(self, futures: list[Future]) -> dict[Any, list[Evaluation] | None]:
        """Gather results; None for one that is none any more."""
        by_key = {future.key: future for future in futures}
        # Dask makes one of gathers that begin together. If that is cancelled before it has begun, all later ones wait
        # for it and are cancelled too, for ever: so whatever waits for a gather may be cancelled, but never the gather.
        gathering = asyncio.ensure_future(self.client.gather(by_key, errors="skip", asynchronous=True))
        gathering.add_done_callback(lambda done: done.cancelled() or done.exception())
        results: dict[Any, list[Evaluation] | None] = await asyncio.shield(gathering)
        return results

    async def _receive_alone(self, future: Future, delay: float) -> None:
        await asyncio.sleep(delay)
        try:
            result = (await self._fetch([future]))[future.key]
        except asyncio.CancelledError:  # Dask had made it one with a gather that took too long: once more
            result = None
        except OSError as error:
            self._give_up(error)
            return
        except Exception as error:
            result = self._failed(future, f"the result cannot be read: {described(error)}")
        if result is None:
            self._await([future])
        else:
            self._inbox.put(self._ended(future, result))

    def _await(self, futures: list[Future]) -> None:
        self._completed.update(futures)
        self._something.set()

    def _ended(self, future: Future, results: list[Evaluation]) -> list[Evaluation]:
        """Forget a future; what a bundle that took too long did not begin goes into others."""
        candidates, submitted = self._in_flight.pop(future)
        future.release()
        self._sizing.note(results)
        ended = {e.id for e in results}
        left = [c for c in candidates if c.id not in ended]
        if left:
            self.submit(left)
        return [replace(e, submitted=submitted) for e in results]

    def _failed(self, future: Future, reason: str, status: Status = Status.FAILED) -> list[Evaluation]:
        candidates, _ = self._in_flight[future]
        return [Evaluation(c.id, status, c.attempt, error=reason) for c in candidates]

    def _without_result(self, future: Future) -> list[Evaluation] | None:
        """Decide what becomes of a future without a result; None if there will be one."""
        if future.status == "error":
            error: Any = future.exception()
            if type(error).__name__ != "KilledWorker":
                return self._failed(future, described(error))
            if len(self._in_flight[future][0]) == 1:
                return self._failed(future, f"KilledWorker: {error}", Status.CRASHED)
            self._submit_again(future)  # one by one: who did it?
        elif future.status != "cancelled":  # its result was lost: it is computed again
            self._await([future])
        elif not self._closed:
            if _reason(future) == "scheduler-connection-lost" or self.client.status != "running":
                self._give_up(OSError("the connection to it broke"))
            else:
                self._submit_again(future)
        return None

    def _submit_again(self, future: Future) -> None:
        """Submit the candidates of a future once more, each by itself."""
        candidates, _ = self._in_flight[future]
        self._submit([[candidate] for candidate in candidates])
        del self._in_flight[future]
        future.release()

    def _give_up(self, error: Exception) -> None:
        """Let :meth:`collect` raise."""
        if isinstance(error, OSError) or self.client.status != "running":
            self._lost = self._lost or " ".join(str(error).split()) or type(error).__name__
        else:
            self._defect = error
        self._inbox.put(None)

    def collect(self, timeout: float) -> list[Evaluation]:
        ended: list[Evaluation] = []
        try:
            ended += self._inbox.get(timeout=timeout) or []
            while True:
                ended += self._inbox.get_nowait() or []
        except Empty:
            pass
        if not ended and self._defect is not None:
            raise self._defect
        if not ended and (self._lost or self.client.status not in ("running", "connecting")):
            raise LostError(f"the scheduler was lost ({self._lost or self.client.status})")
        return ended

    def _hear(self, event: tuple[float, Any]) -> None:
        """Take a message of a worker, on the client's own thread."""
        message = event[1]
        for id, first, points in message["reports"]:
            self._reports.put(Report(id, first, worker.unpacked(points), message["worker"]))
        self._inbox.put(None)

    def reported(self) -> list[Report]:
        told: list[Report] = []
        while not self._reports.empty():
            told.append(self._reports.get())
        return told

    def stop(self, places: Mapping[int, str]) -> None:
        loop: Any = self.client.loop
        loop.add_callback(self._order, list(places), sorted({place for place in places.values() if place}))

    async def _order(self, ids: list[int], workers: list[str]) -> None:
        """Tell workers; one that is gone cannot be told."""
        with suppress(OSError, ValueError, KeyError):
            told: Any = self.client.run(worker.stop, self._plugin, ids, workers=workers, on_error="ignore")
            await told

    def wake(self) -> None:
        self._inbox.put(None)

    def close(self) -> None:
        self._closed = True
        self._something.set()
        if self.client.status not in ("running", "connecting"):
            return
        if self._in_flight:
            self.client.cancel(list(self._in_flight), force=True)
        if self._topic:
            self.client.unsubscribe_topic(self._topic)
        self._unregister(self._plugin)
        self._forget_reports(self._topic)

    def _forget_reports(self, topic: str) -> None:
        """Let the scheduler forget the latest messages of a topic, which it would keep as long as it lives."""
        with suppress(Exception):  # Dask has no public way: another version's scheduler keeps them
            if topic:
                self.client.run_on_scheduler(lambda dask_scheduler: dask_scheduler._broker.truncate(topic))


def _reason(future: Future) -> str:
    """Say why a future was cancelled."""
    try:
        future.result(timeout=_PATIENCE)
    except distributed.CancelledError as error:
        return str(getattr(error, "reason", ""))
    except Exception:
        return ""
    return ""
