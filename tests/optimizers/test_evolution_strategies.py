"""EvolutionStrategies: the gradient of the expected fitness, against closed forms."""

from functools import partial

import numpy as np
import pytest

from l2l_dask import Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers._search_gradients import default_pop_size, utilities
from optimizers.evolution_strategies import EvolutionStrategies

WEIGHTS = Space({"w": Real(shape=(3,))})
COST = Objectives(minimize("cost"))
SPACES = {
    "one-dimensional": default_spaces()["one-dimensional"],
    "logarithmic": default_spaces()["logarithmic"],
    "conditional": Space({"n": Integer(1, 3), "w": Real(shape=(2,), when={"n": [2, 3]})}),
}


def build(space=WEIGHTS, **options):
    return EvolutionStrategies(space, COST, **({"synchronous": True} | options))


def tell(optimizer, candidates, cost):
    optimizer.tell(Evaluations(candidates.ids, candidates.x, np.asarray(cost, dtype=float)[:, None]))


def test_a_mirrored_pair_moves_the_mean_by_the_formula_computed_by_hand():
    # alpha / (n sigma) (f_1 e - f_2 e), f = -cost: 0.1 / (2 * 0.5) * (-3 + 1) e.
    optimizer = build(pop_size=2, fitness_shaping=False, learning_rate=0.1, noise_std=0.5)
    candidates = optimizer.ask(2)
    noise = candidates.x[0] / 0.5
    assert candidates.x[1] == pytest.approx(-candidates.x[0])
    tell(optimizer, candidates, [3, 1])
    assert optimizer.mean == pytest.approx(-0.2 * noise)


def test_for_a_linear_fitness_the_expected_step_is_the_gradient():
    # E[f(theta + sigma e) e] / sigma = grad f = -c. Over m pairs the variance of the mean of (c e) e is
    # (|c|^2 + c_i^2) / m.
    slope, m = np.array([2.0, -1.0, 0.5]), 4000
    optimizer = build(pop_size=2 * m, fitness_shaping=False, learning_rate=0.1, noise_std=0.3)
    candidates = optimizer.ask(2 * m)
    tell(optimizer, candidates, candidates.x @ slope + 7.0)
    error = np.abs(optimizer.mean / 0.1 + slope)
    assert (error < 5 * np.sqrt((slope @ slope + slope**2) / m)).all()


def test_utilities_of_four_are_those_computed_by_hand():
    # ln 3 - ln k for k = 1 to 4, not below 0: ln 3, ln 1.5, 0, 0, and their sum is ln 4.5.
    best, second = np.log(3) / np.log(4.5), np.log(1.5) / np.log(4.5)
    assert utilities(np.array([1.0, 2, 3, 4])) == pytest.approx([best - 0.25, second - 0.25, -0.25, -0.25])


def test_equals_share_their_utilities_and_on_a_plateau_all_are_zero():
    whole = utilities(np.array([1.0, 2, 3, 4]))
    assert utilities(np.array([1.0, 1, 3, 4])) == pytest.approx([whole[:2].mean()] * 2 + [-0.25, -0.25])
    assert utilities(np.ones(5)) == pytest.approx(np.zeros(5))
    assert utilities(np.ones(1)) == pytest.approx([0])


def test_with_fitness_shaping_ranks_count_and_the_scale_of_the_fitness_does_not():
    # alpha / (n sigma) sum u_k e_k, best first.
    steps = []
    for scale in (1.0, 1e6):
        optimizer = build(pop_size=4, mirrored_sampling=False, learning_rate=0.1, noise_std=0.5)
        candidates = optimizer.ask(4)
        tell(optimizer, candidates, scale * np.array([4.0, 1.0, 3.0, 2.0]))
        steps.append(optimizer.mean)
    noise = candidates.x / 0.5
    by_rank = [np.log(3) / np.log(4.5) - 0.25, np.log(1.5) / np.log(4.5) - 0.25, -0.25, -0.25]
    expected = sum(u * noise[i] for u, i in zip(by_rank, [1, 3, 2, 0], strict=True)) * 0.1 / (4 * 0.5)
    assert steps == [pytest.approx(expected)] * 2


def test_a_late_result_counts_with_the_noise_it_was_drawn_with():
    optimizer = build(
        pop_size=2, fitness_shaping=False, mirrored_sampling=False, learning_rate=0.1, noise_std=0.5, synchronous=False
    )
    candidates = optimizer.ask(4)
    noise = candidates.x / 0.5
    tell(optimizer, candidates, [1.0, 2.0, 3.0, 4.0])
    assert optimizer.generation == 2
    assert optimizer.mean == pytest.approx(-0.1 / (2 * 0.5) * (np.array([1.0, 2.0, 3.0, 4.0]) @ noise))


def test_the_noise_of_someone_adopted_is_bounded():
    optimizer = build(noise_std=0.01)
    optimizer.adopt([0, 1], [[5.0, 0.0, 0.0], [0.01, -0.02, 0.0]])
    # At most of length sqrt(d) + 2 d / (d + 2), which is sqrt(3) + 6 / 5.
    assert optimizer._notes[0][0] == pytest.approx([np.sqrt(3) + 1.2, 0, 0])
    assert optimizer._notes[1][0] == pytest.approx([1, -2, 0])


def test_it_starts_where_mu_says_and_in_the_middle_otherwise():
    space = Space({"x": Real(0, 10), "w": Real()})
    assert build(space, mu={"x": 2.0, "w": 3.0}).mean == pytest.approx([0.2, 3.0])
    assert build(space).mean == pytest.approx([0.5, 0.0])


def test_the_mean_stays_within_the_bounds():
    optimizer = build(Space({"x": Real(0, 1)}), learning_rate=1e6, pop_size=2)
    candidates = optimizer.ask(2)
    tell(optimizer, candidates, candidates.x[:, 0])
    assert optimizer.mean == pytest.approx([0.0])


def test_the_default_population_is_that_of_the_paper_or_the_next_even_one():
    # 4 + floor(3 ln d): 3 ln 3 = 3.3, 3 ln 10 = 6.9, 3 ln 100 = 13.8.
    assert [default_pop_size(d, mirrored=False) for d in (1, 3, 10, 100)] == [4, 7, 10, 17]
    assert [default_pop_size(d, mirrored=True) for d in (1, 3, 10, 100)] == [4, 8, 10, 18]


def test_it_finds_what_random_search_finds_with_probability_below_a_millionth():
    # The best of N uniform vectors is within r of an inner point of the cube with probability at most N V_d r^d; d = 4
    # (V = pi^2 / 2), N = 4000 and 1e-6 make r^4 = 1e-6 / (2000 pi^2). Steps of alpha / (n sigma) sum u e are below
    # sigma with alpha = n sigma^2.
    optimizer = build(Space({"x": Real(0, 1, shape=(4,))}), noise_std=0.005, learning_rate=20 * 0.005**2)
    best = np.inf
    for _ in range(200):
        candidates = optimizer.ask(20)
        cost = ((candidates.x - 0.3) ** 2).sum(axis=1)
        best = min(best, cost.min())
        tell(optimizer, candidates, cost)
    assert best < np.sqrt(1e-6 / (2000 * np.pi**2))


@pytest.mark.parametrize(
    "given",
    [
        {"synchronous": True, "pop_size": 6},
        {"pop_size": 3, "mirrored_sampling": False, "fitness_shaping": False, "learning_rate": 1e5},
        {"pop_size": 4, "noise_std": 1.0, "n_iteration": 5},
    ],
    ids=str,
)
def test_it_keeps_the_contract_with_other_options(given):
    check_optimizer(partial(EvolutionStrategies, **given), spaces=SPACES, evaluations=40)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("pop_size", 1),
        ("pop_size", 3),
        ("learning_rate", -1),
        ("noise_std", 0),
        ("n_iteration", 0),
        ("stop_criterion", "low"),
        ("mu", {"x": 1.0}),
        ("mu", {"w": [0.0]}),
    ],
)
def test_an_option_out_of_range_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option} must be .*$"):
        build(**{option: value})


def test_categoricals_are_refused_at_once():
    with pytest.raises(OptimizerError, match="categorical"):
        build(default_spaces()["categorical"])
