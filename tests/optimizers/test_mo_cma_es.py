"""MOCMAES: a front of evolution strategies, steady-state or by generations."""

import math
from functools import partial

import numpy as np
import pytest

from l2l_dask import Categorical, Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers._pareto import hypervolume
from optimizers.mo_cma_es import MOCMAES, updated

SPACE = Space({"x": Real(0, 1, shape=(4,))})
TWO = Objectives([minimize("a"), minimize("b")])
THREE = Objectives([minimize("a"), minimize("b"), minimize("c")])


def build(space=SPACE, objectives=TWO, **options):
    return MOCMAES(space, objectives, **({"pop_size": 5} | options))


def tell(optimizer, candidates, cost, rows=slice(None)):
    cost = np.array(cost, dtype=float).reshape(-1, len(optimizer.objectives))
    optimizer.tell(Evaluations(candidates.ids[rows], candidates.x[rows], cost))


FRONT = [[0, 10], [1, 6], [4, 2], [8, 1], [10, 0]]


@pytest.mark.parametrize("given", [{"pop_size": 4, "synchronous": True}, {"pop_size": 1, "sigma": 3.0}])
def test_it_keeps_the_contract_with_other_options(given):
    spaces = {name: default_spaces()[name] for name in ("real", "integer")} | {
        "rest": Space({"w": Real(), "n": Integer(1, 9), "v": Real(0, 1, when={"n": [1, 2, 3]})})
    }
    check_optimizer(partial(MOCMAES, **given), spaces=spaces, evaluations=40)


@pytest.mark.parametrize(("option", "value"), [("pop_size", 0), ("sigma", 0.0)], ids=str)
def test_an_option_out_of_range_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option} must be .*$"):
        build(**{option: value})


def test_categoricals_are_refused():
    with pytest.raises(OptimizerError, match="categorical"):
        build(Space({"c": Categorical(["x", "y"])}))


def test_an_update_of_the_cholesky_factor_is_that_of_the_dense_covariance():
    rng = np.random.default_rng(1)
    factor = None
    covariance = np.eye(6)
    for _ in range(20):
        w = rng.standard_normal(6)
        v = w if factor is None else factor @ w
        alpha, beta = 1 - 0.3 * rng.random(), 0.3 * rng.random()
        factor, white = updated(factor, v, w, alpha, beta)
        covariance = alpha * covariance + beta * np.outer(v, v)
        assert factor @ factor.T == pytest.approx(covariance)
        assert factor @ white == pytest.approx(v)
    assert updated(None, np.zeros(3), np.zeros(3), 0.25, 0.5)[0] == pytest.approx(0.5 * np.eye(3))


def test_a_successful_childs_covariance_path_and_step_size_are_those_of_the_papers_formulas():
    # n = 4: d = 1 + n/2 = 3, p_target = 1/5.5, c_p = p_target/(2 + p_target), c_c = 2/6, c_cov = 2/22.
    optimizer = build(sigma=1e-3)  # far from the widest
    tell(optimizer, optimizer.ask(5), np.array(FRONT) + 100)
    covariance, path, success, sigma = np.eye(4), np.zeros(4), 1 / 5.5, 1e-3
    c_p, c_c, c_cov = (1 / 5.5) / (2 + 1 / 5.5), 2 / 6, 2 / 22
    abundant = 0
    for i in range(12):
        child = optimizer.ask(1)
        flying = optimizer._flying[int(child.ids[0])]
        # The first front is the last child alone, so its line goes on: everything is inherited.
        step = (flying.x - flying.parent.x) / flying.parent.sigma
        tell(optimizer, child, [[-i, -i]])
        success = (1 - c_p) * success + c_p
        sigma *= math.exp((success - 1 / 5.5) / (3 * (1 - 1 / 5.5)))
        if success < 0.44:
            path = (1 - c_c) * path + math.sqrt(c_c * (2 - c_c)) * step
            covariance = (1 - c_cov) * covariance + c_cov * np.outer(path, path)
        else:
            abundant += 1
            path = (1 - c_c) * path
            covariance = (1 - c_cov) * covariance + c_cov * (np.outer(path, path) + c_c * (2 - c_c) * covariance)
        assert flying.sigma == pytest.approx(sigma)
        assert flying.success == pytest.approx(success)
        assert flying.path == pytest.approx(path)
        assert flying.factor @ flying.factor.T == pytest.approx(covariance)
        assert flying.factor @ flying.white == pytest.approx(path)
    assert 0 < abundant < 12


def test_the_step_sizes_of_parent_and_child_fall_without_success_and_rise_with_it():
    optimizer = build(pop_size=2)
    tell(optimizer, optimizer.ask(2), [[0, 1], [1, 0]])
    child = optimizer.ask(1)
    parent = optimizer._flying[2].parent
    tell(optimizer, child, [[9, 9]])
    c = (1 / 5.5) / (2 + 1 / 5.5)
    fallen = 0.2 * math.exp(((1 - c) / 5.5 - 1 / 5.5) / (3 * (1 - 1 / 5.5)))
    assert parent.sigma == pytest.approx(fallen)
    assert parent.factor is None
    child = optimizer.ask(1)
    parent = optimizer._flying[3].parent
    before = parent.sigma
    tell(optimizer, child, [[-9, -9]])
    assert parent.sigma > before


def test_among_bounds_steps_do_not_grow_beyond_the_spread_of_random_points():
    optimizer = build(Space({"x": Real(0, 1, shape=(3,)), "w": Real()}))
    tell(optimizer, optimizer.ask(5), np.array(FRONT) + 100)
    for i in range(30):
        child = optimizer.ask(1)
        flying = optimizer._flying[int(child.ids[0])]
        tell(optimizer, child, [[-i, -i]])
        spread = flying.sigma * np.linalg.norm(flying.factor, axis=1)
        assert spread[:3].max() < 0.3
    assert spread[:3].max() > 0.25


def test_children_are_normal_with_the_step_size_of_their_parent():
    space = Space({"x": Real(0, 1, shape=(500,)), "w": Real(shape=(500,))})
    optimizer = build(space, pop_size=2, sigma=0.01)
    tell(optimizer, optimizer.ask(2), [[0, 1], [1, 0]])
    child = optimizer.ask(1)
    flying = optimizer._flying[2]
    steps = flying.x - flying.parent.x
    # Chi-square deviations of four standard errors.
    assert abs(steps[:500].std() / 0.01 - 1) < 4 / np.sqrt(1000)
    assert abs(steps[500:].std() / (0.01 * math.sqrt(12)) - 1) < 4 / np.sqrt(1000)
    assert child.info["parents"].tolist() == [[flying.parent.id, -1]]


def test_the_least_contributor_to_the_hypervolume_goes():
    # Contributions: (1, 6) 3 x 4, (4, 2) 4 x 4, (8, 1) 2 x 1; the newcomer (5, 1.5): 3 x 0.5, and leaves (4, 2) 1 x 4
    # and (8, 1) 2 x 0.5, the least.
    optimizer = build()
    tell(optimizer, optimizer.ask(5), FRONT)
    tell(optimizer, optimizer.ask(1), [[5, 1.5]])
    assert sorted(optimizer.front[0].tolist()) == [0, 1, 2, 4, 5]
    assert sorted(optimizer.front[2][:, 0].tolist()) == [0, 1, 4, 5, 10]


def test_with_three_objectives_the_most_crowded_goes():
    optimizer = build(objectives=THREE)
    tell(optimizer, optimizer.ask(5), [[10, 0, 0], [0, 10, 0], [0, 0, 10], [2, 3, 3], [3, 4, 1]])
    # Crowding of the inner ones: (2, 3, 3) has neighbours 0|3, 0|4, 1|10 -> 1.6; (3, 4, 1) 2|10, 3|10, 0|3 -> 1.8; with
    # (2.5, 3.5, 2) between them it is the most crowded of all: 2|3, 3|4, 1|3 -> 0.4.
    tell(optimizer, optimizer.ask(1), [[2.5, 3.5, 2]])
    assert sorted(optimizer.front[0].tolist()) == [0, 1, 2, 3, 4]


def test_parents_are_drawn_out_of_the_first_front():
    optimizer = build()
    tell(optimizer, optimizer.ask(5), [[0, 1], [1, 0], [2, 2], [3, 3], [4, 4]])
    parents = optimizer.ask(100).info["parents"][:, 0]
    assert set(parents.tolist()) == {0, 1}
    assert abs(parents.mean() - 0.5) < 4 * np.sqrt(0.25 / 100)


def test_outside_the_bounds_the_nearest_point_is_evaluated_and_the_distance_penalised():
    optimizer = build(pop_size=1)
    tell(optimizer, optimizer.ask(1), [[1.0, 1.0]])
    optimizer._at(0).x = np.array([0.5, 0.5, 0.5, -40.0])
    child = optimizer.ask(1)
    assert child.x[0, 3] == 0.0
    flying = optimizer._flying[1]
    assert flying.x[3] == pytest.approx(-40, abs=2)
    tell(optimizer, child, [[1.0, 1.0 - 1e-4]])  # better, but by less than the penalty of 1e-6 * 40^2
    assert optimizer.front[0].tolist() == [0]
    child = optimizer.ask(1)
    tell(optimizer, child, [[0.9, 0.9]])
    assert optimizer.front[2].tolist() == [[0.9, 0.9]]


def test_a_generation_has_a_child_of_each_member_and_waits_for_all():
    optimizer = build(synchronous=True)
    first = optimizer.ask(9)
    assert len(first) == 5
    tell(optimizer, first, FRONT)
    second = optimizer.ask(9)
    assert second.info["parents"][:, 0].tolist() == [0, 1, 2, 3, 4]
    tell(optimizer, second, [[-1, -1]] + [[20, 20]] * 3, slice(0, 4))
    assert not len(optimizer.ask(1))
    mothers = [optimizer._at(slot) for slot in range(5)]
    tell(optimizer, second, [[np.nan, 0]], slice(4, 5))
    assert optimizer.front[0].tolist() == [5]
    # The first had a success, the last no result.
    assert [np.sign(member.sigma - 0.2) for member in mothers] == [1, -1, -1, -1, 0]


def test_what_is_told_forgets_its_ancestors():
    optimizer = build()
    for _ in range(30):
        candidates = optimizer.ask(3)
        tell(optimizer, candidates, ((candidates.x[:, :2] - 0.3) ** 2))
    assert all(member.parent is None and member.z is None for member in optimizer._members if member is not None)


def test_the_default_population_holds_its_matrices_in_256_megabytes():
    sizes = {dim: MOCMAES(Space({"x": Real(0, 1, shape=(dim,))}), TWO).pop_size for dim in (2, 579, 600, 1000, 5000)}
    assert sizes == {2: 100, 579: 100, 600: 93, 1000: 33, 5000: 10}


@pytest.mark.parametrize("synchronous", [False, True])
def test_it_finds_the_front_of_two_turned_ellipsoids(synchronous):
    # f_i = |L (x - c_i)|^2 / |L (c_1 - c_2)|^2: the front is the segment between the centres, where
    # f_2 = (1 - sqrt(f_1))^2, and its hypervolume up to (1, 1) is 1 - integral of (1 - sqrt(f))^2 = 5/6.
    space = Space({"x": Real(0, 1, shape=(8,))})
    turned, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((8, 8)))
    metric = turned * 10.0 ** np.linspace(0, 2, 8)
    centres = np.full(8, 0.4), np.full(8, 0.6)
    scale = (((centres[0] - centres[1]) @ metric) ** 2).sum()

    def costs(x):
        return np.stack([(((x - centre) @ metric) ** 2).sum(axis=1) / scale for centre in centres], axis=1)

    def found_with(seed):
        optimizer = build(space, pop_size=10, synchronous=synchronous, seed=seed)
        while optimizer.n_asked < 3000:
            candidates = optimizer.ask(10)
            tell(optimizer, candidates, costs(candidates.x))
        return hypervolume(optimizer.front[2], np.array([1.0, 1.0]))

    found = np.median([found_with(seed) for seed in range(3)])
    # Ten points, evenly spaced along the segment (t = 0, 1/9, .. 1), have:
    t = np.linspace(0, 1, 10)
    even = hypervolume(np.stack((t**2, (1 - t) ** 2), axis=1), np.array([1.0, 1.0]))
    chance = hypervolume(costs(np.random.default_rng(1).random((3000, 8))), np.array([1.0, 1.0]))
    assert 0.95 * even < found < 5 / 6
    assert chance < 0.9 * even
