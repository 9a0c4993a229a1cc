"""What ends a search before its evaluations are used up: a target, the time."""

import time

import pytest

from l2l_dask import Experiment, Real, Space, maximize, minimize
from l2l_dask.errors import ConfigError
from l2l_dask.trajectory import load
from l2l_dask.trajectory.layout import read_lease

SPACE = Space({"x": Real(0, 1)})


def search(store, function=lambda params: params["x"], **options):
    options = {"space": SPACE, "objectives": minimize("f"), "cluster": "serial", "evaluations": 2000} | options
    return Experiment(function, "random", store=store, **options)


def test_a_search_ends_at_its_target_with_the_first_that_reaches_it(tmp_path):
    ended = search(tmp_path / "a.zarr", target=0.02).run()
    fitness = ended.record["fitness"][:, 0]
    assert ended.state == "finished"
    assert ended.details["reason"] == "f <= 0.02 was reached"
    assert fitness[-1] <= 0.02
    assert (fitness[:-1] > 0.02).all()


def test_a_target_is_in_the_users_own_direction(tmp_path):
    ended = search(tmp_path / "a.zarr", objectives=maximize("f"), target={"f": 0.98}).run()
    assert ended.details["reason"] == "f >= 0.98 was reached"
    assert (ended.record["fitness"][:-1, 0] < 0.98).all()


def test_a_target_that_was_reached_stays_reached_until_another_is_given(tmp_path):
    store = tmp_path / "a.zarr"
    n = len(search(store, target=0.1).run())
    assert len(Experiment.resume(store)) == n
    assert len(Experiment.resume(store, evaluations=3000)) == n
    further = Experiment.resume(store, target=0.001)
    assert len(further) > n
    assert further.details["reason"] == "f <= 0.001 was reached"
    assert len(Experiment.resume(store, evaluations=4000)) == len(further)  # the new target is remembered


def test_a_search_ends_when_its_time_is_up_and_goes_on_with_more(tmp_path):
    store = tmp_path / "a.zarr"
    begun = time.monotonic()
    ended = search(store, lambda params: time.sleep(0.02) or params["x"], evaluations=100_000, wall_time=6.0).run()
    assert 6.0 <= time.monotonic() - begun < 60
    assert (ended.state, ended.details["reason"]) == ("finished", "the wall time is used up")
    assert ended.counts()["pending"] == 0
    n = len(ended)
    assert len(Experiment.resume(store)) == n
    assert len(Experiment.resume(store, wall_time=0.5)) > n


def test_what_runs_when_the_time_is_up_may_end(tmp_path):
    ended = search(
        tmp_path / "a.zarr", lambda params: time.sleep(8) or params["x"], cluster="local", workers=2, wall_time=6
    ).run()
    assert ended.details["reason"] == "the wall time is used up"
    assert 1 <= ended.counts()["done"] == ended.counts()["total"] <= 2


def test_guesses_that_were_not_begun_when_the_time_was_up_wait_for_a_resume(tmp_path):
    def slow(params):
        time.sleep(0.1)
        return params["x"]

    store, guesses = tmp_path / "a.zarr", [{"x": i / 100} for i in range(100)]
    ended = search(store, slow, initial=guesses, evaluations=100, wall_time=0.5).run()
    assert ended.counts()["pending"] > 50
    assert Experiment.resume(store, wall_time=100).counts()["done"] == 100


def test_a_driver_that_ends_while_somebody_looks_is_not_taken_for_interrupted(tmp_path, monkeypatch):
    ended = search(tmp_path / "a.zarr", evaluations=3).run()
    said = ended.layout.state.read_text()
    ended.layout.state.write_text(said.replace("finished", "running"))
    before = load(tmp_path / "a.zarr")

    def meanwhile(layout):
        layout.state.write_text(said)
        return read_lease(layout)

    monkeypatch.setattr("l2l_dask.trajectory.reader.read_lease", meanwhile)
    after = load(tmp_path / "a.zarr")
    assert (before.state, after.state) == ("interrupted", "finished")
    assert after.details["reason"] == ended.details["reason"] == "all evaluations done"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": {"g": 1.0}}, r"\[run\] target: expected some of \['f'\], got \['g'\]"),
        ({"target": float("nan")}, r"target.*finite"),
        ({"target": {}}, r"\[run\] target: expected some of \['f'\], got {}"),
        (
            {"target": 1.0, "objectives": [minimize("f"), minimize("g")]},
            r"\[run\] target: expected {f = 1, ...}, got 1",
        ),
        ({"wall_time": 0}, r"\[run\] wall_time.*greater than 0"),
        ({"repeats": 0}, r"\[run\] repeats.*greater than 0"),
        ({"seeds": "random"}, r"\[run\] seeds.*'independent' or 'common'"),
        ({"final": -1}, r"\[run\] final.*greater than or equal to 0"),
        ({"final_repeats": 0}, r"\[run\] final_repeats.*greater than 0"),
        ({"bundle": "yes"}, r"\[cluster\] bundle.*valid boolean"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        search(tmp_path / "a.zarr", **options)
    assert list(tmp_path.iterdir()) == []
