"""Evaluation in place, in the driver's own process."""

import os

import pytest

from l2l_dask import FunctionOptimizee, Optimizee, Real, Space, minimize
from l2l_dask.evaluating import Where
from l2l_dask.evaluation import Candidate, Status
from l2l_dask.executors import Serial
from l2l_dask.experiment import Experiment

SPACE = Space({"x": Real(0, 1)})
NOWHERE = Where("nowhere.zarr", "", 1)


def candidates(n):
    return [Candidate(id, {"x": id / n}, seed=1) for id in range(n)]


@pytest.fixture
def serial():
    executor = Serial()
    executor.start(FunctionOptimizee(lambda params: params["x"] + os.getpid(), SPACE, minimize("f")), NOWHERE)
    yield executor
    executor.close()


def test_candidates_are_evaluated_one_by_one_in_their_order_in_this_process(serial):
    serial.submit(candidates(4))
    ended = [serial.collect(0) for _ in range(4)]
    assert [[e.id for e in batch] for batch in ended] == [[0], [1], [2], [3]]
    assert [batch[0].fitness for batch in ended] == [(os.getpid() + id / 4,) for id in range(4)]
    assert {batch[0].worker for batch in ended} == {"serial"}
    assert all(e.submitted <= e.started <= e.finished for (e,) in ended)


def test_there_is_one_slot_and_no_reserve(serial):
    assert (serial.slots, serial.capacity, serial.threaded) == (1, 1, False)


def test_nothing_to_collect_gives_nothing(serial):
    assert serial.collect(0.001) == []


def test_closing_forgets_what_waits(serial):
    serial.submit(candidates(4))
    serial.close()
    assert serial.collect(0.001) == []


class Unready(Optimizee):
    space, objectives = SPACE, minimize("f")

    def setup(self):
        raise RuntimeError("no simulator here")

    def evaluate(self, params, context):
        return 1.0


def test_a_setup_that_raises_fails_each_evaluation():
    executor = Serial()
    executor.start(Unready(), NOWHERE)
    executor.submit(candidates(2))
    for id in range(2):
        (failed,) = executor.collect(0)
        assert (failed.id, failed.status) == (id, Status.FAILED)
        assert failed.error.startswith("RuntimeError: no simulator here\nTraceback")


class Wanderer(Optimizee):
    space, objectives = SPACE, minimize("f")

    def setup(self):
        self.folders = [os.getcwd()]

    def evaluate(self, params, context):
        self.folders.append(os.getcwd())
        os.chdir("/")
        return 1.0


@pytest.mark.parametrize("there", [True, False])
def test_work_is_done_in_the_folder_that_was_named(tmp_path, monkeypatch, there):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "work"
    folder.mkdir()
    executor, wanderer = Serial(cwd=str(folder)) if there else Serial(), Wanderer()
    executor.start(wanderer, NOWHERE)
    assert os.getcwd() == str(tmp_path)
    executor.submit(candidates(2))
    for _ in range(2):
        executor.collect(0)
        assert os.getcwd() == str(tmp_path)
    assert wanderer.folders == [str(folder if there else tmp_path)] * 3


def test_a_setup_that_raises_ends_the_experiment_as_failed(tmp_path):
    experiment = Experiment(
        Unready(),
        "random",
        store=tmp_path / "a.zarr",
        evaluations=100,
        max_failures_in_a_row=3,
        cluster="serial",
    )
    ended = experiment.run()
    assert (ended.state, len(ended)) == ("failed", 3)
    assert "RuntimeError: no simulator here" in ended.details["reason"]


def test_the_same_seed_gives_the_same_trajectory(tmp_path):
    def noisy(params, context):
        return params["x"] + context.rng.normal()

    ended = [
        Experiment(
            noisy,
            "random",
            space=SPACE,
            objectives=minimize("f"),
            store=tmp_path / f"{n}.zarr",
            evaluations=30,
            seed=5,
            cluster="serial",
        ).run()
        for n in range(2)
    ]
    for name in ("x", "params", "fitness", "asked", "told", "status"):
        assert ended[0].record[name].tolist() == ended[1].record[name].tolist()


def chatty(params):
    os.write(1, b"from below Python\n")
    print("x is", params["x"])
    if params["x"] > 0.5:
        raise ValueError("too large")
    return params["x"]


@pytest.mark.parametrize("show", [False, True])
def test_what_is_printed_is_kept_with_what_fails_and_shown_only_if_that_is_asked_for(show, capfd):
    executor = Serial(show_output=show)
    executor.start(FunctionOptimizee(chatty, SPACE, minimize("f")), NOWHERE)
    executor.submit([Candidate(0, {"x": 0.25}, seed=1), Candidate(1, {"x": 0.75}, seed=1)])
    (good,), (bad,) = executor.collect(0), executor.collect(0)
    executor.close()
    printed = "from below Python\nx is 0.25\nfrom below Python\nx is 0.75\n"
    assert capfd.readouterr().out == (printed if show else "")
    assert good.error == ""
    assert ("printed:\nfrom below Python\nx is 0.75" in bad.error) is not show
    assert "x is 0.25" not in bad.error


def test_what_a_failed_setup_printed_is_kept_with_each_failure(capfd):
    class Talkative(Unready):
        def setup(self):
            print("looking for the simulator")
            super().setup()

    executor = Serial()
    executor.start(Talkative(), NOWHERE)
    executor.submit([Candidate(0, {"x": 0.25}, seed=1)])
    assert "printed:\nlooking for the simulator" in executor.collect(0)[0].error
    executor.close()
    assert capfd.readouterr().out == ""
