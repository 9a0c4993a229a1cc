"""A Dask cluster as a user starts it: from another folder, by `dask scheduler` and `dask worker`."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from distributed import Client

from l2l_dask.executors.dask import Dask

EXPERIMENT = """
[space]
x = {low = 0.0, high = 1.0}
[objectives]
f = "minimize"
[optimizer]
name = "random"
[run]
evaluations = 20
seed = 1
store = "a.zarr"
"""


class Cluster:
    """A scheduler and some workers, in processes of their own, whose current folder is ``folder``."""

    def __init__(self, folder, workers=2):
        self._folder = folder
        self._file = folder / "scheduler.json"
        options = ["--no-dashboard", "--scheduler-file", str(self._file), "--host", "127.0.0.1"]
        self.scheduler = self._start("dask_scheduler", *options, "--port", "0")
        self.wait_until(self._is_written)
        self.address = json.loads(self._file.read_text())["address"]
        self.workers = []
        for _ in range(workers):
            self.start_worker()

    def start_worker(self, threads=1, *options, **environment):
        """Start a worker, which has a nanny, and return the latter's process."""
        common = ["--no-dashboard", "--scheduler-file", str(self._file), "--host", "127.0.0.1"]
        common += ["--nthreads", str(threads), "--local-directory", str(self._folder)]
        self.workers.append(self._start("dask_worker", *common, *options, **environment))
        return self.workers[-1]

    def _is_written(self):
        with contextlib.suppress(OSError, ValueError):
            return bool(json.loads(self._file.read_text())["address"])
        return False

    def _start(self, program, *options, **environment):
        return subprocess.Popen(
            [sys.executable, "-P", "-m", f"distributed.cli.{program}", *options],
            cwd=self._folder,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def scheduler_file(self):
        return self._file

    def evaluating(self):
        """List the processes that evaluate."""
        return [p for p in self._family() if "l2l_dask.child" in p.info["cmdline"]]

    def _family(self):
        found = []
        for process in self.workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += psutil.Process(process.pid).children(recursive=True)
        for p in found:
            p.info = {"cmdline": []}
            with contextlib.suppress(psutil.Error):
                p.info["cmdline"] = p.cmdline()
        return found

    @staticmethod
    def wait_until(condition, seconds=60.0):
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "waited in vain"
            time.sleep(0.05)

    def close(self):
        processes = [psutil.Process(p.pid) for p in (*self.workers, self.scheduler) if p.poll() is None]
        processes += self._family()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGKILL)
        for process in (*self.workers, self.scheduler):
            process.wait()


@pytest.fixture
def own_cluster(tmp_path_factory):
    """A cluster that a test may break."""
    cluster = Cluster(tmp_path_factory.mktemp("own-cluster"))
    yield cluster
    cluster.close()


@pytest.fixture
def empty_cluster(tmp_path_factory):
    """A scheduler, to which a test adds workers as it likes."""
    cluster = Cluster(tmp_path_factory.mktemp("empty-cluster"), workers=0)
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def first_client(running_cluster):
    with Client(running_cluster.address) as client:
        yield client


@pytest.fixture
def cluster(running_cluster, first_client):
    """The cluster that the tests of a file share, with both workers up."""
    first_client.wait_for_workers(2, timeout=60)
    return running_cluster


@pytest.fixture
def client(cluster, first_client):
    return first_client


@pytest.fixture
def until_withdrawn(tmp_path, monkeypatch):
    """Let an individual that killed so many workers wait until no older future of it can run: it would kill one more.

    From the second kill on, the future that a worker was lost with is given up. Dask knows that after a moment alone.
    """
    withdrawn, withdraw = tmp_path / "withdrawn", Dask._withdraw
    withdrawn.touch()

    async def noted(executor, keys):
        await withdraw(executor, keys)
        with withdrawn.open("a") as file:
            file.write(".")

    def until_withdrawn(kills):
        until = time.monotonic() + 30
        while withdrawn.stat().st_size < kills - 1 and time.monotonic() < until:
            time.sleep(0.02)

    monkeypatch.setattr(Dask, "_withdraw", noted)
    return until_withdrawn


@pytest.fixture
def write_toml(tmp_path):
    """Write an experiment file of twenty evaluations, with a head that says what is evaluated."""

    def write_toml(head):
        path = tmp_path / "experiment.toml"
        path.write_text(f"{head}\n{EXPERIMENT}")
        return path

    return write_toml
