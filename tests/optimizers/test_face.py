"""FACE: the sample grows until the best or the worst of the elite improves."""

from functools import partial

import numpy as np
import pytest

from l2l_dask import Evaluations, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers.face import FACE

SPACE = Space({"x": Real(0, 1)})
COST = Objectives(minimize("cost"))


def build(**options):
    given = {"min_pop_size": 4, "max_pop_size": 8, "n_elite": 2, "n_expand": 3, "smoothing": 0.0}
    return FACE(SPACE, COST, **(given | options))


def step(optimizer, cost):
    """Evaluate as many as there are costs; return their vectors and generations."""
    candidates = optimizer.ask(len(cost))
    assert len(candidates) == len(cost)
    optimizer.tell(Evaluations(candidates.ids, candidates.x, np.array(cost, dtype=float)[:, None]))
    return candidates.x[:, 0], candidates.info["generation"].tolist()


@pytest.mark.parametrize("synchronous", [True, False])
def test_the_sample_grows_by_n_expand_up_to_the_maximum_and_then_it_is_done(synchronous):
    optimizer = build(synchronous=synchronous)
    step(optimizer, [4, 3, 2, 1])
    assert (optimizer.generation, optimizer.best, optimizer.gamma) == (1, 1, 2)
    step(optimizer, [1, 2, 3, 4])  # neither is better
    assert optimizer.generation == 1
    _, generation = step(optimizer, [9, 9, 9])
    assert generation == [1, 1, 1]
    assert not optimizer.done
    step(optimizer, [9])  # min(3, 8 - 7)
    assert optimizer.done
    assert not len(optimizer.ask(1))


def test_synchronous_an_expansion_is_awaited():
    optimizer = build(synchronous=True)
    step(optimizer, [4, 3, 2, 1])
    step(optimizer, [1, 2, 3, 4])
    assert len(optimizer.ask(25)) == 3
    assert not len(optimizer.ask(25))


def test_asynchronous_nothing_waits_for_a_decision():
    optimizer = build()
    step(optimizer, [4, 3, 2, 1])
    optimizer.ask(25)
    assert len(optimizer.ask(25)) == 25


def test_a_grown_sample_is_fitted_as_a_whole_and_the_next_has_the_minimum_again():
    optimizer = build(synchronous=True)
    step(optimizer, [4, 3, 2, 1])
    first, _ = step(optimizer, [1, 2, 3, 4])
    more, _ = step(optimizer, [9, 0.5, 9])
    assert optimizer.generation == 2
    elite = np.array([more[1], first[0]])
    assert optimizer.distribution.means[0, 0] == pytest.approx(elite.mean())
    assert optimizer.distribution.covariances[0, 0, 0] == pytest.approx(elite.var())
    assert len(optimizer.ask(25)) == 4


def test_a_better_worst_of_the_elite_is_an_improvement_and_becomes_the_next_yardstick():
    optimizer = build(synchronous=True)
    step(optimizer, [4, 3, 2, 1])
    step(optimizer, [1.5, 1.7, 5, 5])
    assert (optimizer.generation, optimizer.best, optimizer.gamma) == (2, 1.5, 1.7)
    step(optimizer, [1.4, 5, 5, 5])
    assert optimizer.generation == 3


def test_on_a_plateau_it_is_done_with_the_largest_sample():
    optimizer = build(synchronous=True)
    for n in (4, 4, 3, 1):
        assert not optimizer.done
        step(optimizer, [1.0] * n)
    assert optimizer.done


def test_it_finds_what_random_search_finds_with_probability_below_a_millionth():
    # As for cross entropy: d = 4, N = 1000, r^4 = 1e-6 / (500 pi^2).
    optimizer = FACE(Space({"x": Real(0, 1, shape=(4,))}), COST, seed=1)
    best = np.inf
    for _ in range(100):
        candidates = optimizer.ask(10)
        cost = ((candidates.x - 0.3) ** 2).sum(axis=1)
        best = min(best, cost.min(initial=np.inf))
        optimizer.tell(Evaluations(candidates.ids, candidates.x, cost[:, None]))
    assert best < np.sqrt(1e-6 / (500 * np.pi**2))


@pytest.mark.parametrize(
    "given",
    [
        {"synchronous": True},
        {"n_iteration": 3, "temp_decay": 0.5},
        {"distribution": "noisy-gaussian", "max_pop_size": 1000, "n_expand": 1},
    ],
    ids=str,
)
def test_it_keeps_the_contract_with_other_options(given):
    spaces = {name: default_spaces()[name] for name in ("two-point", "conditional", "unbounded")}
    sizes = {"min_pop_size": 6, "max_pop_size": 12, "n_elite": 3}
    check_optimizer(partial(FACE, **(sizes | given)), spaces=spaces, evaluations=40)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("min_pop_size", 1),
        ("max_pop_size", 49),
        ("n_elite", 1),
        ("n_elite", 51),
        ("n_expand", 0),
        ("smoothing", 1),
        ("temp_decay", 2),
        ("distribution", "uniform"),
    ],
)
def test_an_option_out_of_range_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option} must be .*$"):
        FACE(SPACE, COST, **{option: value})
