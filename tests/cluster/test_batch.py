"""A batch system's twin with real workers: they join over TLS, and are replaced when they die."""

import asyncio
import os
import signal
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from distributed import Client, Status

from l2l_dask import Experiment, Real, Space, minimize
from l2l_dask.cluster import batch as batches
from l2l_dask.cluster import tls
from l2l_dask.cluster.batch import batch
from l2l_dask.cluster.profiles import Profile
from l2l_dask.errors import ClusterError

PROFILE = Profile("local", {"cores": 2, "memory": "1 GB", "interface": "lo", "walltime": "00:10:00"})


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def slow(params, context):
    time.sleep(0.05)
    return params["x"] ** 2


@pytest.fixture
def cluster(tmp_path):
    with batch(PROFILE, 2, tmp_path / "jobs", offers={"GPU": 1}) as (client, workers):
        client.wait_for_workers(2, timeout=60)
        workers.killed = []
        yield client, workers
    # Neither keys nor the output of jobs that did well are left.
    killed = tuple(f"{name}{mark}" for name in workers.killed for mark in "-.")
    left = [path.name for path in (tmp_path / "jobs").glob("*")]
    assert all(name.startswith(killed) for name in left), left
    assert killed or not (tmp_path / "jobs").exists()
    until(lambda: not [p for p in psutil.process_iter() if workers._name in " ".join(_command(p))])


def _command(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_its_workers_take_what_a_job_has_and_survive_the_loss_of_a_job(cluster, tmp_path):
    client, workers = cluster
    info = client.scheduler_info(n_workers=-1)["workers"].values()
    assert [(w["nthreads"], w["resources"]) for w in info] == [(2, {"cores": 2, "GPU": 1})] * 2
    ends = client.run(lambda: float(os.environ["L2L_JOB_END"])).values()
    assert all(500 < end - time.time() < 600 for end in ends)

    handle = Experiment(
        slow, "random", space=Space({"x": Real(-1, 1)}), objectives=minimize("loss"),
        store=tmp_path / "a.zarr", evaluations=400, seed=1,
    ).start(client)  # fmt: skip
    until(lambda: handle.progress and handle.progress.ended > 20)
    lost = workers.jobs[0]
    workers.killed.append(lost.name)
    os.killpg(int(lost.id.partition("-")[0]), signal.SIGKILL)
    ended = handle.wait(120)
    assert ended.counts() == {"total": 400, "done": 400} | {k: 0 for k in ended.counts() if k not in ("total", "done")}
    until(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == 2)


def test_without_the_key_nobody_connects(cluster, tmp_path):
    client, _ = cluster
    address = client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    with pytest.raises((OSError, TimeoutError)):
        Client(address, security=tls.make(tmp_path / "own").security(), timeout=2)
    with pytest.raises((OSError, TimeoutError)):
        Client(address.replace("tls", "tcp"), timeout=2)


def test_the_folder_with_the_key_is_for_its_owner_alone(tmp_path):
    with batch(PROFILE, 1, tmp_path / "jobs") as (_, workers):
        assert stat.S_IMODE((tmp_path / "jobs/tls").stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in Path(tmp_path, "jobs/tls").iterdir()} == {0o600}
        until(lambda: workers.jobs)


def test_jobs_that_cannot_be_made_are_refused_before_anything_is_started(tmp_path):
    broken = Profile("htcondor", {"cores": 1, "memory": "1 GB"})
    with (
        pytest.raises(ClusterError, match=r"htcondor: a job cannot be made: .*disk"),
        batch(broken, 1, tmp_path / "jobs"),
    ):
        pass
    assert not (tmp_path / "jobs").exists()


def test_a_worker_that_has_just_joined_is_one_that_takes_tasks():
    states = {"a": Status.init, "b": Status.running, "c": Status.closing_gracefully}
    workers = {name: SimpleNamespace(name=name, status=status, processing={}) for name, status in states.items()}
    found = asyncio.run(batches._workers(SimpleNamespace(workers=workers)))
    assert {name: worker.taking for name, worker in found.items()} == {"a": True, "b": True, "c": False}
