"""Evaluation on a Dask cluster that the user started."""

import math
import os
import subprocess
import sys
import textwrap
import threading
import time
import types

import dask
import pytest

from l2l_dask import FunctionOptimizee, Optimizee, Real, Space, minimize
from l2l_dask.errors import ClusterError, ConfigError
from l2l_dask.evaluating import Where
from l2l_dask.evaluation import Candidate, Status
from l2l_dask.executors.dask import Dask
from l2l_dask.experiment import Experiment
from l2l_dask.trajectory import load

SPACE = {"x": {"low": 0.0, "high": 1.0}}
N = 20


def search(function, tmp_path, cluster, name="a", evaluations=N, **options):
    options = {"space": SPACE, "objectives": minimize("f"), "cluster": cluster.address, "seed": 1} | options
    return Experiment(function, "random", store=tmp_path / f"{name}.zarr", evaluations=evaluations, **options)


def assert_complete(ended, function=lambda x: x, n=N):
    assert ended.state == "finished"
    assert ended.counts()["done"] == ended.counts()["total"] == n
    found = ended.record["fitness"][:, 0].tolist()
    assert found == pytest.approx([function(x) for x in ended.record["params"][:, 0].tolist()])


def workers_of(client):
    return {str(info["name"]) for info in client.scheduler_info(n_workers=-1)["workers"].values()}


def n_tasks(client):
    return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


def test_a_function_in_a_file(l2l, cluster, client, tmp_path, write_toml):
    (tmp_path / "helper.py").write_text("def square(x):\n    return x * x\n")
    (tmp_path / "model.py").write_text(
        "import helper\n\nSHIFT = 1.0\n\n\ndef fitness(params):\n    return helper.square(params['x']) + SHIFT\n"
    )
    toml = write_toml('[optimizee]\nname = "model.py:fitness"')
    ran = l2l("run", toml, "--cluster", cluster.address, "--no-report")
    assert ran.returncode == 0, ran.stderr
    ended = load(tmp_path / "a.zarr")
    assert_complete(ended, lambda x: x * x + 1)
    assert set(ended.record["worker"].tolist()) <= workers_of(client)


def test_a_command_line(l2l, cluster, tmp_path, write_toml):
    (tmp_path / "model.py").write_text("import sys\nprint(2 * float(sys.argv[1]))\n")
    toml = write_toml(f'[optimizee]\ncommand = ["{sys.executable}", "model.py", "{{x}}"]')
    ran = l2l("run", toml, "--cluster", cluster.scheduler_file, "--no-report")
    assert ran.returncode == 0, ran.stderr
    assert_complete(load(tmp_path / "a.zarr"), lambda x: 2 * x)


SCRIPT = """
    import sys
    from l2l_dask import Real, Space, minimize
    from l2l_dask.experiment import Experiment

    FACTOR = 3.0

    def scaled(x):
        return FACTOR * x

    def fitness(params):
        return scaled(params["x"])

    if __name__ == "__main__":
        Experiment(fitness, "random", space=Space({"x": Real(0, 1)}), objectives=minimize("f"), evaluations=20,
                   store="a.zarr", seed=1, cluster=sys.argv[1]).run()
"""


def test_a_function_of_main(cluster, tmp_path, l2l):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    subprocess.run([sys.executable, "script.py", cluster.address], cwd=tmp_path, check=True, timeout=120)
    assert_complete(load(tmp_path / "a.zarr"), lambda x: 3 * x)
    resumed = l2l("resume", "a.zarr", "--evaluations", N + 5, "--no-report")
    assert resumed.returncode == 0, resumed.stderr
    assert_complete(load(tmp_path / "a.zarr"), lambda x: 3 * x, N + 5)


def test_a_lambda(cluster, tmp_path):
    assert_complete(search(lambda params: 4 * params["x"], tmp_path, cluster).run(), lambda x: 4 * x)


def test_a_closure(cluster, tmp_path):
    factor = [5.0]

    def scaled(params):
        return factor[0] * params["x"]

    assert_complete(search(scaled, tmp_path, cluster).run(), lambda x: 5 * x)


class Scaled(Optimizee):
    """Multiplies."""

    objectives = minimize("f")

    def __init__(self, factor):
        self.factor, self.offset = factor, None
        self.space = Space({"x": Real(0, 1)})

    def setup(self):
        self.offset = 1.0

    def evaluate(self, params, context):
        return self.factor * params["x"] + self.offset


def test_an_instance_of_a_class(cluster, tmp_path):
    ended = search(Scaled(6.0), tmp_path, cluster, space=None, objectives=None).run()
    assert_complete(ended, lambda x: 6 * x + 1)


def test_a_client_that_the_user_made_stays_open(client, tmp_path, cluster):
    assert_complete(search(lambda params: params["x"], tmp_path, cluster).run(client))
    assert client.submit(lambda: 1, pure=False).result(timeout=60) == 1


def test_dasks_own_setting_for_the_scheduler_is_honoured(l2l, cluster, client, tmp_path, write_toml):
    (tmp_path / "model.py").write_text("def fitness(params):\n    return params['x']\n")
    toml = write_toml('[optimizee]\nname = "model.py:fitness"')
    ran = l2l("run", toml, "--no-report", env=os.environ | {"DASK_SCHEDULER_ADDRESS": cluster.address})
    assert ran.returncode == 0, ran.stderr
    ended = load(tmp_path / "a.zarr")
    assert_complete(ended)
    assert set(ended.record["worker"].tolist()) <= workers_of(client)


def test_a_module_that_workers_cannot_import_is_a_failure_each_time_and_ends_the_run(cluster, tmp_path, monkeypatch):
    ghost = types.ModuleType("ghost_of_a_module")
    exec("def fitness(params):\n    return params['x']\n", ghost.__dict__)
    monkeypatch.setitem(sys.modules, "ghost_of_a_module", ghost)
    ghost.fitness.__module__ = "ghost_of_a_module"
    ended = search(ghost.fitness, tmp_path, cluster, evaluations=500, max_failures_in_a_row=5).run()
    assert ended.state == "failed"
    assert 5 <= ended.counts()["failed"] <= 50
    reasons = {reason for reason in ended.record["error"].tolist() if reason}
    assert reasons == {"ModuleNotFoundError: No module named 'ghost_of_a_module'"}
    assert "5 evaluations failed in a row" in ended.details["reason"]


def test_a_closure_that_cannot_be_pickled_is_refused_at_once(cluster, tmp_path):
    lock = threading.Lock()

    def locked(params):
        with lock:
            return params["x"]

    with pytest.raises(ConfigError) as caught:
        search(locked, tmp_path, cluster).run()
    assert "locked cannot be sent to a worker" in str(caught.value)
    assert "setup()" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_that_does_not_answer_leaves_nothing_behind(tmp_path, monkeypatch, cluster):
    experiment = search(lambda params: params["x"], tmp_path, cluster)
    away = Experiment(
        lambda params: params["x"],
        "random",
        space=SPACE,
        objectives=minimize("f"),
        store=tmp_path / "a.zarr",
        evaluations=1,
        cluster="tcp://127.0.0.1:1",
    )
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(ClusterError, match="tcp://"):
        away.run()
    assert list(tmp_path.iterdir()) == []
    assert_complete(experiment.run())


def test_two_experiments_share_a_cluster(cluster, client, tmp_path):
    handles = [search(lambda params, k=k: k * params["x"], tmp_path, cluster, name=f"{k}").start() for k in (1.0, 2.0)]
    ended = [handle.wait(120) for handle in handles]
    assert_complete(ended[0], lambda x: x)
    assert_complete(ended[1], lambda x: 2 * x)


def test_nothing_is_left_on_the_cluster(cluster, client, tmp_path):
    def at_work(params):
        import tempfile

        return float(len(tempfile.gettempdir()))

    search(at_work, tmp_path, cluster).run()
    cluster.wait_until(lambda: not cluster.evaluating())
    cluster.wait_until(lambda: n_tasks(client) == 0)
    plugins = client.run(lambda dask_worker: [name for name in dask_worker.plugins if name.startswith("l2l")])
    assert list(plugins.values()) == [[], []]


def test_an_evaluations_files_are_in_its_workers_folder(cluster, client, tmp_path):
    def is_inside(params, context):
        return float("dask-scratch-space" in context.workdir.parts)

    assert_complete(search(is_inside, tmp_path, cluster).run(), lambda x: 1.0)


def test_futures_are_released_while_the_experiment_runs(cluster, client, tmp_path):
    handle = search(lambda params: params["x"], tmp_path, cluster, evaluations=2000).start()
    most = 0
    while handle.running and (handle.progress is None or handle.progress.ended < 400):
        most = max(most, n_tasks(client))
    handle.stop()
    ended = handle.wait(120)
    assert 0 < most <= 4 * 9 * 2  # in flight at most, and as many again on their way out
    counts = ended.counts()  # what was asked for when the stop came stays pending
    assert counts["done"] + counts["pending"] == counts["total"]
    assert counts["done"] >= 400
    cluster.wait_until(lambda: n_tasks(client) == 0)


class Watched(Dask):
    """Notes how many are in flight."""

    def submit(self, candidates):
        super().submit(candidates)
        self.seen = max(getattr(self, "seen", 0), len(self._in_flight))


@pytest.mark.parametrize(("seconds", "deepest"), [(0.3, 2), (0.0, 18)])
def test_no_more_are_in_flight_than_there_is_room_for(client, tmp_path, cluster, seconds, deepest):
    executor = Watched(client)
    search(lambda params: time.sleep(seconds) or params["x"], tmp_path, cluster).run(executor)
    assert 2 <= executor.seen <= deepest
    if seconds:
        assert executor.seen == deepest


@pytest.mark.parametrize("alone", [False, True])
def test_who_is_to_have_a_worker_alone_still_is_when_a_worker_refused_it(client, alone):
    executor = Dask(client)
    optimizee = FunctionOptimizee(lambda params: time.sleep(60) or 1.0, Space({"x": Real(0, 1)}), minimize("f"))
    executor.start(optimizee, Where("nowhere.zarr", "apart", 1))
    try:
        executor._submit([[Candidate(0, {"x": 0.0}, 1)]], alone=alone)
        [first] = executor._in_flight
        executor._submit_again(first)
        [second] = executor._in_flight
        assert second.key != first.key
        assert executor._accounts.suspects.is_apart(str(second.key)) is alone
    finally:
        executor.close()


def evaluated(executor, id, seconds):
    executor.submit([Candidate(id, {"x": seconds}, 1)])
    ended = []
    while not ended:
        ended = executor.collect(1)
    return ended[0]


def test_the_reserve_hides_the_way_to_the_workers_and_shrinks_to_none(client):
    executor = Dask(client)
    assert executor.slots == executor.capacity == 2  # nothing is known yet
    optimizee = FunctionOptimizee(
        lambda params: time.sleep(params["x"]) or 1.0, Space({"x": Real(0, 1)}), minimize("f")
    )
    executor.start(optimizee, Where("nowhere.zarr", "reserve", 1))
    try:
        seconds = evaluated(executor, 0, 0.0).seconds
        assert executor.capacity == 2 + int(2 * min(8, 0.05 / seconds))
        while seconds > 0.05:  # the machine hesitated
            seconds = 0.7 * seconds + 0.3 * evaluated(executor, 0, 0.0).seconds
        assert executor.capacity == 2 + int(2 * min(8, 0.05 / seconds)) > 2
        for id in range(1, 40):  # the mean over some tens of evaluations follows
            one = evaluated(executor, id, 0.06)
            seconds = 0.7 * seconds + 0.3 * one.seconds
        assert seconds > 0.05
        assert executor.capacity == 2 + int(2 * min(8, 0.05 / seconds)) <= 3
        assert one.status is Status.DONE
        assert not math.isnan(one.submitted)
    finally:
        executor.close()


def test_a_handle_shows_and_steers_a_running_experiment(cluster, tmp_path):
    def slow(params):
        with open(tmp_path / "begun", "a") as file:
            file.write("one\n")
        time.sleep(0.02)
        return params["x"]

    handle = search(slow, tmp_path, cluster, evaluations=100_000).start()
    cluster.wait_until(lambda: handle.progress is not None and handle.progress.ended >= 10)
    assert handle.running
    cluster.wait_until(lambda: handle.best is not None)
    assert 0 <= handle.best.fitness["f"] <= 1
    assert handle.progress.slots == 2
    handle.pause()
    cluster.wait_until(lambda: load(handle.store).state == "paused")
    cluster.wait_until(lambda: (progress := handle.progress).paused and progress.in_flight == 0)
    resting = handle.progress.ended
    assert handle.progress.paused
    assert "paused" in handle.show()
    with pytest.raises(TimeoutError, match="still runs"):
        handle.wait(0.5)
    assert handle.progress.ended == resting
    handle.unpause()
    cluster.wait_until(lambda: handle.progress.ended > resting)
    assert load(handle.store).state == "running"
    handle.stop()
    ended = handle.wait(60)
    assert not handle.running
    assert ended.state == "stopped"
    assert ended.counts()["done"] == len((tmp_path / "begun").read_text().split())  # what ran was let end


def test_stopping_at_once_leaves_what_ran_for_a_resume(cluster, tmp_path):
    handle = search(lambda params: time.sleep(1000 * params["x"]), tmp_path, cluster, evaluations=50).start()
    cluster.wait_until(lambda: handle.progress is not None and handle.progress.in_flight >= 2)
    handle.stop(now=True)
    ended = handle.wait(60)
    assert ended.state == "stopped"
    assert ended.counts()["pending"] >= 2
    cluster.wait_until(lambda: not cluster.evaluating())
    resumed = Experiment.resume(
        ended.layout.root, optimizee=lambda params: params["x"], cluster=cluster.address, trust_record=True
    )
    assert_complete(resumed, n=50)
