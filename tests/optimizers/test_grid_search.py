"""GridSearch: the Cartesian product, once, whatever its size."""

import itertools

import numpy as np
import pytest

from l2l_dask import Categorical, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from optimizers.grid_search import GridSearch

COST = Objectives(minimize("cost"))


def everything(optimizer):
    asked = []
    while not optimizer.done:
        asked += [optimizer.space.decode(x) for x in optimizer.ask(7).x]
    assert not len(optimizer.ask(1))
    return asked


def rows(params):
    return [tuple(p.values()) for p in params]


def test_it_asks_the_product_of_all_values_the_last_parameter_varying_fastest():
    space = Space({"a": Real(-1, 1), "n": Integer(2, 4), "c": Categorical(["x", "y"])})
    grid = GridSearch(space, COST, n=3)
    assert grid.size == 18
    assert rows(everything(grid)) == list(itertools.product([-1.0, 0.0, 1.0], [2, 3, 4], ["x", "y"]))


def test_points_are_given_per_parameter_and_reals_that_are_not_named_take_five():
    c = Categorical(["u", "v", "w"])
    space = Space({"a": Real(0, 4), "b": Real(0, 1), "n": Integer(0, 100), "c": c})
    grid = GridSearch(space, COST, n={"b": 2, "n": 3, "c": 2})
    expected = itertools.product([0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0], [0, 50, 100], ["u", "w"])
    assert rows(everything(grid)) == list(expected)


def test_one_number_of_points_leaves_integers_and_categoricals_all_their_values():
    space = Space({"n": Integer(0, 6), "c": Categorical([True, None])})
    assert rows(everything(GridSearch(space, COST, n=2))) == list(itertools.product(range(7), [True, None]))


def test_a_single_point_is_the_middle():
    space = Space({"a": Real(0, 10), "n": Integer(0, 10), "t": Real(1e-2, 1e2, log=True)})
    assert rows(everything(GridSearch(space, COST, n={"a": 1, "n": 1, "t": 1}))) == [(5.0, 5, pytest.approx(1.0))]


def test_logarithmic_parameters_are_gridded_on_their_scale():
    space = Space({"t": Real(1e-2, 1e2, log=True)})
    values = [p["t"] for p in everything(GridSearch(space, COST, n=5))]
    assert values == pytest.approx([1e-2, 1e-1, 1.0, 1e1, 1e2], rel=1e-12)
    space = Space({"n": Integer(1, 1000, log=True)})
    assert [p["n"] for p in everything(GridSearch(space, COST))] == list(range(1, 1001))
    few = [p["n"] for p in everything(GridSearch(space, COST, n={"n": 4}))]
    # exp of four evenly spaced points from ln 0.5 to ln 1000.5, rounded into the range
    assert few == [1, 6, 79, 1000]


def test_each_element_of_an_array_is_an_axis():
    asked = everything(GridSearch(Space({"w": Real(0, 1, shape=(3,))}), COST, n=2))
    assert [tuple(p["w"]) for p in asked] == list(itertools.product([0.0, 1.0], repeat=3))


def test_a_product_that_is_far_too_large_to_hold_costs_nothing():
    grid = GridSearch(Space({"w": Real(0, 1, shape=(250,))}), COST)
    assert grid.size == 5**250
    x = grid.ask(26).x
    assert (x[:, :-2] == 0).sum() == 25 * 248 + 247
    assert np.array_equal(x[:25, -2:], np.array(list(itertools.product(np.linspace(0, 1, 5), repeat=2))))


@pytest.mark.parametrize("parent_first", [True, False])
def test_combinations_that_differ_only_in_inactive_parameters_are_asked_once(parent_first):
    parameters = {
        "model": Categorical(["lif", "adex"]),
        "a": Real(0, 1, when={"model": "adex"}),
        "n": Integer(0, 3, when={"model": "adex"}),
        "w": Real(0, 1, shape=(2,), when={"n": [3]}),
    }
    space = Space(parameters if parent_first else dict(reversed(parameters.items())))
    asked = everything(GridSearch(space, COST, n=3))
    # lif: 1; adex: 3 values of a, times n = 0, 1, 2 without w (3) and n = 3 with 3 x 3 values of w.
    assert len(asked) == 1 + 3 * (3 + 9)
    keys = {tuple(sorted((name, str(value)) for name, value in p.items())) for p in asked}
    assert len(keys) == len(asked)


def test_a_large_inactive_subspace_is_passed_over_at_once():
    space = Space({"on": Categorical([False, True]), "w": Real(0, 1, shape=(60,), when={"on": True})})
    grid = GridSearch(space, COST, n=5)
    assert [bool(space.decode(x)["on"]) for x in grid.ask(3).x] == [False, True, True]


def test_adopted_grid_points_are_not_asked_again():
    space = Space({"a": Real(0, 1), "n": Integer(0, 2)})
    grid = GridSearch(space, COST, n=3)
    guesses = [{"a": 0.0, "n": 0}, {"a": 0.5, "n": 1}, {"a": 1.0, "n": 2}, {"a": 0.3, "n": 0}]
    grid.adopt(range(4), [space.encode(p) for p in guesses])
    left = [p for p in itertools.product([0.0, 0.5, 1.0], range(3)) if {"a": p[0], "n": p[1]} not in guesses]
    assert rows(everything(grid)) == left
    assert not grid._adopted


def test_adopting_all_that_is_left_makes_it_done():
    space = Space({"n": Integer(0, 3)})
    grid = GridSearch(space, COST)
    grid.ask(2)
    grid.adopt([2, 3], [space.encode({"n": 3}), space.encode({"n": 2})])
    assert grid.done


def test_an_integer_with_too_many_values_is_refused_with_the_way_out():
    with pytest.raises(OptimizerError, match=r"^'n' has 1000000001 values, .* 1000000: give n = {n = ..}$"):
        GridSearch(Space({"n": Integer(0, 10**9)}), COST)
    assert len(GridSearch(Space({"n": Integer(0, 10**9)}), COST, n={"n": 11}).ask(99)) == 11


def test_parameters_without_bounds_are_refused():
    with pytest.raises(OptimizerError, match="unbounded"):
        GridSearch(Space({"w": Real()}), COST)
