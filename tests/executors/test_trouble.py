"""What goes wrong on a cluster in mid-run: no result is lost by it, and nothing is left behind."""

import json
import os
import pickle
import signal
import threading
import time

import psutil
import pytest
from distributed import Client

from l2l_dask import FunctionOptimizee, Real, Space, minimize
from l2l_dask.errors import ClusterError, LostError
from l2l_dask.evaluating import Where
from l2l_dask.evaluation import Candidate, Evaluation, Status
from l2l_dask.executors import dask as under_test
from l2l_dask.executors.dask import Dask
from l2l_dask.experiment import Experiment
from l2l_dask.trajectory import load

SPACE = {"x": {"low": 0.0, "high": 1.0}}
N = 20
MODEL = """
import os
import time

def fitness(p):
    time.sleep(0.1 if os.path.exists("slow") else 0)
    return p["x"]
"""


def search(function, tmp_path, cluster, name="a", evaluations=N, **options):
    options = {"space": SPACE, "objectives": minimize("f"), "cluster": cluster.address, "seed": 1} | options
    return Experiment(function, "random", store=tmp_path / f"{name}.zarr", evaluations=evaluations, **options)


def assert_complete(ended, function=lambda x: x, n=N):
    assert ended.state == "finished"
    assert ended.counts()["done"] == ended.counts()["total"] == n
    found = ended.record["fitness"][:, 0].tolist()
    assert found == pytest.approx([function(x) for x in ended.record["params"][:, 0].tolist()])


def l2l_plugins(client):
    return client.run_on_scheduler(lambda dask_scheduler: [n for n in dask_scheduler.worker_plugins if "l2l" in n])


@pytest.fixture
def slow(tmp_path):
    """A file: as long as it is there, evaluations take so long that a search does not end before it is looked at."""
    file = tmp_path / "slow"
    file.touch()
    return file


def test_what_a_killed_driver_left_on_the_workers_is_ended_by_the_next(
    l2l, cluster, client, tmp_path, slow, write_toml
):
    (tmp_path / "model.py").write_text(MODEL)
    toml = write_toml('[optimizee]\nname = "model.py:fitness"')
    driver = l2l.start("run", toml, "--cluster", cluster.address, "--evaluations", 400, "--no-report")
    store = tmp_path / "a.zarr"
    cluster.wait_until(lambda: store.exists() and load(store).counts()["done"] >= 5)
    os.kill(driver.pid, signal.SIGKILL)
    driver.communicate()
    assert len(l2l_plugins(client)) == 1
    slow.unlink()
    resumed = l2l("resume", store, "--cluster", cluster.address, "--no-report")
    assert resumed.returncode == 0, resumed.stderr
    assert_complete(load(store), n=400)
    assert l2l_plugins(client) == []
    cluster.wait_until(lambda: not cluster.evaluating())


def test_closing_waits_for_no_scheduler_that_hangs_and_ends_everything_when_it_goes_on(own_cluster):
    with Client(own_cluster.address) as client:
        client.wait_for_workers(2, timeout=60)
        executor = Dask(client)
        optimizee = FunctionOptimizee(lambda params: params["x"], Space({"x": Real(0, 1)}), minimize("f"))
        executor.start(optimizee, Where("nowhere.zarr", "hangs", 1))
        executor.submit([Candidate(0, {"x": 0.0}, 1)])
        while not executor.collect(1):
            pass
        own_cluster.scheduler.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        executor.close()
        assert time.monotonic() - begun < 20
        assert own_cluster.evaluating()
        own_cluster.scheduler.send_signal(signal.SIGCONT)
        own_cluster.wait_until(lambda: not own_cluster.evaluating())
        assert l2l_plugins(client) == []


def test_a_scheduler_that_hangs_at_the_start_is_waited_for_but_not_for_ever(own_cluster, monkeypatch):
    monkeypatch.setattr(under_test, "_START", 2.0)
    with Client(own_cluster.address) as client:
        client.wait_for_workers(2, timeout=60)
        own_cluster.scheduler.send_signal(signal.SIGSTOP)
        try:
            optimizee = FunctionOptimizee(lambda params: params["x"], Space({"x": Real(0, 1)}), minimize("f"))
            with pytest.raises(ClusterError, match="did not get ready within 2 s"):
                Dask(client).start(optimizee, Where("nowhere.zarr", "hangs", 1))
        finally:
            own_cluster.scheduler.send_signal(signal.SIGCONT)


@pytest.fixture
def under_way(own_cluster, tmp_path, slow):
    """A search of 200 evaluations some of which have ended; it ends soon when nothing is slow any more."""
    handle = search(
        lambda params: time.sleep(0.1 if slow.exists() else 0) or params["x"], tmp_path, own_cluster, evaluations=200
    ).start()
    own_cluster.wait_until(lambda: handle.progress is not None and handle.progress.ended >= 6)
    return handle


def test_a_worker_that_is_killed_loses_nothing(breakable, under_way, slow):
    os.kill(min(breakable.run(os.getpid).values()), signal.SIGKILL)
    assert under_way.running
    slow.unlink()
    assert_complete(under_way.wait(120), n=200)


def test_an_individual_that_kills_its_workers_kills_three_and_is_not_tried_again(
    own_cluster, tmp_path, until_withdrawn
):
    killed = tmp_path / "killed"
    killed.touch()

    def function(params, context):
        if context.id == 2:
            until_withdrawn(killed.read_text().count("one"))
            time.sleep(1)  # whether it has its worker for itself is told meanwhile
            with killed.open("a") as file:
                file.write("one\n")
            guard = psutil.Process(os.getppid())
            os.kill(guard.ppid(), signal.SIGKILL)
            time.sleep(60)
        return params["x"]

    with Client(own_cluster.address) as client:
        ended = search(function, tmp_path, own_cluster, evaluations=6).run(client)
    assert [id for id in range(6) if ended.record["status"][id] != Status.DONE] == [2]
    assert ended.error(2).startswith("WorkerLostError: ")
    assert killed.read_text().count("one") == 3
    assert ended.record["attempt"][2] == 1


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_scheduler_that_is_gone_ends_the_driver_with_the_way_to_go_on(
    own_cluster, tmp_path, slow, l2l, how, write_toml
):
    (tmp_path / "model.py").write_text(MODEL)
    toml = write_toml('[optimizee]\nname = "model.py:fitness"')
    driver = l2l.start("run", toml, "--cluster", own_cluster.address, "--evaluations", 400, "--no-report")
    store = tmp_path / "a.zarr"
    own_cluster.wait_until(lambda: store.exists() and load(store).counts()["done"] >= 5)
    if how == "killed":
        own_cluster.scheduler.kill()
    else:
        own_cluster.scheduler.terminate()
    _, err = driver.communicate(timeout=25)
    assert driver.returncode not in (0, -9)
    assert "the scheduler was lost" in err.splitlines()[-1]
    assert f"l2l resume {store}" in err.splitlines()[-1]
    assert "Traceback" not in err
    left = load(store)
    slow.unlink()
    assert left.state == "interrupted"
    assert left.counts()["done"] >= 5
    told = {name: left.record[name][left.record["told"] >= 0].tolist() for name in ("x", "fitness", "told")}
    resumed = l2l("resume", store, "--cluster", "serial", "--json", "--no-report")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["evaluations"]["done"] == 400
    ended = load(store)
    assert_complete(ended, n=400)
    kept = left.record["told"] >= 0
    assert {name: ended.record[name][: len(left)][kept].tolist() for name in told} == told


@pytest.fixture
def breakable(own_cluster):
    """A client of a cluster that a test may break."""
    with Client(own_cluster.address) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


@pytest.fixture
def started():
    """Start executors that evaluate x after a pause of x seconds."""
    executors = []

    def start(client, kind=Dask):
        executors.append(kind(client))
        function = FunctionOptimizee(
            lambda params: time.sleep(params["x"]) or params["x"], Space({"x": Real(0, 100)}), minimize("f")
        )
        executors[-1].start(function, Where("nowhere.zarr", "trouble", len(executors)))
        return executors[-1]

    yield start
    for executor in executors:
        executor.close()


def collected(executor, n, seconds=60):
    ended, until = [], time.monotonic() + seconds
    while len(ended) < n:
        assert time.monotonic() < until, f"only {ended} came"
        ended += executor.collect(0.1)
    return ended


class Late(Dask):
    """Looks at what has ended only when it may."""

    def __post_init__(self):
        super().__post_init__()
        self.may = threading.Event()

    def _receive(self, futures):
        self.may.wait()
        super()._receive(futures)


def test_a_result_that_is_lost_with_its_worker_keeps_no_other_waiting(own_cluster, breakable, started):
    executor = started(breakable, Late)
    executor.submit([Candidate(0, {"x": 4.0}, 1)])
    own_cluster.wait_until(lambda: set(status(executor)) == {"finished"})
    (holder,) = next(iter(breakable.who_has(list(executor._in_flight)).values()))
    others = [Candidate(id, {"x": 0.0}, 1) for id in range(1, 5)]
    executor.submit(others)
    own_cluster.wait_until(lambda: set(status(executor)) == {"finished"})
    where = breakable.who_has(list(executor._in_flight))
    ids = {future.key: c.id for future, ([c], _) in executor._in_flight.items()}
    elsewhere = {ids[key] for key, held in where.items() if held != (holder,)}
    assert elsewhere
    os.kill(breakable.run(os.getpid)[holder], signal.SIGKILL)
    executor.may.set()
    ended = collected(executor, 5)
    order = [e.id for e in ended]
    assert max(map(order.index, elsewhere)) < order.index(0)
    assert {e.id: e.fitness for e in ended} == {0: (4.0,)} | dict.fromkeys(range(1, 5), (0.0,))


def status(executor):
    return [future.status for future in executor._in_flight]


def test_cancelled_futures_are_submitted_again(breakable, started):
    executor = started(breakable)
    executor.submit([Candidate(id, {"x": 1.0}, 1, attempt=2) for id in range(4)])
    time.sleep(0.5)
    breakable.cancel(list(executor._in_flight))
    ended = collected(executor, 4)
    assert sorted((e.id, e.attempt, e.status, e.fitness) for e in ended) == [
        (id, 2, Status.DONE, (1.0,)) for id in range(4)
    ]


def test_a_restart_of_the_workers_loses_nothing(breakable, under_way, slow):
    breakable.restart()
    slow.unlink()
    assert_complete(under_way.wait(120), n=200)


def test_a_result_that_cannot_be_read_is_a_failure_and_harms_no_other(client, started, monkeypatch):
    home = os.getpid()

    class Unreadable:
        def __reduce__(self):
            return exec, (f"import os\nif os.getpid() == {home}: raise RuntimeError('of another release')",)

    def evaluate(plugin, packed, terms):
        (candidate,) = pickle.loads(packed)
        done = Evaluation(candidate.id, Status.DONE, candidate.attempt, (0.5,))
        return Unreadable() if candidate.id == 1 else [done]

    monkeypatch.setattr(under_test.worker, "evaluate", evaluate)
    executor = started(client)
    executor.submit([Candidate(id, {"x": 0.0}, 1) for id in range(4)])
    ended = {e.id: e for e in collected(executor, 4)}
    assert [ended[id].status for id in range(4)] == [Status.DONE, Status.FAILED, Status.DONE, Status.DONE]
    assert ended[1].error.startswith("the result cannot be read: RuntimeError: of another release\n")


def test_a_client_that_is_closed_in_mid_run_is_a_lost_cluster(own_cluster, started):
    client = Client(own_cluster.address)
    executor = started(client)
    executor.submit([Candidate(0, {"x": 50.0}, 1)])
    client.close()
    with pytest.raises(LostError, match="the scheduler was lost"):
        collected(executor, 1, seconds=10)


@pytest.mark.timeout(120)
def test_a_gather_that_dask_has_not_begun_in_time_does_not_hold_up_all_later_ones(
    cluster, client, tmp_path, monkeypatch
):
    monkeypatch.setattr(under_test, "_HURRY", 0.05)
    given_up = threading.Event()
    original = Dask._receive

    def receive(self, futures):
        original(self, futures)
        given_up.set()

    async def hold(places):
        for _ in range(5):
            await places.acquire()

    async def release(places):
        for _ in range(5):
            places.release()

    monkeypatch.setattr(Dask, "_receive", receive)
    client.sync(hold, client._gather_semaphore)  # as if five others were under way
    threading.Thread(target=lambda: given_up.wait(60) and client.sync(release, client._gather_semaphore)).start()
    assert_complete(search(lambda p: p["x"], tmp_path, cluster).run(client))
