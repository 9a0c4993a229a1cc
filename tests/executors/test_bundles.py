"""Bundles and batches on real Dask workers: what an individual gets does not depend on whom it shares a future with."""

import os
import signal
import time
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

from l2l_dask import FunctionOptimizee, Optimizee, Real, Space, minimize
from l2l_dask.evaluating import Where
from l2l_dask.evaluation import Candidate, Status
from l2l_dask.executors.dask import Dask
from l2l_dask.executors.sizing import Sizing
from l2l_dask.experiment import Experiment
from l2l_dask.service.sharing import Grant, Shared

SPACE = Space({"x": Real(0, 1)})


def search(function, store, **options):
    options = {"space": SPACE, "objectives": minimize("f"), "evaluations": 600, "seed": 2} | options
    return Experiment(function, "random", store=store, **options)


def test_a_search_in_bundles_finds_what_one_without_finds_with_far_fewer_futures(client, tmp_path):
    def fitness(params, context):
        if context.id % 50 == 7:
            raise ValueError("seven")
        return params["x"] + context.rng.random()

    bundled = search(fitness, tmp_path / "a.zarr", bundle=True).run(client)
    alone = search(fitness, tmp_path / "b.zarr", cluster="serial").run()
    for name in ("x", "fitness", "status", "attempt"):
        np.testing.assert_array_equal(bundled.record[name], alone.record[name])
    futures = set(zip(bundled.record["worker"].tolist(), bundled.record["submitted"].tolist(), strict=True))
    assert len(futures) < 100


def test_an_individual_of_a_bundle_that_kills_its_process_is_retried_and_recorded_alone(client, tmp_path):
    def deadly(params, context):
        if context.id == 300:
            os._exit(5)
        return params["x"]

    ended = search(deadly, tmp_path / "a.zarr", bundle=True).run(client)
    assert np.flatnonzero(ended.record["status"] != Status.DONE).tolist() == [300]
    assert ended.record["status"][300] == Status.CRASHED
    assert ended.record["attempt"][300] == 2


def test_a_generation_is_shared_out_among_all_slots(client, tmp_path):
    ended = Experiment(
        lambda params: time.sleep(0.005) or params["x"],
        "genetic",
        optimizer_options={"pop_size": 32},
        space=SPACE,
        objectives=minimize("f"),
        store=tmp_path / "a.zarr",
        evaluations=320,
        bundle=True,
    ).run(client)
    assert ended.counts()["done"] == 320
    generations = ended.record["worker"].reshape(10, 32)[5:]
    shares = [min(list(names).count(name) for name in set(ended.record["worker"].tolist())) for names in generations]
    assert np.median(shares) >= 4  # a worker may hesitate once
    assert len(set(ended.record["worker"].tolist())) == 2


class Vectorised(Optimizee):
    """Takes eight at once."""

    space, objectives, batch_size = SPACE, minimize("f"), 8

    def evaluate(self, params, context):
        raise NotImplementedError

    def evaluate_batch(self, params, contexts):
        for context in contexts:
            context.save("n", len(params))
        return [p["x"] for p in params]


@pytest.mark.parametrize("cluster", ["serial", "dask"])
def test_a_batch_optimizee_is_given_its_batches(client, tmp_path, cluster):
    experiment = Experiment(Vectorised(), "random", store=tmp_path / "a.zarr", evaluations=40, cluster="serial")
    ended = experiment.run(client if cluster == "dask" else None)
    assert ended.record["fitness"][:, 0].tolist() == ended.record["params"][:, 0].tolist()
    assert [ended.saved(id)["n"].item() for id in range(40)] == [8] * 40


def test_batches_stay_full_although_some_are_tried_again(client, tmp_path):
    class Flawed(Vectorised):
        def evaluate_batch(self, params, contexts):
            ended = super().evaluate_batch(params, contexts)
            return [float("nan") if c.id % 40 == 7 else value for c, value in zip(contexts, ended, strict=True)]

    options = {"evaluations": 400, "retry_on": ["failed"], "max_failures_in_a_row": 0}
    ended = Experiment(Flawed(), "random", store=tmp_path / "a.zarr", **options).run(client)
    first_tries = np.flatnonzero(ended.record["attempt"] == 1)
    sizes = [ended.saved(id)["n"].item() for id in first_tries.tolist()]
    assert ended.counts()["failed"] == 10
    assert np.mean(sizes) > 7.5  # of 8: without a rule for it they would fall to 4 and less
    assert np.mean(sizes[-100:]) > 7.5


def test_bundles_last_about_as_long_as_they_should(client, tmp_path):
    ended = search(lambda params: time.sleep(0.002) or params["x"], tmp_path / "a.zarr", evaluations=4000, bundle=True)
    record = ended.run(client).record
    futures = {}
    for worker, submitted, started, finished in zip(
        *(record[name].tolist() for name in ("worker", "submitted", "started", "finished")), strict=True
    ):
        futures.setdefault((worker, submitted), []).append((started, finished))
    lasted = [max(f for _, f in spans) - min(s for s, _ in spans) for spans in futures.values()]
    assert 0.05 < np.median(lasted[len(lasted) // 2 :]) < 1.0


def test_evaluations_that_become_long_leave_no_slot_idle_and_no_result_waiting(client, tmp_path):
    def suddenly_slow(params, context):
        time.sleep(0.3 if context.id >= 2000 else 0)
        return params["x"]

    ended = search(suddenly_slow, tmp_path / "a.zarr", evaluations=2040, bundle=True).run(client)
    assert ended.counts()["done"] == 2040
    np.testing.assert_array_equal(ended.record["fitness"][:, 0], ended.record["params"][:, 0])
    slow = ended.record["worker"][2000:].tolist()
    assert min(slow.count(name) for name in set(slow)) >= 5  # all forty were one bundle's, as it was sized before
    assert len(set(slow)) == 2
    told = ended.record["told"][2000:]
    assert len(set(told.tolist())) >= 5  # and not all at once, 12 s later


def kill_the_worker(params, context):
    if context.id == 1:
        guard = os.getppid()
        worker = int(Path(f"/proc/{guard}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(worker, signal.SIGKILL)
        time.sleep(60)
    time.sleep(params["x"])
    return params["x"]


# Once as Dask is, once so that its own count of losses blames all that a worker was to do with the first.
@pytest.mark.parametrize("allowed_failures", [3, 0])
@pytest.mark.parametrize("size", [4, 1])
def test_a_bundle_whose_worker_dies_is_split_and_only_the_culprit_is_recorded_as_crashed(
    tmp_path, allowed_failures, size
):
    options = {"n_workers": 1, "threads_per_worker": 2, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    settings = {"distributed.scheduler.allowed-failures": allowed_failures}
    settings["distributed.deploy.lost-worker-timeout"] = "10 minutes"  # after which a cluster starts none again
    with (
        dask.config.set(settings),
        LocalCluster(**options) as cluster,
        Client(cluster) as client,
    ):
        executor = Dask(client, bundle=True)
        executor.start(FunctionOptimizee(kill_the_worker, SPACE, minimize("f")), Where(str(tmp_path), "u", 1))
        try:
            executor._sizing.per_future = size
            executor._sizing.futures = lambda slots: 4 // size
            cut, submit = [], executor._submit
            executor._submit = lambda pieces, **options: cut.append(len(pieces)) or submit(pieces, **options)
            executor.submit([Candidate(id, {"x": id / 4}, 1) for id in range(4)])
            assert cut[0] == 4 // size
            ended, until = [], time.monotonic() + 120
            while len(ended) < 4 and time.monotonic() < until:
                ended += executor.collect(0.2)
        finally:
            executor.close()
    assert {e.id: e.status for e in ended} == {
        0: Status.DONE,
        1: Status.CRASHED,
        2: Status.DONE,
        3: Status.DONE,
    }
    assert next(e.error for e in ended if e.id == 1).startswith("WorkerLostError: ")


def test_what_was_granted_is_cut_into_no_more_futures_than_it_holds(client):
    executor = Shared(client, bundle=True, grant=Grant(quota=2))
    executor._sizing = Sizing(1, bundle=True)
    executor._sizing.per_future = 100
    executor._offer._asked = lambda: 64
    assert executor.capacity == 200
    assert (executor.slots, executor.reach) == (2, 64)
    cut = []
    executor._submit = cut.extend
    executor.submit([Candidate(id, {"x": 0.5}, 1) for id in range(200)])
    assert [len(piece) for piece in cut] == [100, 100]
