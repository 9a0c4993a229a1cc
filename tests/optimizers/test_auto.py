"""The choice that is made for the user."""

import pytest

from l2l_dask import Categorical, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.registry import find
from optimizers.auto import Auto

ONE, TWO = Objectives(minimize("f")), Objectives([minimize("f"), minimize("g")])
REAL = Space({"x": Real(0, 1, shape=(5,)), "n": Integer(1, 9)})
MIXED = Space({"x": Real(0, 1), "c": Categorical(["a", "b"])})
FINITE = Space({"n": Integer(1, 4), "c": Categorical(["a", "b", "c"])})
WEIGHTS = Space({"w": Real(loc=0, scale=1, shape=(250,))})
DEPENDENT = Space({"c": Categorical(["a", "b"]), "x": Real(0, 1, when={"c": "a"})})


@pytest.mark.parametrize(
    ("space", "objectives", "told", "name", "because"),
    [
        (REAL, ONE, {"evaluations": 500, "workers": 8}, "surrogate-cma-es", "6 number"),
        (REAL, ONE, {}, "surrogate-cma-es", "6 number"),
        (REAL, ONE, {"evaluations": 24, "workers": 8}, "qmc", "24 evaluations on 8 worker"),
        (REAL, ONE, {"evaluations": 25, "workers": 8}, "surrogate-cma-es", "6 number"),
        (REAL, TWO, {"evaluations": 24, "workers": 8}, "nsga-2", "2 objectives"),
        (MIXED, ONE, {"evaluations": 500, "workers": 8}, "steady-state-ga", "categorical"),
        (DEPENDENT, ONE, {}, "steady-state-ga", "conditional"),
        (FINITE, ONE, {"evaluations": 12}, "grid", "12 points"),
        (FINITE, ONE, {"evaluations": 11}, "steady-state-ga", "integers alone"),
        (WEIGHTS, ONE, {"evaluations": 5000, "workers": 32}, "cma-es", "250 numbers"),
    ],
    ids=str,
)
def test_it_chooses_by_space_objectives_budget_and_workers_and_says_why(space, objectives, told, name, because):
    auto = Auto(space, objectives, **told)
    assert type(auto.chosen) is find("optimizers", name)
    assert auto.explanation.startswith(f"auto chose {name}: ")
    assert because in auto.explanation


def test_what_it_proposes_is_what_the_chosen_one_proposes():
    auto, chosen = Auto(MIXED, ONE, seed=3), find("optimizers", "steady-state-ga")(MIXED, ONE, seed=3)
    assert auto.ask(7).x.tolist() == chosen.ask(7).x.tolist()


def test_the_number_of_workers_goes_on_to_who_makes_use_of_it():
    large = Space({"w": Real(0, 1, shape=(200,))})
    assert Auto(large, ONE, workers=800).chosen.pop_size == 200  # a quarter of them: see cma-es


def test_a_grid_that_is_through_is_done():
    auto = Auto(FINITE, ONE, evaluations=12)
    assert len(auto.ask(20)) == 12
    assert auto.done


@pytest.mark.parametrize("option", ["evaluations", "workers"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_number_that_is_none_is_refused(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option} must be an integer of at least 1"):
        Auto(REAL, ONE, **{option: value})
