"""What one evaluation takes of its worker's: cores, and whatever else Dask's workers are said to have."""

import os
import time

import pytest
from distributed import Client, LocalCluster

from l2l_dask import Experiment, Real, Space, load, minimize
from l2l_dask.errors import ClusterError
from l2l_dask.worker import slots_of

SPACE = Space({"x": Real(0, 1)})


@pytest.mark.parametrize(
    ("threads", "offered", "taken", "slots"),
    [
        (4, {}, {}, 4),
        (4, {"cores": 4}, {"cores": 2}, 2),
        (4, {"cores": 4}, {"cores": 3}, 1),
        (1, {"cores": 8}, {"cores": 2}, 1),
        (8, {"cores": 8, "GPU": 1}, {"cores": 2, "GPU": 0.5}, 2),
        (4, {"cores": 1}, {"cores": 2}, 0),
        (9, {"GPU": 0.6}, {"GPU": 0.2}, 3),
        (4, {}, {"GPU": 1}, 0),
    ],
)
def test_a_worker_has_as_many_slots_as_its_threads_and_resources_allow(threads, offered, taken, slots):
    assert slots_of({"nthreads": threads, "resources": offered}, taken) == slots


def busy(params, context):
    context.save("times", [time.time(), time.sleep(0.2) or time.time()])
    context.save("threads", [int(os.environ["OMP_NUM_THREADS"]), int(os.environ["NUMBA_NUM_THREADS"])])
    return params["x"]


@pytest.fixture(scope="module")
def client():
    """One worker that has four threads, and says that it has four cores."""
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=4,
            resources={"cores": 4},
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def experiment(tmp_path, **options):
    return Experiment(
        busy, "random", space=SPACE, objectives=minimize("f"), store=tmp_path / "e.zarr", evaluations=8, **options
    )


def most_at_once(trajectory):
    times = [trajectory.saved(id)["times"] for id in range(len(trajectory))]
    return max(sum(a <= start < b for a, b in times) for start, _ in times)


def test_evaluations_that_take_two_cores_run_two_at_a_time_on_four(client, tmp_path):
    ended = experiment(tmp_path, resources={"cores": 2}).run(client)
    assert ended.counts()["done"] == 8
    assert most_at_once(ended) == 2
    assert ended.saved(0)["threads"].tolist() == [2, 2]
    assert load(ended.layout.root).experiment["cluster"]["resources"] == {"cores": 2}


def test_resources_that_no_worker_has_are_refused_before_anything_waits_for_them(client, tmp_path):
    with pytest.raises(
        ClusterError, match=r"offers the resources .* \(GPU=1; one has \{'cores': 4\}\).*--resources 'GPU=1'"
    ):
        experiment(tmp_path, resources={"GPU": 1}).run(client)


def test_local_workers_have_what_one_evaluation_takes(tmp_path):
    ended = experiment(tmp_path, resources={"cores": 1000}).run()
    assert ended.counts()["done"] == 8
    assert most_at_once(ended) == 1, "no machine has two thousand cores"
    assert ended.saved(0)["threads"].tolist() == [1000, 1000]
