"""SteadyStateGA: (mu + 1), asynchronous, and far better than random search."""

import math

import numpy as np
import pytest

from l2l_dask import Categorical, Evaluations, Integer, Objectives, Real, Space, minimize
from optimizers.random_search import RandomSearch
from optimizers.steady_state_ga import SteadyStateGA

COST = Objectives(minimize("cost"))


def build(space, **options):
    return SteadyStateGA(space, COST, **options)


def tell(optimizer, ids, x, cost):
    optimizer.tell(Evaluations(np.array(ids), np.array(x), np.array(cost, dtype=float)[:, None]))


def minimise(optimizer, function, n, in_flight=8):
    """Evaluate ``n`` vectors, told in random order with ``in_flight`` of them under way; return the costs."""
    rng, waiting, costs = np.random.default_rng(optimizer.seed), [], []
    while len(costs) < n:
        while len(waiting) < in_flight and optimizer.n_asked < n:
            waiting.append(optimizer.ask(1))
        c = waiting.pop(rng.integers(len(waiting)))
        costs.append(function(c.x[0]))
        tell(optimizer, c.ids, c.x, costs[-1:])
    return np.array(costs)


def test_the_population_is_what_a_hand_worked_case_says():
    space = Space({"x": Real(0, 1)})
    optimizer = build(space, pop_size=4)
    x = np.arange(8.0)[:, None] / 8
    optimizer.adopt(range(8), x)
    tell(optimizer, [0, 1, 2, 3], x[:4], [5.0, 3.0, np.nan, 4.0])  # 1:3 3:4 0:5, still a place free
    assert optimizer.population[0].tolist() == [1, 3, 0]
    tell(optimizer, [5], x[5:6], [6.0])  # takes the free place, though worst
    assert optimizer.population[0].tolist() == [1, 3, 0, 5]
    tell(optimizer, [4], x[4:5], [7.0])  # worse than the worst: stays out
    assert optimizer.population[0].tolist() == [1, 3, 0, 5]
    tell(optimizer, [6, 7], x[6:8], [3.5, 5.0])  # 6 replaces 5, then 7 equals the worst, the older of which goes
    ids, vectors, costs = optimizer.population
    assert ids.tolist() == [1, 6, 3, 7]
    assert vectors[:, 0].tolist() == [1 / 8, 6 / 8, 3 / 8, 7 / 8]
    assert costs.tolist() == [3.0, 3.5, 4.0, 5.0]


def test_the_population_is_always_the_best_of_all_that_were_told():
    optimizer = build(Space({"x": Real(0, 1, shape=(3,))}), pop_size=20)
    costs = minimise(optimizer, lambda x: float(((x - 0.4) ** 2).sum()), 300)
    assert np.array_equal(optimizer.population[2], np.sort(costs)[:20])


def test_failed_evaluations_never_enter_the_population():
    optimizer = build(Space({"x": Real(0, 1)}), pop_size=4)
    first = optimizer.ask(30)
    tell(optimizer, first.ids, first.x, [np.nan] * 29 + [1.0])
    assert optimizer.population[0].tolist() == [29]
    assert (optimizer.ask(1).info["parents"] == -1).all()  # one alone cannot breed
    assert optimizer.untold.tolist() == [30]


def test_founders_have_no_parents_and_children_have_members_of_the_population():
    optimizer = build(Space({"x": Real(0, 1, shape=(3,))}), pop_size=10)
    first = optimizer.ask(10)
    assert (first.info["parents"] == -1).all()
    tell(optimizer, first.ids, first.x, np.arange(10.0))
    second = optimizer.ask(60)
    mothers, fathers = second.info["parents"].T
    assert set(mothers.tolist()) <= set(range(10))
    assert set(fathers.tolist()) <= {-1, *range(10)}
    assert (mothers != fathers).all()
    assert second.info["generation"].tolist() == [1] * 10 + [2] * 10 + [3] * 10 + [4] * 10 + [5] * 10 + [6] * 10


def test_parents_are_as_probable_as_tournaments_of_three_make_them():
    optimizer = build(Space({"x": Real(0, 1)}), pop_size=4, tourn_size=3)
    first = optimizer.ask(4)
    tell(optimizer, first.ids, first.x, np.arange(4.0))
    mothers = optimizer.ask(4000).info["parents"][:, 0]
    share = np.bincount(mothers, minlength=4) / 4000
    expected = np.array([(4 - r) ** 3 - (3 - r) ** 3 for r in range(4)]) / 4**3
    assert (np.abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000)).all()


def test_a_copy_of_one_parent_is_always_mutated():
    optimizer = build(Space({"x": Real(0, 1, shape=(5,))}), pop_size=4, cx_prob=0, diff_prob=0, mut_prob=0, ind_prob=0)
    first = optimizer.ask(4)
    tell(optimizer, first.ids, first.x, np.arange(4.0))
    children = optimizer.ask(100)
    steps = children.x - first.x[children.info["parents"][:, 0]]
    assert ((steps != 0).sum(axis=1) == 1).all()
    sizes = np.abs(steps).max(axis=1)
    assert ((sizes >= 0.5 * 2.0**-8 * (1 - 1e-9)) & (sizes <= 0.5)).all()


def test_a_difference_vector_leads_from_the_worse_to_the_better_and_is_half_normal():
    # Members at 0.4 (best), 0.41, 0.42, 0.43: with F = 1 a difference is -|z| 0.01 (j - i), where (i, j) is one of six
    # pairs, so its mean is -0.01 sqrt(2 / pi) 10 / 6, and the square of its mean size 1e-4 20 / 6.
    optimizer = build(Space({"x": Real(0, 1)}), pop_size=4, cx_prob=0, diff_prob=1, mut_prob=0, tourn_size=1)
    first = optimizer.ask(4)
    x = np.array([[0.4], [0.41], [0.42], [0.43]])
    tell(optimizer, first.ids, x, np.arange(4.0))
    children = optimizer.ask(4000)
    steps = (children.x - x[children.info["parents"][:, 0]])[:, 0]
    assert (steps < 0).all()
    mean, square = 0.01 * math.sqrt(2 / math.pi) * 10 / 6, 1e-4 * 20 / 6
    assert abs(-steps.mean() - mean) < 4 * math.sqrt((square - mean**2) / 4000)


def test_an_optimum_at_the_bounds_is_found_exactly():
    optimizer = build(Space({"x": Real(0, 1, shape=(4,))}), seed=1)
    assert minimise(optimizer, lambda x: float(x.sum()), 400).min() == 0.0


def test_a_discrete_space_is_searched_without_asking_twice_until_nothing_is_left():
    space = Space({"n": Integer(0, 3), "c": Categorical(["a", "b", "c"])})
    optimizer = build(space, pop_size=5)
    asked = []
    for _ in range(12):
        c = optimizer.ask(1)
        asked.append(tuple(space.decode(c.x[0]).values()))
        tell(optimizer, c.ids, c.x, [c.x.sum()])
    assert len(set(asked)) >= 11
    assert len(optimizer.ask(20)) == 20  # exhausted, and it still answers: a noisy fitness may be asked again


def test_vectors_that_differ_only_in_inactive_parameters_count_as_the_same():
    space = Space({"model": Categorical(["a", "b", "c", "d"]), "x": Real(0, 1, when={"model": "a"})})
    optimizer = build(space, pop_size=4)
    minimise(optimizer, lambda x: 1.0 - x[0], 60, in_flight=1)
    assert len([k for k in optimizer._asked if space.decode(np.frombuffer(k))["model"] != "a"]) == 3


def test_what_was_adopted_is_not_asked_again_in_a_discrete_space():
    space = Space({"n": Integer(0, 63)})
    optimizer = build(space, pop_size=5)
    optimizer.adopt(range(32), [space.encode({"n": n}) for n in range(32)])
    asked = space.natural(optimizer.ask(16).x)[:, 0].tolist()
    assert len(set(asked)) == 16
    assert min(asked) >= 32


def test_what_it_remembers_of_asked_vectors_is_bounded(monkeypatch):
    monkeypatch.setattr("optimizers.steady_state_ga._REMEMBERED", 50)
    optimizer = build(Space({"n": Integer(0, 2**40)}))
    optimizer.ask(200)
    assert len(optimizer._asked) == 50


SPHERE_RADIUS_5 = (1e-6 / (1500 * 8 * math.pi**2 / 15)) ** (1 / 5)


@pytest.mark.parametrize("in_flight", [2, 40])
@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_random_search_finds_with_probability_below_a_millionth(seed, in_flight):
    # The best of N = 1500 uniform vectors is within r of an inner point of the cube with probability at most N V_5 r^5,
    # V_5 = 8 pi^2 / 15; SPHERE_RADIUS_5 makes that 1e-6.
    optimum = np.array([0.3, 0.7, 0.5, 0.2, 0.6])
    optimizer = build(Space({"x": Real(0, 1, shape=(5,))}), seed=seed)
    costs = minimise(optimizer, lambda x: float(((x - optimum) ** 2).sum()), 1500, in_flight)
    assert costs.min() < SPHERE_RADIUS_5**2


@pytest.mark.parametrize("seed", range(3))
def test_it_beats_random_search_tenfold_where_the_parameters_interact(seed):
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((6, 6)))

    def rosenbrock(x):
        z = rotation @ (10 * x - 5) + 1
        return float((100 * (z[:-1] ** 2 - z[1:]) ** 2 + (z[:-1] - 1) ** 2).sum())

    space = Space({"x": Real(0, 1, shape=(6,))})
    ours = minimise(build(space, seed=seed), rosenbrock, 1500).min()
    assert 10 * ours < minimise(RandomSearch(space, COST, seed=seed), rosenbrock, 1500).min()


def test_it_solves_a_mixed_problem_that_random_search_hits_once_in_three_million():
    # Two in ten for x, 1 in 21 for each of three integers, 1 in 8 for each of two categoricals: 1 in 2 963 520.
    space = Space({"x": Real(-1, 1), "n": Integer(0, 20, shape=(3,)), "c": Categorical(list("abcdefgh"), shape=(2,))})
    target = space.encode({"x": 0.3, "n": np.array([3, 17, 9]), "c": np.array(["b", "g"], dtype=object)})

    def cost(x):
        values, wanted = space.natural(x), space.natural(target)
        return abs(values[0] - wanted[0]) + np.abs(values[1:4] - wanted[1:4]).sum() + (values[4:] != wanted[4:]).sum()

    for seed in range(3):
        assert minimise(build(space, seed=seed), cost, 1500).min() < 0.2


def test_it_walks_out_of_a_wrong_scale_where_there_are_no_bounds():
    space = Space({"w": Real(shape=(3,))})
    optimizer = build(space, seed=1)
    costs = minimise(optimizer, lambda x: float(np.abs(x - 10).sum()), 1500)
    assert costs.min() < 0.01  # ten standard deviations from where it started
