"""Hyperband: the decisions of asynchronous successive halving, by hand, and what they save."""

from collections import Counter
from functools import partial

import numpy as np
import pytest

from l2l_dask import Real, Space, maximize, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Evaluations, Objectives
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers.hyperband import Hyperband, Rung
from optimizers.random_search import RandomSearch

SPACE = Space({"x": Real(0, 1)})
LOSS = Objectives(minimize("loss"))


def hyperband(n, objectives=LOSS, **options):
    optimizer = Hyperband(SPACE, objectives, **options)
    optimizer.ask(n)
    return optimizer


@pytest.mark.parametrize(
    "given",
    [{"reduction_factor": 2, "brackets": 3}, {"min_resource": 2, "max_resource": 20.0, "brackets": 4}],
    ids=["two", "all brackets"],
)
def test_the_contract_holds_with_other_options(given):
    spaces = {name: default_spaces()[name] for name in ("real", "conditional")}
    check_optimizer(partial(Hyperband, **given), spaces=spaces, evaluations=40)


BAD = [
    ({"reduction_factor": 1}, "reduction_factor must be a number from 1.5 to 1000, got 1"),
    ({"min_resource": 0}, "min_resource must be a number"),
    ({"max_resource": 1.0}, "max_resource must be more than min_resource 1.0, got 1.0"),
    ({"max_resource": float("nan")}, "max_resource must be a number"),
    ({"brackets": 0}, "brackets must be an integer of at least 1, got 0"),
    ({"brackets": 5, "max_resource": 27}, "brackets must be at most 4 with these resources, got 5"),
    ({"direction": "up"}, "direction must be 'minimize', 'maximize' or None, got 'up'"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options_are_refused_in_one_line_that_begins_with_their_name(options, message):
    with pytest.raises(OptimizerError) as caught:
        Hyperband(SPACE, LOSS, **options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_small_case_by_hand():
    """Eta 3, rungs at 1, 3, 9: of n at a rung the best floor(n / 3) go on, and all while n < 3."""
    asha = hyperband(8)
    assert asha.observe({0: [(1, 0.5)]}) == []  # n = 1
    assert asha.observe({1: [(1, 0.9)]}) == []  # n = 2
    assert asha.observe({2: [(1, 0.6)]}) == [2]  # n = 3: one goes on, and 0.5 is better
    assert asha.observe({3: [(1, 0.4)]}) == []  # n = 4: it is the best
    assert asha.observe({4: [(1, 0.45)]}) == [4]  # n = 5: still one
    assert asha.observe({5: [(1, 0.45)]}) == []  # n = 6: two, and one is better
    assert asha.observe({0: [(3, 0.3)], 1: [(3, 0.8)], 3: [(3, 0.2)]}) == []  # n = 3 for the last, which is the best
    assert asha.observe({5: [(3, 0.25)]}) == [5]  # n = 4
    assert asha.observe({0: [(9, 0.2)], 1: [(9, 0.5)], 3: [(9, 0.3)]}) == [3]


def test_between_rungs_nothing_is_decided_and_who_is_stopped_is_not_named_again():
    asha = hyperband(4)
    for id in range(3):
        asha.observe({id: [(1, 0.0)]})
    assert asha.observe({3: [(0.5, 9.0)]}) == []
    assert asha.observe({3: [(1.0, 9.0)]}) == [3]
    assert asha.observe({3: [(2.0, 9.0), (3.0, 9.0), (9.0, 9.0)]}) == []
    assert asha.observe({0: [(2.0, 99.0), (2.9, 99.0)]}) == []


def test_the_value_at_a_rung_is_that_of_the_first_report_at_or_beyond_it():
    asha = hyperband(4)
    for id, value in ((0, 0.3), (1, 0.2)):
        asha.observe({id: [(2.5, value), (2.9, 0.0)]})
    assert asha.observe({2: [(2.0, 0.1), (2.5, 99.0)]}) == []
    assert asha.observe({3: [(2.0, 0.15)]}) == [3]


def test_a_report_that_passes_several_rungs_counts_at_each():
    asha = hyperband(5)
    assert asha.observe({0: [(9, 0.1)], 1: [(9, 0.2)], 2: [(9, 0.05)]}) == []
    assert asha.observe({3: [(1, 0.04)]}) == []
    assert asha.observe({3: [(3, 0.06)]}) == [3]


def test_of_equals_none_is_better():
    asha = hyperband(9)
    for id in range(9):
        assert asha.observe({id: [(1, 1.0)]}) == []


def test_nan_is_the_worst_and_stops_as_soon_as_there_is_something_to_compare_with():
    asha = hyperband(5)
    for id, value in ((0, 0.5), (1, np.nan), (2, 0.4)):
        assert asha.observe({id: [(1, value)]}) == []
    assert asha.observe({3: [(1, np.nan)]}) == [3]


def test_steps_that_go_back_or_are_no_numbers_and_unknown_ids_do_no_harm():
    asha = hyperband(3)
    asha.tell(Evaluations(np.array([2]), np.zeros((1, 1)), np.array([[np.nan]])))
    assert asha.observe({0: [(5, 0.1), (2, 0.2), (-1, 0.3), (np.nan, 0.4), (np.inf, 0.5), (1e308, 0.6)]}) == []
    assert asha.observe({2: [(1, 9.0)]}) == []


@pytest.mark.parametrize(
    ("objectives", "direction", "sign"),
    [
        (minimize("f"), None, 1),
        (maximize("f"), None, -1),
        (minimize("f"), "maximize", -1),
        (maximize("f"), "minimize", 1),
    ],
)
def test_reports_have_the_direction_of_the_objective_or_the_one_given(objectives, direction, sign):
    asha = hyperband(3, Objectives(objectives), direction=direction)
    for id, value in enumerate((0.1, 0.2)):
        asha.observe({id: [(1, sign * value)]})
    assert asha.observe({2: [(1, sign * 0.15)]}) == [2]


def test_from_the_whole_budget_on_there_are_no_rungs():
    asha = Hyperband(SPACE, LOSS, max_resource=27)
    assert [asha.resource(0, k) for k in range(4)] == [1, 3, 9, np.inf]
    assert [Hyperband(SPACE, LOSS).resource(1, k) for k in range(3)] == [3, 9, 27]


def test_individuals_are_shared_out_among_brackets_as_in_the_paper():
    """With R = 81 r, eta = 3, s from 4: 81 / 5, 27 / 4, 9 / 3, 3 / 2 and 1 / 1 (Li et al. 2018, Algorithm 1)."""
    optimizer = Hyperband(SPACE, LOSS, max_resource=81, brackets=5)
    counts = Counter(optimizer.ask(5000).info["bracket"].tolist())
    n = np.array([81 / 5, 27 / 4, 9 / 3, 3 / 2, 1 / 1])
    np.testing.assert_allclose([counts[s] for s in range(5)], 5000 * n / n.sum(), atol=5)


def test_a_later_bracket_compares_later_and_only_its_own():
    optimizer = Hyperband(SPACE, LOSS, brackets=2, max_resource=27)
    bracket = optimizer.ask(40).info["bracket"]
    late = np.flatnonzero(bracket == 1)[:4].tolist()
    for i, id in enumerate(late):
        assert optimizer.observe({id: [(1, float(i))]}) == []
    assert optimizer.observe({id: [(3, float(i))] for i, id in enumerate(late)}) == late[2:]


def test_the_candidates_are_those_of_random_search():
    x = Hyperband(SPACE, LOSS, seed=7).ask(50).x
    np.testing.assert_array_equal(x, RandomSearch(SPACE, LOSS, seed=7).ask(50).x)


def test_a_rung_remembers_the_latest_ten_thousand():
    rung = Rung()
    for cost in range(10_000):
        assert rung.enter(float(cost)) == cost
    assert rung.enter(0.5) == 1  # 0.0 was better, and is forgotten now
    assert rung.enter(0.25) == 0
    assert len(rung) == 10_000


def steps_of(optimizer, n, budget):
    """Evaluate n curves x + 1 / t one after the other; return the steps taken and the best of the full ones."""
    steps, best = 0, np.inf
    for id in range(n):
        x = optimizer.ask(1).x[0, 0]
        for t in range(1, budget + 1):
            steps += 1
            if optimizer.observe({id: [(t, x + 1 / t)]}):
                break
        else:
            best = min(best, x)
        optimizer.tell(Evaluations(np.array([id]), np.array([[x]]), np.array([[x if t == budget else np.nan]])))
    return steps, best


def test_on_curves_that_do_not_cross_the_best_is_found_with_an_eighth_of_the_steps():
    """Curves x + 1/t keep their order, so the best so far always goes on to the end, and is found for certain.

    Of n individuals that came to a rung in random order about n / 3 go on, so one takes about
    1 + 2/3 + 6/9 + 18/27 + 54/81 = 3.67 steps out of 81; those that came early, when there were fewer to compare with,
    take more: twice as many on average leaves an eleventh, and the bound is an eighth.
    """
    n, budget = 300, 81
    steps, best = steps_of(Hyperband(SPACE, LOSS, seed=3, max_resource=budget), n, budget)
    x = RandomSearch(SPACE, LOSS, seed=3).ask(n).x
    assert best == x.min()
    assert steps < n * budget / 8
