"""A cluster on a batch system: a scheduler in this process, and worker jobs as many as are wanted."""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from distributed import Client, Scheduler, SpecCluster, Status

from l2l_dask.cluster import jobs, pages, tls
from l2l_dask.cluster.fleet import Fleet, View, Worker
from l2l_dask.cluster.profiles import Profile
from l2l_dask.errors import ClusterError

_log = logging.getLogger(__name__)
_STEP = 1.0  # seconds between two looks at the workers
_ASK = 5.0  # seconds between two questions to the batch system
_TAKING = (Status.init, Status.running)  # of a worker that takes tasks, or is about to
# Of Dask's scheduler, wherever we start it.
SCHEDULER: Mapping[str, Any] = {
    "allowed_failures": 1_000_000,  # Dask counts whatever ends a worker against all that it had to do; we count
    "worker_ttl": "15s",  # without a heartbeat, which no evaluation keeps a worker from sending
    "dashboard": False,
    "dashboard_address": "127.0.0.1:0",
}


@contextmanager
def scheduler(secured: tls.Tls | None, interface: str | None = None) -> Iterator[SpecCluster]:
    """Run a scheduler in this process.

    Parameters
    ----------
    secured
        Who may connect; None for anyone who can reach this machine.
    interface
        The network interface to listen at, such as ``"ib0"``; all if None.

    Raises
    ------
    ClusterError
        If it cannot be started.
    """
    options = {**SCHEDULER, "interface": interface, "protocol": "tls://" if secured else "tcp://"}
    security = secured.security() if secured else None
    if security is not None:
        options["security"] = security
    try:
        with pages.none_served():
            begun = {"cls": Scheduler, "options": options}
            cluster = SpecCluster(scheduler=begun, workers={}, security=security, silence_logs=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        raise ClusterError(f"the scheduler could not be started: {error}") from error
    with cluster:
        yield cluster


class Workers:
    """The worker jobs of a scheduler, kept in number by a thread of their own.

    Parameters
    ----------
    profile
        What a job asks for.
    cluster
        The scheduler.
    secured
        As for :func:`scheduler`.
    folder
        Where the jobs' output goes, on a file system that they see.
    offers
        Resources of a worker, besides its ``cores``.
    name
        What the jobs' names begin with: those of an earlier start can be told by it.
    """

    def __init__(
        self,
        profile: Profile,
        cluster: SpecCluster,
        secured: tls.Tls | None,
        folder: Path,
        *,
        offers: Mapping[str, float] | None = None,
        name: str | None = None,
    ) -> None:
        self._profile, self._cluster, self._tls, self._folder = profile, cluster, secured, folder
        self._offers, self._name = dict(offers or {}), name or f"l2l-{secrets.token_hex(3)}"
        self._fleet, self._count = Fleet(), 0
        self._states: Any = None
        self._asked = -_ASK
        self._lock, self._wake, self._ended = threading.Lock(), threading.Event(), threading.Event()
        self._make("0")  # which is refused here, if it cannot be
        self._thread = threading.Thread(target=self._run, name="l2l-workers", daemon=True)
        self._thread.start()

    @property
    def jobs(self) -> list[Any]:
        """The jobs that there are, as last seen."""
        with self._lock:
            return list(self._fleet.jobs.values())

    @property
    def trouble(self) -> str:
        """Why there are fewer than wanted, in a line; empty if nothing is known to be wrong."""
        with self._lock:
            return self._fleet.trouble

    @property
    def waits(self) -> str:
        """What is waited for, in a line; empty if all jobs have their workers."""
        with self._lock:
            return self._fleet.waits

    def begin(self, n: int) -> None:
        """Want ``n`` worker jobs, and submit the first of them at once.

        Raises
        ------
        ClusterError
            If it is refused: so will be the others.
        """
        self._submit_one()
        self.scale(n)

    def scale(self, n: int) -> None:
        """Want ``n`` worker jobs; returns at once."""
        self._fleet.wanted = n
        self._wake.set()

    def close(self) -> None:
        """Cancel all jobs."""
        self._ended.set()
        self._wake.set()
        self._thread.join()
        joined: set[str] = set()
        with suppress(Exception):  # whatever became of the scheduler: this only tells whose output is of use
            joined.update(self._workers())
        with self._lock:
            left = list(self._fleet.jobs.values())
            self._fleet.jobs.clear()
        jobs.cancel(self._profile, [job.id for job in left])
        worked = {f"{job.name}{end}" for job in left if job.seen or job.name in joined for end in ("-", ".")}
        for log in self._folder.glob(f"{self._name}-*"):  # those of jobs that failed stay
            with suppress(OSError):
                if log.name.startswith(tuple(worked)) or not log.stat().st_size:
                    log.unlink()

    def _make(self, number: str) -> Any:
        address = self._cluster.scheduler_address
        name = f"{self._name}-{number}"
        return jobs.worker_job(self._profile, name, address, self._tls, offers=self._offers, logs=self._folder)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._step()
            except Exception as error:  # whatever it is, it may be over at the next look
                _log.warning("the worker jobs could not be looked after: %s: %s", type(error).__name__, error)
            self._wake.wait(_STEP)
            self._wake.clear()

    def _step(self) -> None:
        workers, states = self._workers(), self._known_states()
        with self._lock:
            step = self._fleet.step(View(time.monotonic(), workers, states))
        if step.retire:
            self._retire([job.name for job in step.retire])
        jobs.cancel(self._profile, [job.id for job in (*step.cancel, *step.retire)])
        for _ in range(step.submit):
            if self._ended.is_set() or not self._submit():
                break

    def _submit(self) -> bool:
        try:
            self._submit_one()
        except ClusterError as error:
            if str(error) != self.trouble:
                _log.warning("%s; it is tried again", error)
            with self._lock:
                self._fleet.refused(str(error), time.monotonic())
            return False
        return True

    def _submit_one(self) -> None:
        self._count += 1
        job = self._make(str(self._count))
        id = jobs.submit(job)
        with self._lock:
            self._fleet.submitted(job.name, id, time.monotonic())
        self._asked = -_ASK

    def _workers(self) -> dict[str, Worker]:
        found: dict[str, Worker] = self._on_loop(_workers)
        return found

    def _retire(self, names: list[str]) -> None:
        with suppress(TimeoutError):
            self._on_loop(_retire, names)

    def _on_loop(self, function: Callable[..., Any], *given: Any) -> Any:
        """Call a function with the scheduler, on its own thread."""
        return self._cluster.sync(function, self._cluster.scheduler, *given, callback_timeout=30)

    def _known_states(self) -> Any:
        if time.monotonic() - self._asked >= _ASK:
            self._states = jobs.states(self._profile, {job.id for job in self.jobs})
            self._asked = time.monotonic()
        return self._states


async def _workers(scheduler: Scheduler) -> dict[str, Worker]:
    return {
        str(state.name): Worker(len(state.processing), state.status in _TAKING) for state in scheduler.workers.values()
    }


async def _retire(scheduler: Scheduler, names: list[str]) -> None:
    await scheduler.retire_workers(names=names, close_workers=True, remove=True)


@contextmanager
def batch(
    profile: Profile,
    workers: int,
    folder: Path,
    *,
    encrypted: bool = True,
    offers: Mapping[str, float] | None = None,
) -> Iterator[tuple[Client, Workers]]:
    """Open a cluster for as long as the block lasts; its jobs come as the batch system lets them.

    Parameters
    ----------
    profile
        What a worker job asks for.
    workers
        How many of them.
    folder
        To be made, on a file system that the jobs see: for the certificate, and the output of jobs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    secured = tls.make(folder / "tls") if encrypted else None
    try:
        with scheduler(secured, profile["interface"]) as cluster:
            kept = Workers(profile, cluster, secured, folder, offers=offers)
            try:
                kept.begin(workers)
                with Client(cluster, set_as_default=False) as client:
                    yield client, kept
            finally:
                kept.close()
    finally:
        if secured:
            secured.remove()
        with suppress(OSError):
            if not any(folder.iterdir()):
                shutil.rmtree(folder)
