"""The shared operators do what their papers say, on every kind of dimension."""

import itertools

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from l2l_dask import Categorical, Integer, Real, Space
from optimizers._operators import Operators, tournament


@pytest.mark.parametrize(("n", "size"), [(4, 1), (4, 3), (6, 2), (1, 5)])
def test_tournament_wins_are_as_probable_as_enumerating_all_tournaments_says(n, size):
    rng = np.random.default_rng(1)
    wins = np.bincount([tournament(rng, n, size) for _ in range(20_000)], minlength=n)
    outcomes = np.bincount([min(entrants) for entrants in itertools.product(range(n), repeat=size)], minlength=n)
    closed_form = [(n - r) ** size - (n - r - 1) ** size for r in range(n)]
    assert outcomes.tolist() == closed_form
    assert n == 1 or chisquare(wins, 20_000 * outcomes / outcomes.sum()).pvalue > 1e-3


def test_blend_children_are_uniform_on_the_parents_interval_extended_by_alpha_and_mirror_each_other():
    operators, rng = Operators(Space({"x": Real(0, 1, shape=(3000,))})), np.random.default_rng(2)
    a, b, alpha = np.full(3000, 0.4), np.full(3000, 0.6), 0.25
    first, second = operators.blend(rng, a, b, alpha)
    low, width = 0.4 - alpha * 0.2, 0.2 * (1 + 2 * alpha)
    assert low <= first.min() < low + 0.01 * width
    assert low + 0.99 * width < first.max() <= low + width
    assert kstest(first, "uniform", args=(low, width)).pvalue > 1e-3
    assert first + second == pytest.approx(a + b)


def test_blend_of_equal_parents_is_the_parent():
    operators, x = Operators(Space({"x": Real(0, 1, shape=(5,))})), np.linspace(0, 1, 5)
    first, second = operators.blend(np.random.default_rng(0), x, x.copy(), 0.5)
    assert np.array_equal(first, x)
    assert np.array_equal(second, x)


def test_categoricals_are_inherited_from_one_parent_or_the_other_with_equal_probability():
    space = Space({"c": Categorical(list(range(5)), shape=(2000,))})
    operators = Operators(space)
    a, b = np.full(2000, 0.1), np.full(2000, 0.9)  # choices 0 and 4
    first, second = (space.natural(operators.repair(x)) for x in operators.blend(np.random.default_rng(3), a, b, 0.5))
    assert set(first) == {0, 4}
    assert np.array_equal(first + second, np.full(2000, 4))
    assert abs((first == 4).mean() - 0.5) < 4 * 0.5 / np.sqrt(2000)


def test_mutation_changes_the_elements_named_and_no_other():
    operators, x = Operators(Space({"x": Real(0, 1, shape=(6,))})), np.full(6, 0.5)
    mutant = operators.mutate(np.random.default_rng(0), x, np.array([1, 4]), np.array([0.25, -0.125]))
    assert mutant.tolist() == [0.5, 0.75, 0.5, 0.5, 0.375, 0.5]
    assert (x == 0.5).all()


def test_a_step_that_would_leave_the_bounds_goes_the_other_way_but_not_on_unbounded_dimensions():
    operators = Operators(Space({"a": Real(0, 1), "b": Real(0, 1), "w": Real()}))
    x, steps = np.array([0.1, 0.9, 3.0]), np.array([-0.2, 0.2, 4.0])
    mutant = operators.mutate(np.random.default_rng(0), x, np.arange(3), steps)
    assert mutant == pytest.approx([0.3, 0.7, 7.0])


@pytest.mark.parametrize(
    "parameter", [Integer(0, 1), Integer(-2, 5), Integer(1, 1000), Integer(1, 50, log=True), Integer(7, 9, log=True)]
)
@pytest.mark.parametrize("step", [1e-6, -1e-6])
def test_the_smallest_mutation_changes_an_integer_whatever_its_value(parameter, step):
    space = Space({"n": parameter})
    operators = Operators(space)
    for value in range(parameter.low, parameter.high + 1):
        mutant = operators.mutate(np.random.default_rng(0), space.encode({"n": value}), np.array([0]), np.array([step]))
        assert space.decode(operators.repair(mutant))["n"] != value


def test_a_mutated_categorical_takes_each_other_choice_equally_often():
    space = Space({"c": Categorical(list("abcd"), shape=(3000,)), "one": Categorical(["only"])})
    operators = Operators(space)
    x = space.encode({"c": np.full(3000, "b", dtype=object), "one": "only"})
    mutant = operators.mutate(np.random.default_rng(4), x, np.arange(3001), np.zeros(3001))
    codes = space.natural(mutant)
    assert codes[-1] == 0
    counts = np.bincount(codes[:-1].astype(int), minlength=4)
    assert counts[1] == 0
    assert chisquare(counts[[0, 2, 3]]).pvalue > 1e-3


def test_repair_reflects_at_the_bounds_and_snaps_what_is_discrete():
    space = Space({"x": Real(0, 1, shape=(5,)), "w": Real(), "n": Integer(0, 3)})
    repaired = Operators(space).repair(np.array([-0.2, 1.3, 0.1, 7.25, 1.0, -3.0, 0.6]))
    assert repaired == pytest.approx([0.2, 0.7, 0.1, 0.75, 1.0, -3.0, 0.625])
    assert repaired[[2, 4, 5]].tolist() == [0.1, 1.0, -3.0]  # to the bit where there is nothing to repair


def test_an_unbounded_dimension_cannot_drift_to_infinity():
    assert Operators(Space({"w": Real()})).repair(np.array([1e200])) == pytest.approx([1e9])


def test_what_goes_a_whole_range_beyond_a_bound_does_not_pile_up_in_a_corner():
    far = np.random.default_rng(5).uniform(-6, 7, 4000)[:, None]
    inside = Operators(Space({"x": Real(0, 1)})).repair(far)[:, 0]
    assert kstest(inside, "uniform").pvalue > 1e-3
