"""Early stopping where evaluations run elsewhere: in child processes, on the workers of a real cluster."""

import itertools
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
from distributed import get_client

from l2l_dask import Optimizee, Real, Space, minimize
from l2l_dask.evaluation import Status
from l2l_dask.experiment import Experiment
from l2l_dask.registry import find
from l2l_dask.reports import CURVE
from l2l_dask.trajectory import Writer, load, look
from l2l_dask.trajectory.journal import read

RandomSearch = find("optimizers", "random")
SPACE = Space({"x": Real(0, 1)})


class Strict(RandomSearch):
    """Stops whoever reports more than 0.5."""

    def _observe(self, reports):
        return [id for id, points in reports.items() if any(value > 0.5 for _, value in points)]


def until_stopped(params, context):
    """Report until stopped if poor, which is for ever."""
    context.save("trace", [params["x"]])
    if params["x"] <= 0.5:
        context.report(1, params["x"])
        return params["x"]
    steps = itertools.count(1)
    while True:
        context.report(next(steps), params["x"])
        time.sleep(0.01)


def search(function, store, optimizer=Strict, **options):
    options = {"space": SPACE, "objectives": minimize("f"), "evaluations": 12, "seed": 2} | options
    if isinstance(function, Optimizee):
        del options["space"], options["objectives"]
    return Experiment(function, optimizer, store=store, **options)


def poor(trajectory):
    return trajectory.record["params"][:, 0] > 0.5


def check(ended):
    """Check that those and only those are stopped that are poor, and that what they reported and saved is kept."""
    assert ended.state == "finished"
    assert 0 < poor(ended).sum() < len(ended)
    np.testing.assert_array_equal(ended.record["status"], np.where(poor(ended), Status.STOPPED, Status.DONE))
    for id, x in enumerate(ended.record["params"][:, 0].tolist()):
        saved = ended.saved(id)
        np.testing.assert_array_equal(saved[CURVE][:, 0], np.arange(1, len(saved[CURVE]) + 1))
        assert set(saved[CURVE][:, 1]) == {x}


def test_what_would_never_end_is_stopped_on_a_cluster(client, tmp_path):
    ended = search(until_stopped, tmp_path / "a.zarr").run(client)
    check(ended)
    assert all(ended.saved(id)["trace"] == ended.record["params"][id] for id in range(12))
    assert len(set(ended.record["worker"].tolist())) == 2


def test_what_would_never_end_is_stopped_on_the_embedded_cluster(tmp_path):
    check(search(until_stopped, tmp_path / "a.zarr", cluster="local", workers=1).run())


def test_the_child_processes_stay_warm_when_what_they_evaluate_is_stopped(client, tmp_path):
    def fitness(params, context):
        context.save("pid", [os.getpid()])
        return until_stopped(params, context)

    ended = search(fitness, tmp_path / "a.zarr").run(client)
    check(ended)
    assert len({int(ended.saved(id)["pid"][0]) for id in range(12)}) == 2


def test_an_individual_of_a_bundle_is_stopped_alone(client, tmp_path):
    def fitness(params, context):
        """Most cost nothing, so that bundles grow; some of a later one go on for ever."""
        if context.id < 200:
            return params["x"] / 2
        return until_stopped(params, context) if context.id % 25 == 0 else params["x"]

    ended = search(fitness, tmp_path / "a.zarr", evaluations=400, bundle=True).run(client)
    x, ids = ended.record["params"][:, 0], np.arange(400)
    endless = (ids >= 200) & (ids % 25 == 0) & (x > 0.5)
    assert endless.sum() > 2
    np.testing.assert_array_equal(ended.record["status"] == Status.STOPPED, endless)
    assert ended.counts()["done"] == 400 - endless.sum()


class Vectorised(Optimizee):
    """Takes four at once, and computes those that go on."""

    space, objectives, batch_size = SPACE, minimize("f"), 4

    def evaluate(self, params, context):
        raise NotImplementedError

    def evaluate_batch(self, params, contexts):
        left, step = list(zip(params, contexts, strict=True)), 0
        while left:
            step += 1
            for p, context in left:
                context.report(step, p["x"])
            left = [(p, c) for p, c in left if p["x"] > 0.5 and not c.stopped]
            time.sleep(0.01)
        return [None if c.stopped else p["x"] for p, c in zip(params, contexts, strict=True)]


def test_of_a_batch_those_that_are_stopped_have_no_fitness_and_the_others_have(client, tmp_path):
    check(search(Vectorised(), tmp_path / "a.zarr").run(client))


def test_a_process_that_dies_before_it_obeys_is_not_started_again_for_that(client, tmp_path):
    note, journal = tmp_path / "note", tmp_path / "a.zarr" / ".l2l" / "journal-000001-000000.log"

    def deadly(params, context):
        if params["x"] <= 0.5:
            return params["x"]
        with note.open("a") as file:
            file.write(f"{context.id} ")
        context.report(1, params["x"])
        while not any(context.id in fact.get("stop", ()) for fact in read(journal)):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    ended = search(deadly, tmp_path / "a.zarr", retries=5).run(client)
    np.testing.assert_array_equal(ended.record["status"], np.where(poor(ended), Status.STOPPED, Status.DONE))
    assert sorted(map(int, note.read_text().split())) == np.flatnonzero(poor(ended)).tolist()
    for id in np.flatnonzero(poor(ended)).tolist():
        np.testing.assert_array_equal(ended.saved(id)[CURVE], [[1, ended.record["params"][id, 0]]])


def test_every_report_is_seen_once_and_before_the_result_also_of_evaluations_that_end_at_once(client, tmp_path):
    class Noting(RandomSearch):
        def _observe(self, reports):
            return []

    def quick(params, context):
        for step in range(50):
            context.report(step, context.id)
        return params["x"]

    search(quick, tmp_path / "a.zarr", Noting, evaluations=40).run(client)
    writer = Writer(tmp_path / "a.zarr", SPACE)
    events, seen = list(writer.record.events()), {}
    writer.close()
    for event in events:
        for id, points in (event.reports or {}).items():
            seen.setdefault(id, []).extend(points)
        if event.tell:
            assert all(seen[id] == [(step, id) for step in range(50)] for id in event.ids.tolist())
    assert len(seen) == 40


def test_the_scheduler_does_not_keep_what_was_reported(client, tmp_path):
    search(until_stopped, tmp_path / "a.zarr").run(client)
    kept = client.run_on_scheduler(
        lambda dask_scheduler: {
            name: (len(topic.events), len(topic.subscribers))
            for name, topic in dask_scheduler._broker._topics.items()
            if name.startswith("l2l-")
        }
    )
    for messages, subscribers in kept.values():
        assert messages <= 2, "more than each worker's last"
        assert subscribers == 0


def test_a_flood_of_reports_takes_little_memory_of_the_scheduler(client, tmp_path):
    class Looking(RandomSearch):
        kept = ()

        def _observe(self, reports):
            Looking.kept = get_client().get_events() or Looking.kept
            return []

    def flooding(params, context):
        for step in range(3000):
            context.report(step, params["x"])
        return params["x"]

    def size(thing):
        return sys.getsizeof(thing) + (sum(map(size, thing)) if isinstance(thing, list | tuple) else 0)

    search(flooding, tmp_path / "a.zarr", Looking, evaluations=4).run(client)
    messages = Looking.kept[f"l2l-{look(tmp_path / 'a.zarr')[0]}-1"]
    reports = [report for _, message in messages for report in message.get("reports", ())]
    assert sum(size(points) for *_, points in reports) < 20 * 4 * 3000
    assert max(first for _, first, _ in reports) > 1000


CONFIG = """
[optimizee]
name = "model.py:fitness"
[space]
x = {low = 0.0, high = 1.0}
[objectives]
loss = "minimize"
[optimizer]
name = "hyperband"
options = {max_resource = 27}
[run]
evaluations = 40
seed = 3
store = "a.zarr"
"""
MODEL = """
import os
import time

def fitness(params, context):
    with open("begun", "a") as file:
        file.write(f"{context.id}\\n")
    for step in range(1, 28):
        time.sleep(0.1 if os.path.exists("slow") else 0.01)
        context.report(step, params["x"] + 1 / step)
    return params["x"]
"""


def history(store):
    writer = Writer(store, Space.from_dict(load(store).experiment["space"]))
    writer.close()
    return list(writer.record.events()), writer.record


def test_after_kill_9_of_the_driver_the_decisions_are_repeated_and_nothing_is_asked_anew(
    l2l, cluster, tmp_path, wait_until
):
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "a.toml").write_text(CONFIG)
    (tmp_path / "slow").touch()
    driver = l2l.start("run", "a.toml", "--cluster", cluster.scheduler_file, "--no-report")
    store = tmp_path / "a.zarr"
    wait_until(lambda: driver.poll() is None and store.exists() and load(store).counts()["stopped"] >= 6)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    (tmp_path / "slow").unlink()
    before, record = history(store)
    rows, ordered = len(record), {id for event in before for id in event.stop}
    pending = set(record.pending.tolist())
    begun = Path(tmp_path / "begun").read_text().split()
    resumed = l2l("resume", "a.zarr", "--cluster", cluster.scheduler_file, "--no-report")
    assert resumed.returncode == 0, resumed.stderr
    after, record = history(store)
    assert repr(after[: len(before)]) == repr(before)
    ended = load(store)
    assert ended.state == "finished"
    assert len(ended) == 40
    status = ended.record["status"]
    assert all(status[id] == Status.STOPPED for id in ordered & pending), "what was ordered to stop is stopped"
    again = Path(tmp_path / "begun").read_text().split()[len(begun) :]
    assert set(map(int, again)) == (set(range(rows, 40)) | pending) - ordered, "what had ended does not run again"
    assert ended.best.params["x"] == ended.record["params"][:, 0].min(), "on curves that do not cross"
