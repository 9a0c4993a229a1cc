"""What real workers tell of the evaluations that run on them."""

import os
import signal
import time

from distributed import Client

from l2l_dask import Real, Space
from l2l_dask.evaluating import Where
from l2l_dask.evaluation import Candidate, Objectives
from l2l_dask.executors.dask import Dask
from l2l_dask.optimizee import FunctionOptimizee


def sleep(params):
    time.sleep(params["x"])
    return params["x"]


def start(client, uuid, function=sleep):
    executor = Dask(client)
    executor.start(
        FunctionOptimizee(function, Space({"x": Real(0, 100)}), Objectives({"f": "minimize"})),
        Where("nowhere.zarr", uuid, 1),
    )
    return executor


def wait_for(executor, condition, seconds=60.0):
    ended, until = [], time.monotonic() + seconds
    while not condition(ended):
        assert time.monotonic() < until, (ended, executor.underway())
        ended += executor.collect(0.1)
    return ended


def test_a_long_evaluation_is_said_to_run_on_its_worker_until_it_ends_and_a_short_one_never(client, tmp_path):
    enough = tmp_path / "enough"

    def sleep(params):
        until = time.monotonic() + params["x"]
        while time.monotonic() < until and not enough.exists():
            time.sleep(0.01)
        return params["x"]

    executor = start(client, "long", sleep)
    try:
        before = time.time()
        executor.submit([Candidate(0, {"x": 0.1}, 1), Candidate(1, {"x": 50.0}, 1)])
        wait_for(executor, lambda ended: executor.underway() and ended)
        (one,) = executor.underway()
        enough.touch()
        ended = wait_for(executor, lambda ended: ended)
        assert [e.id for e in ended] == [1]
        assert (one.id, one.worker) == (1, ended[0].worker)
        assert before <= one.since <= ended[0].started
        assert executor.underway() == []
    finally:
        executor.close()


def test_what_a_worker_was_lost_with_is_said_to_run_on_another(own_cluster):
    with Client(own_cluster.address) as client:
        client.wait_for_workers(2, timeout=60)
        executor = start(client, "lost")
        try:
            executor.submit([Candidate(0, {"x": 100.0}, 1)])
            wait_for(executor, lambda _: executor.underway())
            (first,) = executor.underway()
            pids = {str(w["name"]): address for address, w in client.scheduler_info()["workers"].items()}
            (pid,) = client.run(os.getpid, workers=[pids[first.worker]]).values()
            os.kill(pid, signal.SIGKILL)
            wait_for(executor, lambda _: executor.underway() not in ([], [first]))
            (second,) = executor.underway()
            assert second.id == 0
            assert second.since > first.since + 1
        finally:
            executor.close()
