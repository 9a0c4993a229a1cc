"""DifferentialEvolution: L-SHADE, asynchronous or by generations."""

import itertools
from functools import partial

import numpy as np
import pytest
from scipy.stats import cauchy, kstest

from l2l_dask import Categorical, Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers.differential_evolution import DifferentialEvolution

SPACE = Space({"x": Real(0, 1, shape=(4,))})
COST = Objectives(minimize("cost"))


def build(space=SPACE, **options):
    return DifferentialEvolution(space, COST, **({"pop_size": 10} | options))


def tell(optimizer, candidates, cost):
    optimizer.tell(Evaluations(candidates.ids, candidates.x, np.array(cost, dtype=float)[:, None]))


def evaluate(optimizer, candidates):
    cost = ((candidates.x - 0.3) ** 2).sum(axis=1)
    tell(optimizer, candidates, cost)
    return cost


@pytest.mark.parametrize(
    "given",
    [{"synchronous": True, "pop_size": 6, "evaluations": 50}, {"pop_size": 4, "memory_size": 1, "evaluations": 20}],
)
def test_it_keeps_the_contract_with_other_options(given):
    spaces = {name: default_spaces()[name] for name in ("real", "integer")} | {
        "rest": Space({"w": Real(), "n": Integer(1, 9, log=True), "v": Real(0, 1, when={"n": [1, 2, 3]})})
    }
    check_optimizer(partial(DifferentialEvolution, **given), spaces=spaces, evaluations=40)


BAD = [("pop_size", 3), ("memory_size", 0), ("p_best", 1.5), ("evaluations", 0)]


@pytest.mark.parametrize(("option", "value"), BAD, ids=str)
def test_an_option_out_of_range_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option} must be .*$"):
        build(**{option: value})


def test_categoricals_are_refused():
    with pytest.raises(OptimizerError, match="categorical"):
        build(Space({"c": Categorical(["x", "y"])}))


def test_the_memory_takes_weighted_lehmer_means_of_what_was_successful():
    # Improvements of 1 and 3, so weights 1/4 and 3/4; the mean of S is sum(w S^2) / sum(w S).
    optimizer = build(memory_size=2)
    optimizer._successes = [(0.5, 0.2, 1.0), (0.9, 0.6, 3.0)]
    optimizer._turn()
    mean_f = (0.25 * 0.5**2 + 0.75 * 0.9**2) / (0.25 * 0.5 + 0.75 * 0.9)
    mean_cr = (0.25 * 0.2**2 + 0.75 * 0.6**2) / (0.25 * 0.2 + 0.75 * 0.6)
    assert optimizer._means == [pytest.approx((mean_f, mean_cr)), (0.5, 0.5)]
    optimizer._turn()  # without a success nothing changes
    assert optimizer._means[1] == (0.5, 0.5)


def test_where_only_a_crossover_rate_of_0_was_successful_it_stays_0_for_good():
    optimizer = build(memory_size=1)
    optimizer._successes = [(0.5, 0.0, 1.0), (0.5, 0.0, 2.0)]
    optimizer._turn()
    assert optimizer._drawn(*optimizer._means[0], 0.5)[1] == 0.0
    optimizer._successes = [(0.7, 0.9, 1.0)]
    optimizer._turn()
    assert optimizer._means[0][0] == pytest.approx(0.7)
    assert optimizer._drawn(*optimizer._means[0], 0.5)[1] == 0.0


def test_the_scale_is_cauchy_drawn_again_if_not_positive_and_1_if_above():
    optimizer = build()
    drawn = np.array([optimizer._drawn(0.1, 0.5, u) for u in np.random.default_rng(1).random(4000)])
    f, cr = drawn.T
    positive = cauchy(0.1, 0.1)
    inside = f[f < 1]
    share = (positive.cdf(1) - positive.cdf(0)) / positive.sf(0)
    assert abs(len(inside) / 4000 - share) < 4 * np.sqrt(share * (1 - share) / 4000)
    distribution = lambda v: (positive.cdf(v) - positive.cdf(0)) / (positive.cdf(1) - positive.cdf(0))  # noqa: E731
    assert kstest(inside, distribution).pvalue > 1e-4
    assert abs(cr.mean() - 0.5) < 4 * 0.1 / np.sqrt(4000)
    assert abs(cr.std() / 0.1 - 1) < 4 / np.sqrt(8000)


def test_the_population_shrinks_linearly_to_four():
    optimizer = build(pop_size=20, evaluations=100)
    for told in range(1, 131):
        evaluate(optimizer, optimizer.ask(1))
        expected = round((4 - 20) / 100 * min(told, 100) + 20)
        assert len(optimizer.population[0]) == min(told, expected)


def test_without_a_budget_it_keeps_its_size():
    optimizer = build(pop_size=7)
    for _ in range(100):
        evaluate(optimizer, optimizer.ask(1))
    assert len(optimizer.population[0]) == 7


def test_the_default_size_is_the_papers_for_its_budget_and_smaller_for_a_small_one():
    assert DifferentialEvolution(SPACE, COST, evaluations=40_000).pop_size == 18 * 4
    assert DifferentialEvolution(SPACE, COST, evaluations=400).pop_size == 10
    assert DifferentialEvolution(SPACE, COST, evaluations=10).pop_size == 8


def test_a_trial_is_its_target_moved_towards_one_of_the_best_and_by_a_difference():
    space = Space({"w": Real(shape=(6,))})
    optimizer = build(space, pop_size=6, p_best=0.34)
    founders = optimizer.ask(6)
    cost = evaluate(optimizer, founders)
    best = np.argsort(cost)[:2].tolist()
    trials = optimizer.ask(60)
    assert trials.info["parents"][:, 0].tolist() == list(range(6)) * 10  # each member in turn
    assert set(trials.info["parents"][:, 1].tolist()) == set(best)
    crossed = 0
    for v, (target, pbest) in zip(trials.x, trials.info["parents"].tolist(), strict=True):
        x = founders.x
        changed = v != x[target]
        crossed += int(changed.sum())
        fits = []
        for r1, r2 in itertools.permutations(set(range(6)) - {target}, 2):
            step = (x[pbest] - x[target] + x[r1] - x[r2])[changed]
            f = (v - x[target])[changed] / step
            fits.append(np.ptp(f) < 1e-9 and 0 < f[0] <= 1 + 1e-12)
        assert any(fits)
    # One element for certain, five with probability CR of mean 0.5.
    assert abs(crossed / 60 - (1 + 5 * 0.5)) < 4 * np.sqrt(5 * (0.25 + 5 * 0.01) / 60)


def test_elements_outside_go_half_way_from_their_target_to_the_bound():
    v, target = np.array([-0.3, 1.7, 0.4, 2.0]), np.array([0.2, 0.5, 0.9, 1.0])
    assert build()._inside(v, target).tolist() == [0.1, 0.75, 0.4, 1.0]
    mixed = build(Space({"w": Real(), "x": Real(0, 1)}))
    assert mixed._inside(np.array([-3.0, -3.0]), np.array([0.5, 0.5])).tolist() == [-3.0, 0.25]


def test_a_trial_replaces_its_target_at_once_if_it_is_no_worse():
    optimizer = build()
    tell(optimizer, optimizer.ask(10), range(10))
    trials = optimizer.ask(3)
    assert trials.info["parents"][:, 0].tolist() == [0, 1, 2]
    tell(optimizer, trials, [0.0, 5.0, np.nan])
    assert sorted(optimizer.population[0].tolist()) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert optimizer.population[2].tolist() == list(range(10))


def test_a_late_trial_meets_who_holds_its_targets_place_by_then():
    optimizer = build()
    tell(optimizer, optimizer.ask(10), range(10))
    late = optimizer.ask(1)
    others = optimizer.ask(10)
    assert others.info["parents"][9, 0] == 0
    tell(optimizer, others, [100.0] * 9 + [-2.0])
    tell(optimizer, late, [-1.0])  # better than its target was, worse than its successor
    assert late.ids[0] not in optimizer.population[0]


def test_a_trial_whose_target_was_dropped_competes_with_the_worst():
    optimizer = build(pop_size=10, evaluations=20)
    founders = optimizer.ask(10)
    tell(optimizer, founders, range(10))
    assert len(optimizer.population[0]) == 7
    late = optimizer.ask(7)
    more = optimizer.ask(3)
    tell(optimizer, more, [100.0] * 3)
    assert optimizer.population[0].tolist() == [0, 1, 2, 3, 4, 5]  # round(-6/20 * 13 + 10) = 6
    assert late.info["parents"][6, 0] == 6
    optimizer.tell(Evaluations(late.ids[6:], late.x[6:], np.array([[0.5]])))
    assert optimizer.population[0].tolist() == [0, int(late.ids[6]), 1, 2, 3, 4]


def test_a_generation_waits_for_a_trial_of_each_member():
    optimizer = build(synchronous=True)
    founders = optimizer.ask(25)
    assert len(founders) == 10
    tell(optimizer, founders, range(10))
    trials = optimizer.ask(25)
    assert trials.info["parents"][:, 0].tolist() == list(range(10))
    half = Evaluations(trials.ids[:5], trials.x[:5], np.full((5, 1), -1.0))
    optimizer.tell(half)
    assert optimizer.population[2].tolist() == list(range(10))
    assert not len(optimizer.ask(1))
    optimizer.tell(Evaluations(trials.ids[5:], trials.x[5:], np.full((5, 1), 100.0)))
    assert optimizer.population[2].tolist() == [-1.0] * 5 + [5.0, 6.0, 7.0, 8.0, 9.0]


def test_integers_move_by_less_than_one_between_evaluations():
    space = Space({"n": Integer(0, 3, shape=(3,))})
    optimizer = build(space)
    for _ in range(20):
        candidates = optimizer.ask(5)
        assert np.array_equal(candidates.x, space.snap(candidates.x))
        evaluate(optimizer, candidates)
    x = optimizer.population[1]
    assert not np.array_equal(x, space.snap(x))


def test_failed_founders_leave_it_smaller_and_total_failure_means_random_vectors():
    optimizer = build()
    tell(optimizer, optimizer.ask(10), [np.nan] * 8 + [1.0, 2.0])
    again = optimizer.ask(3)
    assert (again.info["parents"] == -1).all()
    evaluate(optimizer, again)
    assert (optimizer.ask(3).info["parents"] >= 0).all()


@pytest.mark.parametrize("synchronous", [False, True])
def test_it_finds_what_random_search_finds_with_probability_below_a_millionth(synchronous):
    # The best of N uniform vectors is within r of an inner point of the cube with probability at most N V_d r^d; d = 4
    # (V = pi^2 / 2), N = 1000 and 1e-6 make r^4 = 1e-6 / (500 pi^2).
    for seed in range(2):
        optimizer = DifferentialEvolution(SPACE, COST, seed=seed, evaluations=1000, synchronous=synchronous)
        best = np.inf
        while optimizer.n_asked < 1000:
            best = min(best, evaluate(optimizer, optimizer.ask(8)).min())
        assert np.sqrt(best) < (1e-6 / (500 * np.pi**2)) ** 0.25 / 100


def test_an_improvement_beyond_the_largest_number_leaves_finite_means():
    optimizer = build(pop_size=4, memory_size=1)
    tell(optimizer, optimizer.ask(4), np.full(4, 1.7e308))
    for _ in range(3):
        tell(optimizer, optimizer.ask(4), np.full(4, -1.7e308))
    assert np.isfinite(optimizer._means[0][0])
