"""What a paper says of a search, and the file that runs it again."""

import tomllib

import numpy as np
import pytest

from l2l_dask import Categorical, Real, Space, config, minimize
from l2l_dask.dashboard import methods
from l2l_dask.dashboard.times import duration
from l2l_dask.experiment import Experiment
from l2l_dask.trajectory import load

MODEL = """
def fitness(params):
    if params["x"] > 0.3:
        raise ValueError("too large")
    return params["x"] ** 2
"""
DESCRIBED = """
[optimizee]
name = "model.py:fitness"

[space]
x = {low = 1e-3, high = 1.0, log = true}
"a b" = {choices = ["one", "\\"two\\""]}

[objectives]
error = "minimize"

[optimizer]
name = "steady-state-ga"
options = {pop_size = 10}

[run]
evaluations = 40
seed = 7
max_failures_in_a_row = 0
timeout = 60
initial = [{x = 0.5, "a b" = "one"}]

[cluster]
profile = "serial"
"""


@pytest.fixture
def ran(tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "first.toml").write_text(DESCRIBED)
    return Experiment.from_config(tmp_path / "first.toml").run()


def test_the_paragraph_says_what_was_searched_how_and_what_came_of_it(ran):
    text = methods.paragraph(ran)
    failed = ran.counts()["failed"]
    assert failed
    for said in (
        "We searched 2 parameters (x, a b) of model.py:fitness to minimize error.",
        "The optimizer was steady-state-ga (options: pop_size = 10; seed 7); an evaluation that took more than 60 s",
        f"Of a budget of 40 evaluations, 40 ended: {40 - failed} with a fitness, {failed} without one",
        "The search is finished (all evaluations done).",
        "At most 1 was evaluated at once, by 1 worker of 1 host;",
        "We used l2l_dask 0.1.0 with Python 3.",
    ):
        assert said in text


def test_the_file_of_a_search_runs_it_again(ran, tmp_path):
    text = methods.experiment_file(ran)
    assert (
        config.parse(tomllib.loads(text)).model_dump()
        == config.parse({name: ran.experiment[name] for name in config.Config.model_fields}).model_dump()
    )
    (tmp_path / "again.toml").write_text(text)
    again = Experiment.from_config(tmp_path / "again.toml").run()
    for name in ("params", "fitness", "status"):
        np.testing.assert_array_equal(again.record[name], ran.record[name])


def test_a_budget_that_was_raised_is_the_budget(ran):
    more = Experiment.resume(ran.layout.root, evaluations=50)
    assert tomllib.loads(methods.experiment_file(more))["run"]["evaluations"] == 50
    assert "Of a budget of 50 evaluations, 50 ended" in methods.paragraph(more)


def test_any_text_and_number_survives_the_file():
    content = {"o": {"a": 'x"\\\n\x7f\x01é', "b c": [1, -2.5e-300, True, {"": []}], "d": float("inf"), "n": None}}
    read = tomllib.loads(methods._toml(content))
    assert read == {"o": {name: value for name, value in content["o"].items() if value is not None}}


def test_what_was_made_in_python_is_said_to_need_a_file(tmp_path):
    ended = Experiment(
        lambda params: params["x"],
        "random",
        space=Space({"x": Real(0, 1), "k": Categorical([1, None])}),
        objectives=minimize("f"),
        store=tmp_path / "a.zarr",
        evaluations=3,
        cluster="serial",
    ).run()
    assert "It cannot be written as a file: TOML has no word for None" in methods.experiment_file(ended)
    ended.experiment["space"]["k"]["choices"] = [1, 2]
    text = methods.experiment_file(ended)
    assert text.startswith("# Made in Python, without a name: put file.py:name of the optimizee in the place")
    assert tomllib.loads(text)["run"]["evaluations"] == 3


def test_how_many_ran_at_once_is_counted_from_the_times(tmp_path, stores):
    t = load(stores.make(tmp_path / "a.zarr", 400, workers=7))
    most, whole, worked = methods.at_once(t)
    started, finished = t.record["started"], t.record["finished"]
    assert most == max(int(((started <= at) & (finished > at)).sum()) for at in started) == 7
    assert whole == pytest.approx(finished.max() - t.record["submitted"].min())
    assert worked == pytest.approx((finished - started).sum())


def test_nothing_is_said_of_times_that_are_not_known(tmp_path, stores):
    t = load(stores.make(tmp_path / "a.zarr", 4, pending=4))
    assert methods.at_once(t) == (0, 0.0, 0.0)
    assert "at once" not in methods.paragraph(t)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "0.5 seconds"),
        (180, "3 minutes"),
        (9000, "2.5 hours"),
        (864_000, "10 days"),
        (86_399_000, "1,000 days"),
        (1.5e8, "1,736 days"),
    ],
)
def test_durations_are_in_units_that_suit_them(seconds, words):
    assert duration(seconds) == words
