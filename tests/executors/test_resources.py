"""What one evaluation takes of its worker's: cores, and whatever else Dask's workers are said to have."""

import os
import re
import time

import pytest
from dask.utils import parse_bytes
from distributed import Client, LocalCluster

from l2l_dask import Experiment, Real, Space, load, minimize
from l2l_dask.config import in_bytes
from l2l_dask.errors import ClusterError, ConfigError
from l2l_dask.worker import devices_of, slots_of

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


@pytest.mark.parametrize(
    ("visible", "taken", "seen"),
    [
        ("0,1,2,3", 1, ["0", "1", "2", "3"]),
        ("4,7", 1, ["4", "7"]),
        ("0,1,2,3", 2, ["0,1", "2,3"]),
        ("0,1", 0.5, ["0", "0", "1", "1"]),
        ("GPU-8932f937,GPU-46309db1", 1, ["GPU-8932f937", "GPU-46309db1"]),
        ("0", 1, ["0", "0"]),  # said to have two
        ("0", 2, ["0"]),
    ],
)
def test_the_gpus_of_a_worker_are_shared_out_among_its_slots(visible, taken, seen):
    environment = {"CUDA_VISIBLE_DEVICES": visible}
    shares = [devices_of(slot, {"GPU": taken}, environment) for slot in range(len(seen))]
    assert shares == [{"CUDA_VISIBLE_DEVICES": each} for each in seen]
    assert devices_of(0, {"cores": 1}, environment) == devices_of(0, {"GPU": 1}, {}) == {}


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


def experiment(tmp_path, function=busy, **options):
    options = {"space": SPACE, "objectives": minimize("f"), "store": tmp_path / "e.zarr", "evaluations": 8} | options
    return Experiment(function, "random", **options)


def most_at_once(trajectory):
    times = [trajectory.saved(id)["times"] for id in range(len(trajectory))]
    return max(sum(a <= start < b for a, b in times) for start, _ in times)


def test_evaluations_that_take_two_cores_run_two_at_a_time_on_four(client, tmp_path):
    def both_busy(params, context):
        begun, until = time.time(), time.monotonic() + 30
        (tmp_path / f"begun-{context.id}").touch()
        while not all((tmp_path / f"begun-{id}").exists() for id in range(2)) and time.monotonic() < until:
            time.sleep(0.01)
        fitness = busy(params, context)
        context.save("times", [begun, time.time()])
        return fitness

    ended = experiment(tmp_path, both_busy, resources={"cores": 2}).run(client)
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


def look_at_gpus(params, context):
    begun = time.time()
    time.sleep(0.15)
    context.save("seen", [float(os.environ["CUDA_VISIBLE_DEVICES"]), begun, time.time()])
    return params["x"]


def test_evaluations_of_two_experiments_on_one_worker_each_have_a_gpu_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,6")
    options = {"n_workers": 1, "threads_per_worker": 4, "resources": {"GPU": 3}, "host": "127.0.0.1"}
    with (
        LocalCluster(**options, dashboard_address="127.0.0.1:0", scheduler_kwargs={"dashboard": False}) as cluster,
        Client(cluster) as client,
        Client(cluster) as other,
    ):
        first = experiment(tmp_path, look_at_gpus, resources={"GPU": 1}).start(client)
        second = experiment(tmp_path, look_at_gpus, resources={"GPU": 1}, store=tmp_path / "f.zarr").start(other)
        ended = [first.wait(60), second.wait(60)]
    assert [each.counts()["done"] for each in ended] == [8, 8]
    seen = [each.saved(id)["seen"].tolist() for each in ended for id in range(8)]
    assert {gpu for gpu, _, _ in seen} == {3, 5, 6}
    for gpu, begun, end in seen:
        assert sum(begun < its_end and its_begin < end for its, its_begin, its_end in seen if its == gpu) == 1


def test_an_evaluation_that_uses_more_memory_than_it_may_is_recorded_as_crashed(tmp_path):
    def greedy(params, context):
        held = bytearray(300_000_000 if context.id == 1 else 1)
        held[:: 1 << 10] = b"1" * len(held[:: 1 << 10])
        time.sleep(60 if context.id == 1 else 0)
        return params["x"]

    ended = experiment(tmp_path, greedy, memory="250 MB", retries=0, workers=1, evaluations=3).run()
    assert ended.record["status"].tolist() == [1, 4, 1]
    assert re.match(r"MemoryError: used \d+ MB, the limit is 250 MB", ended.error(1))
    assert load(ended.layout.root).experiment["cluster"]["memory"] == "250 MB"


@pytest.mark.parametrize("memory", ["lots", "0 GB", "-1 GB", "3 PB", "1 GB 2", 0, True, 2.5])
def test_a_memory_limit_that_is_no_size_is_refused(tmp_path, memory):
    with pytest.raises(
        ConfigError, match=re.escape(f'[cluster] memory: expected a size such as "2 GB", got {memory!r}')
    ):
        experiment(tmp_path, memory=memory)


@pytest.mark.parametrize(("text", "size"), [("2 GB", 2 * 10**9), ("512MiB", 2**29), ("1.5 k", 1500), ("7b", 7), (9, 9)])
def test_a_size_in_memory_is_read_as_dask_does(text, size):
    assert in_bytes(text) == parse_bytes(text) == size
