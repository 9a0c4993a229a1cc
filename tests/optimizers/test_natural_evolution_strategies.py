"""NaturalEvolutionStrategies: separable NES, against the Fisher matrix and the formulas of the paper."""

from functools import partial

import numpy as np
import pytest

from l2l_dask import Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers.natural_evolution_strategies import NaturalEvolutionStrategies

WEIGHTS = Space({"w": Real(shape=(2,))})
COST = Objectives(minimize("cost"))
SPACES = {
    "one-dimensional": default_spaces()["one-dimensional"],
    "logarithmic": default_spaces()["logarithmic"],
    "conditional": Space({"n": Integer(1, 3), "w": Real(shape=(2,), when={"n": [2, 3]})}),
}
# ln 3 - ln k for k = 1 to 4, not below 0, by their sum ln 4.5, minus 1 / 4.
UTILITIES = np.array([np.log(3) / np.log(4.5), np.log(1.5) / np.log(4.5), 0, 0]) - 0.25


def build(space=WEIGHTS, **options):
    return NaturalEvolutionStrategies(space, COST, **({"synchronous": True} | options))


def tell(optimizer, candidates, cost):
    optimizer.tell(Evaluations(candidates.ids, candidates.x, np.asarray(cost, dtype=float)[:, None]))


def test_the_step_is_the_inverse_fisher_matrix_times_the_gradient_of_the_log_density():
    # Parameters (mu, ln sigma): scores s / sigma and s^2 - 1; the Fisher matrix is the mean of their outer product, by
    # Gauss-Hermite quadrature over both dimensions.
    sigma, mu_rate, sigma_rate = 0.7, 0.5, 0.3
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    weights = weights / weights.sum()

    def scores(s):
        return np.concatenate([s / sigma, s**2 - 1])

    fisher = sum(
        p * q * np.outer(scores(np.array([a, b])), scores(np.array([a, b])))
        for a, p in zip(nodes, weights, strict=True)
        for b, q in zip(nodes, weights, strict=True)
    )
    optimizer = build(sigma=sigma, learning_rate_mu=mu_rate, learning_rate_sigma=sigma_rate, pop_size=4)
    candidates = optimizer.ask(4)
    tell(optimizer, candidates, [2.0, 4.0, 1.0, 3.0])
    gradient = sum(u * scores(candidates.x[i] / sigma) for u, i in zip(UTILITIES, [2, 0, 3, 1], strict=True))
    natural = np.linalg.solve(fisher, gradient)
    assert optimizer.mean == pytest.approx(mu_rate * natural[:2])
    assert np.log(optimizer.sd / sigma) == pytest.approx(sigma_rate * natural[2:])


def test_without_fitness_shaping_the_fitness_divided_by_n_takes_the_place_of_the_utilities():
    optimizer = build(sigma=0.5, fitness_shaping=False, mirrored_sampling=False, pop_size=3, learning_rate_sigma=0.1)
    candidates = optimizer.ask(3)
    s, f = candidates.x / 0.5, -np.array([1.0, 3.0, 2.0]) / 3
    tell(optimizer, candidates, [1.0, 3.0, 2.0])
    assert optimizer.mean == pytest.approx(0.5 * (f @ s))
    assert optimizer.sd == pytest.approx(0.5 * np.exp(0.05 * (f @ (s**2 - 1))))


def test_a_late_result_pulls_the_mean_to_its_place_and_widens_by_its_own_noise():
    optimizer = build(sigma=0.5, pop_size=4, mirrored_sampling=False, learning_rate_sigma=0.2, synchronous=False)
    candidates = optimizer.ask(8)
    tell(optimizer, type(candidates)(candidates.x[:4], {}, candidates.ids[:4]), [1.0, 2.0, 3.0, 4.0])
    mean, sd = optimizer.mean, optimizer.sd
    x, s = candidates.x[4:], candidates.x[4:] / 0.5
    tell(optimizer, type(candidates)(candidates.x[4:], {}, candidates.ids[4:]), [1.0, 2.0, 3.0, 4.0])
    # mu + sum_k w_k (x_k - mu) - (1 / n) sum_k sigma s_k, with w = u + 1 / n.
    pull = sum(w * (row - mean) for w, row in zip(UTILITIES + 0.25, x, strict=True))
    assert optimizer.mean == pytest.approx(mean + pull - sd * s.mean(axis=0))
    assert optimizer.sd == pytest.approx(sd * np.exp(0.1 * sum(UTILITIES[k] * (s[k] ** 2 - 1) for k in range(4))))


def test_the_default_rate_is_that_of_the_paper():
    space = Space({"w": Real(shape=(4,))})
    assert build(space).learning_rate_sigma == pytest.approx((3 + np.log(4)) / 10)


def test_it_starts_with_the_standard_deviation_of_the_space():
    optimizer = build(Space({"x": Real(0, 1), "w": Real()}))
    assert optimizer.sd == pytest.approx([np.sqrt(1 / 12), 1.0])


def test_on_a_plateau_nothing_moves():
    optimizer = build()
    for _ in range(3):
        candidates = optimizer.ask(100)
        tell(optimizer, candidates, np.ones(len(candidates)))
    assert optimizer.mean == pytest.approx([0, 0])
    assert optimizer.sd == pytest.approx([1, 1])


def test_on_a_slope_without_end_everything_stays_finite():
    optimizer = build(learning_rate_sigma=10.0)
    for _ in range(300):
        candidates = optimizer.ask(100)
        tell(optimizer, candidates, candidates.x.sum(axis=1))
    assert np.isfinite(optimizer.mean).all()
    assert (optimizer.sd <= 1e6).all()


@pytest.mark.parametrize("synchronous", [True, False])
def test_it_finds_what_random_search_finds_with_probability_below_a_millionth(synchronous):
    # The best of N uniform vectors is within r of an inner point of the cube with probability at most N V_d r^d; d = 4
    # (V = pi^2 / 2), N = 600 and 1e-6 make r^4 = 1e-6 / (300 pi^2). Asynchronous, 24 are in flight: three generations.
    optimizer = build(Space({"x": Real(0, 1, shape=(4,))}), synchronous=synchronous)
    best = np.inf
    waiting = []
    for _ in range(75):
        waiting.append(optimizer.ask(8))
        if synchronous or len(waiting) == 3:
            candidates = waiting.pop(0)
            cost = ((candidates.x - 0.3) ** 2).sum(axis=1)
            best = min(best, cost.min())
            tell(optimizer, candidates, cost)
    assert best < np.sqrt(1e-6 / (300 * np.pi**2))


@pytest.mark.parametrize(
    "given",
    [
        {"synchronous": True},
        {"pop_size": 2, "mirrored_sampling": False, "fitness_shaping": False, "learning_rate_sigma": 100.0},
        {"pop_size": 4, "sigma": 1e-12, "n_iteration": 5},
    ],
    ids=str,
)
def test_it_keeps_the_contract_with_other_options(given):
    check_optimizer(partial(NaturalEvolutionStrategies, **given), spaces=SPACES, evaluations=40)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("pop_size", 1),
        ("pop_size", 5),
        ("learning_rate_mu", -1),
        ("learning_rate_sigma", "fast"),
        ("sigma", 0),
        ("n_iteration", 0),
        ("mu", {}),
    ],
)
def test_an_option_out_of_range_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option} must be .*$"):
        build(**{option: value})
