"""GeneticAlgorithm: generations with full replacement, as in the original L2L, its defects gone."""

import numpy as np
import pytest

from l2l_dask import Evaluations, Integer, Objectives, Real, Space, minimize
from optimizers.genetic_algorithm import GeneticAlgorithm

SPACE = Space({"x": Real(0, 1, shape=(4,))})
COST = Objectives(minimize("cost"))


def build(space=SPACE, **options):
    return GeneticAlgorithm(space, COST, **({"pop_size": 10, "tourn_size": 3} | options))


def tell(optimizer, ids, x, cost):
    optimizer.tell(Evaluations(np.array(ids), np.array(x), np.array(cost, dtype=float)[:, None]))


def evaluate(optimizer, candidates, failed=()):
    cost = ((candidates.x - 0.3) ** 2).sum(axis=1)
    cost[[i in failed for i in candidates.ids.tolist()]] = np.nan
    tell(optimizer, candidates.ids, candidates.x, cost)
    return cost


def test_a_generation_waits_until_all_of_the_one_before_are_told():
    optimizer = build()
    first = optimizer.ask(25)
    assert len(first) == 10
    for i in range(10):
        assert not len(optimizer.ask(1))
        tell(optimizer, [first.ids[i]], first.x[i : i + 1], [1.0])
    second = optimizer.ask(25)
    assert second.ids.tolist() == list(range(10, 20))
    assert first.info["generation"].tolist() == [0] * 10
    assert second.info["generation"].tolist() == [1] * 10


def test_parents_are_of_the_generation_before_and_random_individuals_have_none():
    optimizer = build(cx_prob=1.0)
    first = optimizer.ask(10)
    assert (first.info["parents"] == -1).all()
    evaluate(optimizer, first)
    second = optimizer.ask(10)
    evaluate(optimizer, second)
    assert set(second.info["parents"].ravel().tolist()) <= set(range(10))
    assert set(optimizer.ask(10).info["parents"].ravel().tolist()) <= set(range(10, 20))


def test_without_crossover_and_mutation_children_are_copies_of_tournament_winners():
    n = 400
    optimizer = build(pop_size=n, cx_prob=0.0, mut_prob=0.0, tourn_size=3)
    first = optimizer.ask(n)
    cost = evaluate(optimizer, first)
    second = optimizer.ask(n)
    mothers, nobody = second.info["parents"].T
    assert (nobody == -1).all()
    assert np.array_equal(second.x, first.x[mothers])
    # P(rank >= r) = ((n - r) / n)^3, so the mean rank is the sum of these: n / 4, where a random choice has n / 2; the
    # standard deviation of a Beta(1, 3) variable is sqrt(3 / 80).
    rank = np.argsort(np.argsort(cost))
    expected = sum(((n - r) / n) ** 3 for r in range(1, n))
    assert abs(rank[mothers].mean() - expected) < 4 * n * np.sqrt(3 / 80 / n)


def test_a_tournament_of_everybody_many_times_over_selects_the_best():
    optimizer = build(cx_prob=0.0, mut_prob=0.0, tourn_size=10_000)
    first = optimizer.ask(10)
    best = int(np.argmin(evaluate(optimizer, first)))
    assert optimizer.ask(10).info["parents"][:, 0].tolist() == [best] * 10


def test_crossed_neighbours_share_their_parents_and_keep_their_sum():
    optimizer = build(cx_prob=1.0, mut_prob=0.0, mate_par=0.0)
    first = optimizer.ask(10)
    evaluate(optimizer, first)
    second = optimizer.ask(10)
    for i in range(0, 10, 2):
        a, b = second.info["parents"][i].tolist()
        assert second.info["parents"][i + 1].tolist() == [b, a]
        assert second.x[i] + second.x[i + 1] == pytest.approx(first.x[a] + first.x[b])
        low, high = np.minimum(first.x[a], first.x[b]), np.maximum(first.x[a], first.x[b])
        assert ((second.x[i] >= low - 1e-12) & (second.x[i] <= high + 1e-12)).all()


def test_gaussian_mutation_has_the_standard_deviation_asked_for():
    space = Space({"w": Real(shape=(2000,))})
    optimizer = build(space, pop_size=2, cx_prob=0.0, mut_prob=1.0, ind_prob=0.5, mut_par=0.2, tourn_size=1)
    first = optimizer.ask(2)
    evaluate(optimizer, first)
    second = optimizer.ask(2)
    steps = (second.x - first.x[second.info["parents"][:, 0]]).ravel()
    changed = steps[steps != 0]
    # Binomial and chi-square deviations of four standard errors.
    assert abs(len(changed) / len(steps) - 0.5) < 4 * np.sqrt(0.25 / len(steps))
    assert abs(changed.std() / 0.2 - 1) < 4 / np.sqrt(2 * len(changed))


def test_failed_individuals_leave_no_children():
    optimizer = build()
    failed = set(range(0, 10, 2))
    first = optimizer.ask(10)
    evaluate(optimizer, first, failed)
    assert not failed & set(optimizer.ask(10).info["parents"].ravel().tolist())


def test_it_goes_on_when_a_whole_generation_fails_from_the_parents_it_had():
    optimizer = build()
    lost = optimizer.ask(10)
    evaluate(optimizer, lost, range(10))
    again = optimizer.ask(10)
    assert (again.info["parents"] == -1).all()
    assert not np.isin(again.x, lost.x).any()
    evaluate(optimizer, again)
    evaluate(optimizer, optimizer.ask(10), range(20, 30))
    assert set(optimizer.ask(10).info["parents"].ravel().tolist()) - {-1} <= set(range(10, 20))


def test_adopted_individuals_take_places_in_the_generation_being_gathered_even_when_told_late():
    optimizer = build(tourn_size=10_000, cx_prob=0.0)
    optimizer.adopt(range(3), np.full((3, 4), 0.3))
    first = optimizer.ask(25)
    assert len(first) == 7
    evaluate(optimizer, first)
    assert not len(optimizer.ask(1))
    tell(optimizer, range(3), np.full((3, 4), 0.3), [1.0, -1.0, 1.0])
    assert optimizer.ask(10).info["parents"][:, 0].tolist() == [1] * 10


def test_an_adopted_retry_beyond_the_generation_is_waited_for_and_may_be_a_parent():
    optimizer = build(tourn_size=10_000, cx_prob=0.0)
    first = optimizer.ask(10)
    optimizer.adopt([10], first.x[:1])
    evaluate(optimizer, first)
    assert not len(optimizer.ask(1))
    tell(optimizer, [10], first.x[:1], [-1.0])
    assert set(optimizer.ask(10).info["parents"][:, 0].tolist()) == {10}


def test_it_is_done_after_n_iteration_generations():
    optimizer = build(n_iteration=2)
    for _ in range(2):
        assert not optimizer.done
        evaluate(optimizer, optimizer.ask(10))
    assert optimizer.done
    assert not len(optimizer.ask(1))


def test_the_seed_is_used():
    assert not np.isin(build(seed=1).ask(10).x, build(seed=2).ask(10).x).any()


def test_it_finds_what_random_search_finds_with_probability_below_a_millionth():
    # The best of N uniform vectors is within r of an inner point of the cube with probability at most N V_d r^d; d = 4
    # (V = pi^2 / 2), N = 1000 and 1e-6 make r^4 = 1e-6 / (500 pi^2).
    for seed in range(3):
        optimizer = build(seed=seed, pop_size=50, tourn_size=5, cx_prob=0.9, ind_prob=0.3, mut_par=0.05)
        best = min(evaluate(optimizer, optimizer.ask(50)).min() for _ in range(20))
        assert best < np.sqrt(1e-6 / (500 * np.pi**2))


def test_integers_stay_integers_and_differ_from_generation_to_generation():
    space = Space({"n": Integer(0, 9, shape=(3,))})
    optimizer = build(space, mut_prob=1.0, ind_prob=1.0)
    for _ in range(3):
        candidates = optimizer.ask(10)
        assert np.array_equal(candidates.x, space.snap(candidates.x))
        evaluate(optimizer, candidates)
    assert len(np.unique(space.natural(candidates.x), axis=0)) > 5
