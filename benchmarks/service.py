"""What a service costs: how long until it works, and what 1, 10, 100 and (virtual) 10,000 workers take of a machine.

The start is that of ``l2l service start`` in a job of a real Slurm (tests/hpc/lab.py) where that is installed, else of
the local twin, whose jobs are processes; the queue is empty.

Workers are as light as possible, so that 100 of them fit on few cores: threads of one process, each of which is a Dask
worker with one slot and the child process that evaluates. Scheduler and driver are processes of their own, with TLS, as
those of a service are; what is counted begins when each worker has had its share of a warm-up.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
from distributed import Worker

from l2l_dask import Experiment, Real, Space, Trajectory, connect, minimize
from l2l_dask.cluster import tls
from l2l_dask.cluster.attaching import attach
from l2l_dask.cluster.batch import scheduler
from l2l_dask.errors import L2LError
from l2l_dask.executors import Simulated
from l2l_dask.service.client import Service

ROUNDS = 3
WORKERS, EVALUATIONS, SECONDS = (1, 10, 100), 1000, 0.01
FEW = 100  # for so many workers, once is long enough
VIRTUAL, MANY = 10_000, 30_000
SPACE = Space({"x": Real(-5, 5, shape=(10,))})
PARTS = ("its job begins", "scheduler listens", "worker's job begins", "worker has joined", "first evaluation")
L2L = Path(sys.executable).with_name("l2l")
SPAWNED = multiprocessing.get_context("spawn")
CLUSTER = """
[cluster]
profile = "{system}"
workers = 1
[cluster.options]
cores = 1
memory = "500 MB"
walltime = "00:10:00"
interface = "lo"
job_script_prologue = ["date +%s.%N >> {folder}/began"]
"""


def sphere(params: dict[str, np.ndarray]) -> float:
    """Sleep and return the sphere function."""
    time.sleep(SECONDS)
    return float((params["x"] ** 2).sum())


def search(store: Path, evaluations: int) -> Experiment:
    """Return a random search."""
    settings = {"space": SPACE, "objectives": minimize("f"), "evaluations": evaluations}
    return Experiment(sphere, "random", store=store, **settings)


# -- the start --------------------------------------------------------------------------------------------------------


@contextmanager
def batch_system() -> Iterator[str]:
    """Start a Slurm if there is one, and name what jobs can be submitted to."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.hpc.lab import Slurm, missing

    if why := missing():
        print(f"{why}; so here are processes of this machine")
        yield "local"
        return
    with Slurm(nodes=2) as slurm:
        os.environ.update(slurm.environment)
        yield "slurm"


def start(system: str, *options: str) -> list[float]:
    """Return the seconds from ``l2l service start`` to each part of the start of a service with one experiment."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cluster.toml").write_text(CLUSTER.format(system=system, folder=folder))
        root = Path(folder) / "S"
        submitted = Service(root).submit(search(root / "e.zarr", 10))
        words = ["start", str(root), "--cluster", f"{folder}/cluster.toml", "--memory", "1 GB", *options]
        begun = time.time()
        subprocess.run([L2L, "service", *words], check=True, capture_output=True)
        try:
            joined = _joined(root)
            found = submitted.wait(60)
        finally:
            listens = max((path.stat().st_mtime for path in (root / ".l2l-service").glob("connection-*")), default=0.0)
            subprocess.run([L2L, "service", "stop", str(root), "--now"], check=True, capture_output=True)
        jobs = [float(line) for line in (Path(folder) / "began").read_text().split()]
        times = [jobs[0], listens, jobs[1], joined, float(np.min(found.record["started"]))]
        return [moment - begun for moment in times]


def _joined(root: Path) -> float:
    """Wait for the first worker."""
    with connect(root) as service:
        while True:
            with suppress(L2LError):
                if service.client.run_on_scheduler(_n_workers):
                    return time.time()
            time.sleep(0.02)


def _n_workers(dask_scheduler: object) -> int:
    return len(dask_scheduler.workers)  # type: ignore[attr-defined]


def starts() -> None:
    """Print how long a start takes, part by part."""
    with batch_system() as system:
        print(f"seconds after `l2l service start` ({system}; each the median of {ROUNDS} starts)")
        print(f"{'':24}" + "".join(f"{part:>21}" for part in PARTS))
        for label, options in (("workers as needed", ()), ("--min 1", ("--min", "1"))):
            rounds = [start(system, *options) for _ in range(ROUNDS)]
            middle = [statistics.median(each) for each in zip(*rounds, strict=True)]
            print(f"{label:24}" + "".join(f"{seconds:21.2f}" for seconds in middle), flush=True)


# -- workers ----------------------------------------------------------------------------------------------------------


def schedule(folder: Path, pipe: Connection) -> None:
    """Be the scheduler, as a service is, until the other end of the pipe is closed."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with scheduler(tls.make(folder), "lo") as cluster:
        pipe.send(cluster.scheduler_address)
        with suppress(EOFError):
            pipe.recv()


def work(address: str, folder: Path, n: int) -> None:
    """Be so many workers."""
    logging.getLogger("distributed").setLevel(logging.ERROR)
    asyncio.run(_work(address, folder, n))


async def _work(address: str, folder: Path, n: int) -> None:
    options = {"nthreads": 1, "resources": {"cores": 1}, "memory_limit": 0, "local_directory": str(folder.parent)}
    security = tls.Tls(folder).security()
    dashboard = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    workers = [Worker(address, name=f"w{i}", security=security, **options, **dashboard) for i in range(n)]
    await asyncio.gather(*workers)
    await asyncio.gather(*(worker.finished() for worker in workers))


def drive(address: str, folder: Path, n: int, pid: int) -> list[float]:
    """Be the driver; return evaluations a second, and ms of CPU an evaluation and MB of scheduler and driver."""
    of_scheduler, notes = psutil.Process(pid), list[tuple[float, ...]]()

    def note(ended: int) -> None:
        cpu = sum(of_scheduler.cpu_times()[:2])
        notes.append((ended, time.perf_counter(), cpu, time.process_time()))

    def heard(progress: object) -> None:
        if not notes and progress.ended >= 10 * n:  # type: ignore[attr-defined]
            note(progress.ended)  # type: ignore[attr-defined]

    with tempfile.TemporaryDirectory() as store, attach(address, tls.Tls(folder)) as client:
        client.wait_for_workers(n, timeout=60)
        search(Path(store) / "e.zarr", 10 * n + EVALUATIONS).run(client, on_progress=heard)
    note(10 * n + EVALUATIONS)
    ended, wall, scheduling, driving = np.subtract(notes[1], notes[0])
    memory = [process.memory_info().rss / 1e6 for process in (of_scheduler, psutil.Process())]
    return [ended / wall, 1000 * scheduling / ended, 1000 * driving / ended, *memory]


def measured(n: int) -> list[float]:
    """Return what n workers cost."""
    with tempfile.TemporaryDirectory() as temporary, ProcessPoolExecutor(1, mp_context=SPAWNED) as driver:
        folder = Path(temporary) / "tls"
        pipe, theirs = SPAWNED.Pipe()
        scheduling = SPAWNED.Process(target=schedule, args=(folder, theirs))
        scheduling.start()
        theirs.close()
        address = pipe.recv()
        working = SPAWNED.Process(target=work, args=(address, folder, n))
        working.start()
        try:
            return driver.submit(drive, address, folder, n, scheduling.pid or 0).result()
        finally:
            working.kill()
            working.join()
            pipe.close()
            scheduling.join(20)
            scheduling.kill()


def workers(counts: Sequence[int]) -> None:
    """Print a line for each number of workers."""
    print(
        f"\n{EVALUATIONS} evaluations of {SECONDS * 1000:g} ms; workers are threads of one process, each with a child;"
    )
    print(f"CPU is for one evaluation, memory that at the end; medians of {ROUNDS}, from {FEW} workers on once")
    titles = ("evaluations/s", "scheduler: CPU ms", "driver: CPU ms", "scheduler: MB", "driver: MB")
    print(f"{'workers':>8}" + "".join(f"{title:>19}" for title in titles))
    costs: list[float] = []
    for n in counts:
        rounds = [measured(n) for _ in range(ROUNDS if n < FEW else 1)]
        middle = [statistics.median(each) for each in zip(*rounds, strict=True)]
        costs.append(middle[1] + middle[2])
        print(f"{n:8d}" + "".join(f"{value:19.1f}" for value in middle), flush=True)
    print(f"CPU of both per evaluation, {counts[-1]} workers to {counts[0]}: {costs[-1] / costs[0]:.2f}")


# -- virtual workers --------------------------------------------------------------------------------------------------


class Watched(Simulated):
    """Notes the CPU once all workers are busy."""

    began = 0.0

    def collect(self, timeout: float) -> list:
        self.began = self.began or time.process_time()
        return super().collect(timeout)


def free(params: dict[str, np.ndarray]) -> float:
    """Return the sphere function."""
    return float((params["x"] ** 2).sum())


def busy(ended: Trajectory) -> float:
    """Return the share of the slots' time that was used until the last individual was submitted."""
    started, finished, end = ended.record["started"], ended.record["finished"], ended.record["submitted"].max()
    return float((np.minimum(finished, end) - np.minimum(started, end)).sum() / (VIRTUAL * end))


def virtual() -> None:
    """Print what the driver of a large cluster does."""
    print(f"\n{VIRTUAL} virtual workers, {MANY} evaluations of log-normal times around 1 s, all in one process")
    print(f"{'':16}{'driver: CPU ms':>16}{'slots busy':>12}{'seconds that evaluations must last for one core':>50}")
    for name in ("random", "steady-state-ga"):
        executor = Watched(VIRTUAL, lambda _, rng: rng.lognormal(-0.5, 1.0))
        with tempfile.TemporaryDirectory() as folder:
            settings = {"space": SPACE, "objectives": minimize("f"), "evaluations": MANY, "cluster": "serial"}
            ended = Experiment(free, name, store=Path(folder) / "e.zarr", **settings).run(executor)
            each = (time.process_time() - executor.began) / MANY
            print(f"{name:16}{1000 * each:16.2f}{busy(ended):12.4f}{each * VIRTUAL:50.1f}", flush=True)


def main() -> None:
    """Print three tables."""
    starts()
    workers(WORKERS)
    virtual()


if __name__ == "__main__":
    main()
