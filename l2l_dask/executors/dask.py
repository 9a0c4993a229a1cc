"""Evaluation on a Dask cluster."""

from __future__ import annotations

import asyncio
import itertools
import logging
import pickle
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, cast

import distributed
from distributed import Client, as_completed

from l2l_dask import shipping, worker
from l2l_dask.aside import Aside
from l2l_dask.child import Payload
from l2l_dask.errors import ClusterError, LostError
from l2l_dask.evaluating import Where, described
from l2l_dask.evaluation import Candidate, Evaluation, Status
from l2l_dask.executors import leftovers, topics
from l2l_dask.executors.base import Executor
from l2l_dask.executors.deaths import Accounts
from l2l_dask.executors.fetching import Future, fetched, reason_of
from l2l_dask.executors.needs import Needs
from l2l_dask.executors.offer import Offer
from l2l_dask.executors.sizing import Sizing
from l2l_dask.optimizee import Optimizee
from l2l_dask.reports import Report
from l2l_dask.underway import Underway

_log = logging.getLogger(__name__)
_START = 60.0  # seconds that the workers may take to get ready
_HURRY = 1.0  # seconds that all results of one moment may take together
_APART = 0.01
_AGAIN = 1.0  # seconds until what no worker could begin is tried again
_LOSSES = 3  # so many workers that were lost while they evaluated it, and an individual is set aside


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
    memory
        Bytes that one evaluation may use; None for its share of its worker's limit.
    notice
        Says which workers are waited for, and why.
    """

    client: Client
    timeout: float | None = None
    paths: tuple[str, ...] = ()
    cwd: str = field(default_factory=lambda: str(Path.cwd()))
    local: bool = False
    bundle: bool = False
    resources: Mapping[str, float] = field(default_factory=dict)
    show_output: bool = False
    memory: int | None = None
    notice: Callable[[], str] = str
    threaded = True

    def __post_init__(self) -> None:
        self._inbox: SimpleQueue[list[Evaluation] | None] = SimpleQueue()
        self._in_flight: dict[Future, tuple[list[Candidate], float]] = {}
        self._sizing = Sizing(1, bundle=self.bundle)
        self._offer = Offer(self.client, self.resources)
        self._needs = Needs(self.timeout)
        self._accounts = Accounts(_LOSSES)
        self._closed = False
        self._completed = as_completed([], loop=self.client.loop, raise_errors=False)
        self._something = threading.Event()
        self._lost = ""
        self._defect: Exception | None = None
        self._plugin = ""  # also the topic of what workers tell
        self._count = itertools.count()
        self._reports: SimpleQueue[Report] = SimpleQueue()

    def start(self, optimizee: Optimizee, where: Where) -> None:
        self._offer.require()
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
        plugin = worker.EvaluationPlugin(
            self._plugin, payload, self.timeout, self.resources, memory=self.memory, local=self.local
        )
        self.client.subscribe_topic(self._plugin, self._hear)
        topics.subscribe(self.client, "all", self._mourn)
        aside = Aside("l2l-start")
        aside.do(partial(leftovers.clear, self.client, f"l2l-{where.uuid}-"))
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
        self._collector = threading.Thread(target=self._collect, name="l2l-collector", daemon=True)
        self._collector.start()

    @property
    def _address(self) -> str:
        scheduler: Any = self.client.scheduler
        return str(scheduler.address)

    @property
    def waits(self) -> str:
        return self.notice()

    @property
    def slots(self) -> int:
        self._offer.look()
        self._lost = self._lost or self._offer.lost
        return self.known

    @property
    def known(self) -> int:
        """The number of slots when it was last asked for."""
        return self._offer.known

    @property
    def capacity(self) -> int:
        return self._sizing.capacity(self.slots)

    @property
    def quantum(self) -> int:
        return self._sizing.per_future

    def submit(self, candidates: Sequence[Candidate]) -> None:
        self._submit(self._sizing.pieces(candidates, self.known, len(self._in_flight)))

    def _submit(self, pieces: list[list[Candidate]], *, alone: bool = False) -> None:
        keys = [f"{self._plugin}-{piece[0].id}-{piece[0].attempt}-{next(self._count)}" for piece in pieces]
        packed = [pickle.dumps(piece) for piece in pieces]
        taken = dict(self.resources) or None
        plugins, terms = [self._plugin] * len(keys), worker.Terms(self._needs.number, self._needs.seconds, alone)
        self._accounts.underway.expect(keys)
        if alone:
            self._accounts.suspects.put_apart(keys)
        futures = self.client.map(
            worker.evaluate, plugins, packed, [terms] * len(keys), key=keys, pure=False, resources=taken
        )
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
        futures = [f for f in futures if f in self._in_flight]  # the others were given up
        good = [f for f in futures if f.status == "finished"]
        results: dict[Any, list[Evaluation] | None] = {}
        try:
            if good:
                results = self.client.sync(fetched, self.client, good, callback_timeout=_HURRY)
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

    async def _receive_alone(self, future: Future, delay: float) -> None:
        await asyncio.sleep(delay)
        try:
            result = (await fetched(self.client, [future]))[future.key]
        except asyncio.CancelledError:  # Dask had made it one with a gather that took too long: once more
            result = None
        except OSError as error:
            self._give_up(error)
            return
        except Exception as error:
            result = self._failed(future, f"the result cannot be read: {described(error)}")
        if result is None:
            self._await([future])
        elif future in self._in_flight:
            self._inbox.put(self._ended(future, result))

    def _await(self, futures: list[Future]) -> None:
        self._completed.update(futures)
        self._something.set()

    def _ended(self, future: Future, results: list[Evaluation]) -> list[Evaluation]:
        """Forget a future; what a bundle that took too long did not begin goes into others."""
        candidates, submitted = self._taken(future)
        if not candidates:
            return []
        self._sizing.note(results)
        self._needs.note(candidates, results)
        ended = {e.id for e in results}
        self._accounts.suspects.ended(ended)
        left = [c for c in candidates if c.id not in ended]
        if left:
            self.submit(left)
        return [replace(e, submitted=submitted) for e in results]

    def _taken(self, future: Future) -> tuple[list[Candidate], float]:
        """Forget a future, and return what it was of and when it was submitted: of nothing if another thread did so."""
        taken = self._in_flight.pop(future, ([], time.time()))
        self._accounts.gone(str(future.key))
        future.release()
        return taken

    def _failed(self, future: Future, reason: str, status: Status = Status.FAILED) -> list[Evaluation]:
        candidates, _ = self._in_flight.get(future, ([], 0.0))
        return [Evaluation(c.id, status, c.attempt, error=reason) for c in candidates]

    def _without_result(self, future: Future) -> list[Evaluation] | None:
        """Decide what becomes of a future without a result; None if there will be one."""
        candidates, _ = self._in_flight.get(future, ([], 0.0))
        if not candidates or self._closed:  # another thread gave it up, or all
            return None
        if future.status == "error":
            error: Any = future.exception()
            if isinstance(error, worker.CutError):
                return self._cut(future, candidates, error)
            if isinstance(error, worker.ElsewhereError):
                loop = cast(Any, self.client.loop)
                loop.add_callback(loop.call_later, _AGAIN, self._submit_again, future)
            elif type(error).__name__ == "KilledWorker":  # Dask blames all that a lost worker was to do; _mourn judges
                self._submit_again(future)
            else:
                return self._failed(future, described(error))
        elif future.status != "cancelled":  # its result was lost: it is computed again
            self._await([future])
        elif reason_of(future) == "scheduler-connection-lost" or self.client.status != "running":
            self._give_up(OSError("the connection to it broke"))
        else:
            self._submit_again(future)
        return None

    def _submit_again(self, future: Future) -> None:
        """Submit the candidates of a future once more, each by itself; a suspect keeps its worker for itself."""
        alone = self._accounts.suspects.is_apart(str(future.key))
        if not self._closed:
            self._submit([[candidate] for candidate in self._taken(future)[0]], alone=alone)

    def _cut(self, future: Future, candidates: list[Candidate], error: worker.CutError) -> list[Evaluation] | None:
        """Decide what becomes of an evaluation that the end of its worker's job ended."""
        self._needs.saw(error.seconds / max(c.repeats for c in candidates))
        if error.fresh and len(candidates) <= self._sizing.batch_size:
            reason = f"TimeoutError: took longer than a worker job lives ({error.whole:.0f} s)"
            return self._failed(future, f"{reason}: give worker jobs more walltime", Status.TIMED_OUT)
        self._submit_again(future)
        return None

    def _mourn(self, event: tuple[float, Any]) -> None:
        """Take word of the loss of a worker, on the client's own thread, and let no evaluation cause more than so many.

        Dask evaluates again by itself, as often as it is let, whatever a worker was lost with.
        """
        now, message = event
        if self._closed or not isinstance(message, dict) or message.get("action") != "remove-worker":
            return
        keys = message["processing-tasks"]
        futures = {str(f.key): (f, taken[0]) for f, taken in list(self._in_flight.items()) if f.key in keys}
        verdict = self._accounts.lost(now, message, {key: [c.id for c in held] for key, (_, held) in futures.items()})
        given_up = [*verdict.apart, *verdict.condemned]
        for key, losses in verdict.condemned.items():
            reason = f"WorkerLostError: each worker that evaluated it was lost: {', '.join(losses)}"
            future = futures[key][0]
            failed = self._failed(future, reason, Status.CRASHED)
            self._inbox.put(self._ended(future, [replace(e, hopeless=True) for e in failed]))
        for key, pieces in verdict.apart.items():
            by_id = {c.id: c for c in self._taken(futures[key][0])[0]}
            self._submit([[by_id[id] for id in ids] for ids in pieces if by_id], alone=True)
        if given_up:
            cast(Any, self.client.loop).add_callback(self._withdraw, given_up)

    async def _withdraw(self, keys: list[str]) -> None:
        """Let no worker go on with futures that were given up: it could be lost with them."""
        await asyncio.sleep(_APART)  # the scheduler is to forget them first
        with suppress(OSError, ValueError, KeyError):
            told: Any = self.client.run(worker.withdraw, self._plugin, keys, on_error="ignore")
            await told

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
        now, message = event
        self._accounts.hear(now, message)
        warning = self._needs.warning(message["whole"]) if "whole" in message else ""
        if warning:
            _log.warning(warning)
        if "reports" not in message:
            return
        for id, first, points in message["reports"]:
            self._reports.put(Report(id, first, worker.unpacked(points), message["worker"]))
        self._inbox.put(None)

    def reported(self) -> list[Report]:
        told: list[Report] = []
        while not self._reports.empty():
            told.append(self._reports.get())
        return told

    def underway(self) -> list[Underway]:
        return self._accounts.underway.all()

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
        if self._plugin:
            self.client.unsubscribe_topic(self._plugin)
            topics.unsubscribe(self.client, "all", self._mourn)
            leftovers.end(self.client, self._plugin)
