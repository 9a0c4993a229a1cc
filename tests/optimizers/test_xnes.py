"""XNES: exponential NES, against the formulas of the paper with scipy's matrix exponential."""

from functools import partial

import numpy as np
import pytest
from scipy.linalg import expm

from l2l_dask import Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers.xnes import XNES

COST = Objectives(minimize("cost"))
SPACES = {
    "one-dimensional": default_spaces()["one-dimensional"],
    "logarithmic": default_spaces()["logarithmic"],
    "conditional": Space({"n": Integer(1, 3), "w": Real(shape=(2,), when={"n": [2, 3]})}),
}


def build(d=3, **options):
    return XNES(Space({"w": Real(shape=(d,))}), COST, **({"synchronous": True} | options))


def tell(optimizer, candidates, cost):
    optimizer.tell(Evaluations(candidates.ids, candidates.x, np.asarray(cost, dtype=float)[:, None]))


@pytest.mark.parametrize("n", [2, 8])
def test_two_updates_are_those_of_the_paper(n):
    # With fewer results than dimensions (2 < 3), and with more.
    d, rate_mu, rate = 3, 0.8, 0.6
    optimizer = build(
        d, pop_size=n, mirrored_sampling=False, learning_rate_mu=rate_mu, learning_rate_sigma=rate, sigma=0.5
    )
    raw = [max(0.0, np.log(n / 2 + 1) - np.log(k)) for k in range(1, n + 1)]
    utility = np.array(raw) / sum(raw) - 1 / n
    mean, sigma, shape = np.zeros(d), 0.5, np.eye(d)
    for _ in range(2):
        candidates = optimizer.ask(n)
        cost = ((candidates.x - [1.0, 2.0, 3.0]) ** 2) @ [1.0, 10.0, 100.0]
        order = np.argsort(cost)
        s = [np.linalg.solve(sigma * shape, candidates.x[i] - mean) for i in order]
        g_delta = sum(u * e for u, e in zip(utility, s, strict=True))
        g_m = sum(u * (np.outer(e, e) - np.eye(d)) for u, e in zip(utility, s, strict=True))
        g_sigma = np.trace(g_m) / d
        g_b = g_m - g_sigma * np.eye(d)
        mean = mean + rate_mu * sigma * shape @ g_delta
        sigma, shape = sigma * np.exp(rate / 2 * g_sigma), shape @ expm(rate / 2 * g_b)
        tell(optimizer, candidates, cost)
        assert optimizer.mean == pytest.approx(mean)
        assert optimizer.sigma == pytest.approx(sigma)
        assert optimizer.shape == pytest.approx(shape)
        assert np.linalg.det(optimizer.shape) == pytest.approx(1)


def test_the_default_rate_is_that_of_the_paper():
    assert build(4).learning_rate_sigma == pytest.approx((9 + 3 * np.log(4)) / (5 * 4 * 2))


def test_results_of_an_older_generation_are_followed_more_slowly():
    # Delay 1: at most 2 / (1 + 1), where the rate was to be 5.
    slow, fast = (
        build(1, pop_size=2, learning_rate_sigma=rate, learning_rate_mu=0.0, synchronous=False, mirrored_sampling=False)
        for rate in (1.0, 5.0)
    )
    ratio = []
    for optimizer in (slow, fast):
        candidates = optimizer.ask(4)
        first, late = (type(candidates)(candidates.x[k], {}, candidates.ids[k]) for k in (slice(0, 2), slice(2, 4)))
        tell(optimizer, first, [1.0, 2.0])
        before = optimizer.sigma
        tell(optimizer, late, [1.0, 2.0])
        ratio.append(optimizer.sigma / before)
    assert ratio[0] == pytest.approx(ratio[1])


def test_it_starts_with_the_standard_deviations_of_the_space():
    optimizer = XNES(Space({"x": Real(0, 1), "w": Real()}), COST)
    assert np.linalg.norm(optimizer.sigma * optimizer.shape, axis=1) == pytest.approx([np.sqrt(1 / 12), 1.0])
    assert np.linalg.det(optimizer.shape) == pytest.approx(1)


def test_it_learns_which_dimensions_depend_on_each_other():
    # On a quadratic form the covariance becomes proportional to the inverse of its matrix [[1, .9], [.9, 1]], whose
    # correlation is -0.9.
    optimizer = build(2)
    for _ in range(60):
        candidates = optimizer.ask(6)
        tell(optimizer, candidates, np.einsum("ki,ij,kj->k", candidates.x - 1, [[1, 0.9], [0.9, 1]], candidates.x - 1))
    covariance = optimizer.shape @ optimizer.shape.T
    assert covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]) < -0.6


def test_it_goes_on_when_it_has_converged():
    optimizer = XNES(Space({"x": Real(0, 1), "n": Integer(0, 9)}), COST, synchronous=True)
    for _ in range(400):
        candidates = optimizer.ask(6)
        tell(optimizer, candidates, ((candidates.x - 0.3) ** 2).sum(axis=1))
    sd = np.linalg.norm(optimizer.sigma * optimizer.shape, axis=1)
    assert (sd >= [0.99e-10, 0.0249]).all()
    assert np.isfinite(optimizer.shape).all()
    assert optimizer.sigma > 1e-12


@pytest.mark.parametrize("synchronous", [True, False])
def test_it_finds_what_random_search_finds_with_probability_below_a_millionth(synchronous):
    # The best of N uniform vectors is within r of an inner point of the cube with probability at most N V_d r^d; d = 4
    # (V = pi^2 / 2), N = 1800 and 1e-6 make r^4 = 1e-6 / (900 pi^2). Asynchronous, 24 are in flight: three generations.
    optimizer = XNES(Space({"x": Real(0, 1, shape=(4,))}), COST, synchronous=synchronous)
    best = np.inf
    waiting = []
    for _ in range(225):
        waiting.append(optimizer.ask(8))
        if synchronous or len(waiting) == 3:
            candidates = waiting.pop(0)
            cost = ((candidates.x - 0.3) ** 2).sum(axis=1)
            best = min(best, cost.min())
            tell(optimizer, candidates, cost)
    assert best < np.sqrt(1e-6 / (900 * np.pi**2))


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
    check_optimizer(partial(XNES, **given), spaces=SPACES, evaluations=40)


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
