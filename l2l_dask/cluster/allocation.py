"""All nodes of one Slurm job as a cluster: each task of an ``srun`` runs the same command, and takes its own part.

Task 0 is the scheduler, task 1 the driver, all others are workers, each with a slot for each of its cores. The parts
are taken before anything of the experiment is opened, so that one process alone writes it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from distributed import Client, Scheduler, Worker
from distributed.core import rpc
from distributed.diagnostics.plugin import SchedulerPlugin

from l2l_dask.cluster import pages, tls
from l2l_dask.cluster.attaching import attach
from l2l_dask.cluster.batch import SCHEDULER
from l2l_dask.cluster.local import _SHIELD
from l2l_dask.cluster.meeting import PATIENCE, EndedError, Meeting
from l2l_dask.cluster.systems import sigint_kept
from l2l_dask.config import ClusterSection
from l2l_dask.errors import ClusterError

with sigint_kept():
    from dask_jobqueue.slurm import SLURMRunner

_GRACE = 10.0  # seconds in which a driver that lost its connection may come back
_FEWEST = 3
_SCHEDULER, _DRIVER = 0, 1
_TASK = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS")


@dataclass(frozen=True)
class Task:
    """One task of an ``srun``.

    Attributes
    ----------
    rank, tasks
        Its number, and how many there are.
    job, start
        The job's id, and what no other start of tasks has: a job can have several, and begin again.
    cores, memory, gpus
        What it has: cores, bytes (None if Slurm does not say) and devices.
    """

    rank: int
    tasks: int
    job: str
    start: str
    cores: int = 1
    memory: int | None = None
    gpus: int = 0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Task:
        """Read what ``srun`` says.

        Raises
        ------
        ClusterError
            If this is no task of an ``srun``, or one of too few.
        """
        try:
            job, step, rank, tasks = (environment[name] for name in _TASK)
        except KeyError:
            raise ClusterError(
                "--cluster allocation: expected to be started by srun, got no task of one: in a job of at least "
                f"{_FEWEST} tasks, `srun l2l run CONFIG --cluster allocation`; "
                "`l2l batch-script CONFIG --kind allocation` prints a whole job"
            ) from None
        start = f"{job}-{environment.get('SLURM_RESTART_COUNT', '0')}-{step}"
        cores = int(environment.get("SLURM_CPUS_PER_TASK", "1"))
        gpus = len([device for device in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if device])
        task = cls(int(rank), int(tasks), job, start, cores, _memory(cores, environment), gpus)
        if task.tasks < _FEWEST:
            task.refuse(
                f"--cluster allocation: expected at least {_FEWEST} tasks (a scheduler, a driver, workers), got "
                f"{task.tasks}: srun --ntasks={_FEWEST} or more"
            )
        return task

    def refuse(self, message: str) -> NoReturn:
        """End all tasks, of which one says why."""
        if self.rank:
            raise SystemExit(2)
        raise ClusterError(message)

    @property
    def offers(self) -> dict[str, float]:
        """Resources of a worker that is this task."""
        return {"cores": float(self.cores)} | ({"GPU": float(self.gpus)} if self.gpus else {})


def _memory(cores: int, environment: Mapping[str, str]) -> int | None:
    mega = 2**20
    with suppress(KeyError, ValueError):
        return cores * int(environment["SLURM_MEM_PER_CPU"]) * mega
    with suppress(KeyError, ValueError):  # of a node: a share of it
        share = cores / int(environment["SLURM_CPUS_ON_NODE"])
        return int(min(1.0, share) * int(environment["SLURM_MEM_PER_NODE"]) * mega) or None
    return None


_CLIENTS: list[Client] = []


def client() -> Client:
    """Return the client of this process, which is the driver of an allocation.

    Raises
    ------
    ClusterError
        If it is none.
    """
    if not _CLIENTS:
        raise ClusterError(
            'profile "allocation" is for the tasks of one srun: `srun l2l run CONFIG --cluster allocation`, or resume '
            "STORE; elsewhere choose another one, such as --cluster local"
        )
    return _CLIENTS[-1]


@contextmanager
def joined(section: ClusterSection, folder: Path) -> Iterator[None]:
    """Take this task's part: within the block it is the driver; all others end here, when the driver has ended.

    Parameters
    ----------
    section
        ``options["interface"]`` is the network interface to listen at; ``offers`` come on top of what Slurm tells.
    folder
        To be made, where all tasks see it: for the key, and the scheduler's address.

    Raises
    ------
    ClusterError
        If this is no task of an ``srun``, or one of too few, or the scheduler does not start.
    """
    task = Task.of(os.environ)
    unknown = sorted(set(section.options) - {"interface"})
    if unknown:
        task.refuse(f"allocation: unknown option {unknown[0]!r}: expected interface; the rest are options of srun")
    meeting = Meeting(folder / f"allocation-{task.start}", encrypted=section.tls)
    if task.rank == _DRIVER:
        with _connected(task, meeting) as connected:
            _CLIENTS.append(connected)
            try:
                yield
            finally:
                _CLIENTS.remove(connected)
        return
    for name in ("distributed", "distributed.scheduler"):  # the driver says what there is to be said
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # srun hands them to all tasks: the driver obeys
        signal.signal(number, _left_to_the_driver)
    if task.rank == _SCHEDULER:
        _schedule(task, meeting, section)
    else:
        _work(task, meeting, section)
    raise SystemExit(0)


def _left_to_the_driver(*_: object) -> None:
    """Do nothing; unlike a signal that is ignored, one with a handler is no business of programs started here."""


class _Runner(SLURMRunner):
    """dask-jobqueue's, with an address file that is whole and nobody else's, and with TLS where a client ends it."""

    def __init__(self, task: Task, meeting: Meeting, **options: Any) -> None:
        self._task, self._meeting = task, meeting
        super().__init__(scheduler_file=str(meeting.file), **options)  # type: ignore[no-untyped-call]

    async def get_role(self) -> Any:
        for options in (self.scheduler_options, self.worker_options):
            options.pop("scheduler_file", None)  # which Dask's scheduler would write, in pieces
        self.world_size = self.n_workers = self._task.tasks
        return await super().get_role()

    async def get_scheduler_address(self) -> str:
        return await self._meeting.address(self._task.rank)

    async def set_scheduler_address(self, scheduler: Scheduler) -> None:
        scheduler.add_plugin(_WithDriver(scheduler))
        self._meeting.tell(address=scheduler.address)

    async def on_worker_start(self, worker: Any) -> None:  # noqa: ARG002
        self._meeting.note("joined", self._task.rank)

    async def before_client_start(self) -> None:
        security = self._meeting.secured
        if security is not None:
            arguments = security.security().get_connection_args("client")
            self.scheduler_comm: Any = rpc(self.scheduler_address, connection_args=arguments)


class _WithDriver(SchedulerPlugin):
    """Ends a scheduler, and with it its workers, when its driver is gone, however that went."""

    name = "l2l-with-driver"

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler, self._clients, self._last = scheduler, set[str](), time.monotonic() + PATIENCE
        asyncio.get_running_loop().call_later(PATIENCE + _GRACE, self._look)

    def add_client(self, scheduler: Scheduler, client: str) -> None:  # noqa: ARG002
        self._clients.add(client)

    def remove_client(self, scheduler: Scheduler, client: str) -> None:  # noqa: ARG002
        self._clients.discard(client)
        self._last = time.monotonic()
        asyncio.get_running_loop().call_later(_GRACE, self._look)

    def _look(self) -> None:
        if not self._clients and time.monotonic() - self._last >= _GRACE - 1:
            self._closing = asyncio.ensure_future(self._scheduler.close())


class QuietWorker(Worker):
    """A worker that leaves Ctrl-C, which ``srun`` hands to all that its tasks started, to the driver."""

    def __init__(self, *args: Any, **options: Any) -> None:
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, _left_to_the_driver)
        super().__init__(*args, **options)


def _schedule(task: Task, meeting: Meeting, section: ClusterSection) -> None:
    until = time.monotonic() + PATIENCE
    meeting.open(task.job)
    options = {**SCHEDULER, **_common(meeting, section)}
    try:
        with pages.none_served():
            _Runner(task, meeting, scheduler_options=options)
    except (OSError, ValueError, RuntimeError) as error:
        meeting.tell(error=f"task 0, the scheduler, could not be started: {' '.join(str(error).split())}")
        raise SystemExit(2) from None  # the driver says why
    else:
        meeting.end()
    finally:
        meeting.close(task.tasks - 1, until)


def _work(task: Task, meeting: Meeting, section: ClusterSection) -> None:
    options = _common(meeting, section) | {
        "nthreads": task.cores,
        "memory_limit": task.memory or "auto",
        "resources": task.offers | dict(section.offers),
        "death_timeout": PATIENCE,
        "worker_class": QuietWorker,
        "silence_logs": logging.ERROR,
        "dashboard": False,
        "dashboard_address": "127.0.0.1:0",
    }
    with _SHIELD.up(), pages.none_served():
        try:
            _Runner(task, meeting, worker_class="distributed.Nanny", worker_options=options)
        except EndedError:
            return  # it had nothing to do
        except ClusterError:
            raise SystemExit(2) from None  # the driver says why
        except (OSError, RuntimeError, TimeoutError) as error:
            if meeting.is_over:  # before this one was connected
                return
            sys.stderr.write(f"l2l: task {task.rank}, a worker: {' '.join(str(error).split())}\n")
            raise SystemExit(2) from None
        finally:
            meeting.note("joined", task.rank)  # or it never will: nobody is to wait for it


def _common(meeting: Meeting, section: ClusterSection) -> dict[str, Any]:
    common: dict[str, Any] = {"protocol": "tls://" if meeting.encrypted else "tcp://"}
    if section.options.get("interface"):
        common["interface"] = section.options["interface"]
    if meeting.encrypted:
        common["security"] = tls.Tls(meeting.folder).security()
    return common


@contextmanager
def _connected(task: Task, meeting: Meeting) -> Iterator[Client]:
    until = time.monotonic() + PATIENCE
    runner = _Runner(task, meeting)
    meeting.note("joined", task.rank)
    try:
        with attach(str(runner.scheduler_address), meeting.secured, 30) as connected:
            try:
                yield connected
            finally:
                meeting.dismiss()  # as long as there is somebody for whom the scheduler stays
    finally:
        try:
            runner.close()  # the scheduler, which then leaves nothing
        except (OSError, TimeoutError):  # it was killed
            meeting.close(task.tasks - 1, until)
