"""NSGA2: fronts of the best compromises, steady-state and by generations."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import t

from l2l_dask import Categorical, Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers._pareto import hypervolume, non_dominated_ranks
from optimizers.nsga2 import NSGA2

SPACE = Space({"x": Real(0, 1, shape=(4,))})
TWO = Objectives([minimize("a"), minimize("b")])


def build(space=SPACE, objectives=TWO, **options):
    return NSGA2(space, objectives, **({"pop_size": 10} | options))


def tell(optimizer, candidates, cost):
    optimizer.tell(Evaluations(candidates.ids, candidates.x, np.array(cost, dtype=float).reshape(len(candidates), -1)))


def searched(optimizer, problem, n, batch):
    """Return the costs of the front after ``n`` evaluations."""
    while optimizer.n_asked < n:
        candidates = optimizer.ask(min(batch, n - optimizer.n_asked))
        tell(optimizer, candidates, problem(candidates.x))
    return optimizer.front[2]


@pytest.mark.parametrize(
    "given", [{"pop_size": 5, "synchronous": True}, {"pop_size": 4, "cx_prob": 0.0, "eta_mut": 0.0}]
)
def test_it_keeps_the_contract_with_other_options(given):
    spaces = {name: default_spaces()[name] for name in ("two-point", "conditional", "unbounded")}
    check_optimizer(partial(NSGA2, **given), spaces=spaces, evaluations=40)


BAD = [("pop_size", 3), ("cx_prob", 1.1), ("ind_prob", -1), ("eta_cx", -1), ("eta_mut", float("nan"))]


@pytest.mark.parametrize(("option", "value"), BAD, ids=str)
def test_an_option_out_of_range_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option} must be .*$"):
        NSGA2(SPACE, TWO, **{option: value})


def test_the_front_is_what_nothing_else_evaluated_dominates_while_there_is_room():
    optimizer = build(pop_size=30)
    candidates = optimizer.ask(30)
    cost = np.random.default_rng(1).integers(0, 8, (30, 2)).astype(float)
    tell(optimizer, candidates, cost)
    ids, x, costs = optimizer.front
    best = [
        i for i in range(30) if not any((cost[j] <= cost[i]).all() and (cost[j] < cost[i]).any() for j in range(30))
    ]
    assert sorted(ids.tolist()) == best
    assert np.array_equal(x, candidates.x[ids])
    assert np.array_equal(costs, cost[ids])


def test_a_result_takes_the_place_of_the_worst_at_once_and_is_a_parent_of_the_next():
    optimizer = build(cx_prob=1.0)
    tell(optimizer, optimizer.ask(10), [[i, i] for i in range(1, 11)])
    child = optimizer.ask(1)
    tell(optimizer, child, [[0, 0]])
    assert optimizer.front[0].tolist() == [10]
    parents = optimizer.ask(200).info["parents"]
    assert 9 not in parents
    # A binary tournament is won by the best of ten unless neither entrant is: (9/10)^2; two tournaments per child.
    assert abs((parents == 10).any(axis=1).mean() - (1 - 0.9**4)) < 4 * np.sqrt(0.25 / 200)


def test_parents_win_by_rank_and_then_by_crowding():
    optimizer = build(pop_size=5, ind_prob=1.0, cx_prob=0.0)
    # One front, of which the third has the closest neighbours.
    tell(optimizer, optimizer.ask(5), [[0, 10], [1, 4], [3, 3], [7, 1], [10, 0]])
    winners = optimizer.ask(2000).info["parents"][:, 0]
    wins = np.bincount(winners, minlength=5) / 2000
    densities = [(3 - 0) / 10 + (10 - 3) / 10, (7 - 1) / 10 + (4 - 1) / 10, (10 - 3) / 10 + (3 - 0) / 10]
    assert densities == pytest.approx([1.0, 0.9, 1.0])
    # (3, 3) wins only against itself: 1 of 25 tournaments.
    assert abs(wins[2] - 1 / 25) < 4 * np.sqrt(1 / 25 / 2000)


def test_generations_wait_for_all_and_keep_the_best_half_of_parents_and_children():
    optimizer = build(synchronous=True)
    first = optimizer.ask(25)
    assert len(first) == 10
    tell(optimizer, first, [[i % 5, 5 - i % 5] for i in range(10)])
    second = optimizer.ask(7)
    assert second.info["generation"].tolist() == [1] * 7
    tell(optimizer, second, [[9, 9]] * 7)
    rest = optimizer.ask(9)
    assert len(rest) == 3
    assert not len(optimizer.ask(1))
    tell(optimizer, rest, [[0, 0], [np.nan, 1], [9, 9]])
    assert optimizer.front[0].tolist() == [int(rest.ids[0])]
    third = optimizer.ask(10)
    assert set(third.info["parents"].ravel().tolist()) <= {-1, *range(10), int(rest.ids[0])}


def test_sbx_keeps_the_parents_mean_spreads_as_its_density_says_and_stays_inside():
    # Without bounds the spread factor beta has density (eta + 1) beta^eta / 2 below 1 and
    # (eta + 1) / (2 beta^(eta + 2)) above: P(beta <= b) = b^(eta + 1) / 2 for b <= 1, P(beta > b) = b^-(eta + 1) / 2.
    space = Space({"w": Real(shape=(20000,))})
    optimizer = build(space, eta_cx=2.0)
    a, b = np.zeros(20000), np.ones(20000)
    u = np.random.default_rng(1).random((3, 20000))
    low = u[1] < 0.5
    one, two = optimizer._crossed(a, b, u, low), optimizer._crossed(b, a, u, ~low)
    assert one + two == pytest.approx(np.ones(20000))
    beta = np.abs(one - two)[u[0] < 0.5]
    assert (np.abs(one - two)[u[0] >= 0.5] == 1.0).all()
    for at in (0.5, 0.8, 1.0):
        assert abs((beta <= at).mean() - at**3 / 2) < 4 * np.sqrt(0.25 / len(beta))
    assert abs((beta > 2).mean() - 0.5 * 2.0**-3) < 4 * np.sqrt(0.06 / len(beta))
    bounded = build(Space({"x": Real(0, 1, shape=(20000,))}), eta_cx=0.0)
    child = bounded._crossed(np.full(20000, 0.01), np.full(20000, 0.9), u, low)
    assert ((child >= 0) & (child <= 1)).all()
    assert child.min() < 0.001
    assert child.max() > 0.99


def test_polynomial_mutation_stays_inside_and_half_of_its_steps_are_as_long_as_its_median():
    # delta = 1 - (2u)^(1/(eta + 1)) far from the bounds: the median of |delta| is 1 - 2^(-1/(eta + 1)).
    optimizer = build(Space({"w": Real(shape=(20000,))}), eta_mut=20.0)
    where = np.arange(20000)
    steps = optimizer._steps(np.zeros(20000), where)
    assert abs((np.abs(steps) < 1 - 0.5 ** (1 / 21)).mean() - 0.5) < 4 * np.sqrt(0.25 / 20000)
    assert abs((steps < 0).mean() - 0.5) < 4 * np.sqrt(0.25 / 20000)
    x = np.random.default_rng(1).random(20000) ** 4
    moved = x + build(Space({"x": Real(0, 1, shape=(20000,))}), eta_mut=1.0)._steps(x, where)
    assert ((moved > -1e-12) & (moved < 1 + 1e-12)).all()


def test_children_differ_from_their_parents_and_discrete_ones_are_snapped():
    space = Space({"n": Integer(0, 3, shape=(2,)), "c": Categorical(["x", "y", "z"])})
    optimizer = build(space)
    tell(optimizer, optimizer.ask(10), np.random.default_rng(1).random((10, 2)))
    x = {int(i): row for i, row in zip(optimizer._ids, optimizer._x, strict=True)}
    children = optimizer.ask(100)
    assert np.array_equal(children.x, space.snap(children.x))
    for row, pair in zip(children.x, children.info["parents"].tolist(), strict=True):
        assert not any(np.array_equal(row, x[parent]) for parent in pair if parent >= 0)


def test_what_fails_in_one_objective_enters_nothing():
    optimizer = build()
    tell(optimizer, optimizer.ask(10), [[np.nan, 0.0]] * 5 + [[1.0, 1.0]] * 5)
    assert optimizer.front[0].tolist() == [5, 6, 7, 8, 9]


def test_failed_founders_do_not_stop_it_from_breeding():
    optimizer = build()
    tell(optimizer, optimizer.ask(10), [[np.nan, np.nan]] * 10)
    for _ in range(3):
        candidates = optimizer.ask(10)
        tell(optimizer, candidates, np.random.default_rng(1).random((10, 2)))
    assert (candidates.info["parents"] >= 0).any()


PROBLEMS = {"zdt1": {"n_var": 4}, "dtlz2": {"n_var": 6, "n_obj": 2}}


@pytest.mark.parametrize("name", PROBLEMS)
def test_its_hypervolume_is_pymoos_within_noise(name):
    get_problem = pytest.importorskip("pymoo.problems").get_problem
    reference_algorithm = pytest.importorskip("pymoo.algorithms.moo.nsga2").NSGA2
    run = pytest.importorskip("pymoo.optimize").minimize
    problem, n, pop_size, corner = get_problem(name, **PROBLEMS[name]), 800, 20, np.array([1.1, 1.1])
    space = Space({"x": Real(0, 1, shape=(problem.n_var,))})

    def volumes(front):
        return np.array([hypervolume(front(seed), corner) for seed in range(4)])

    def ours(seed, **options):
        return searched(build(space, pop_size=pop_size, seed=seed, **options), problem.evaluate, n, pop_size)

    theirs = volumes(lambda seed: run(problem, reference_algorithm(pop_size=pop_size), ("n_eval", n), seed=seed).F)
    chance = problem.evaluate(np.random.default_rng(1).random((n, problem.n_var)))
    chance = hypervolume(chance[non_dominated_ranks(chance) == 0], corner)
    for mine in (volumes(ours), volumes(partial(ours, synchronous=True))):
        # Student's t, two samples of four: exceeded with probability 0.001 if both are of the same quality.
        noise = t.ppf(0.999, 6) * np.sqrt((mine.var(ddof=1) + theirs.var(ddof=1)) / 4)
        assert mine.mean() > theirs.mean() - noise
        assert chance < theirs.mean() - noise
