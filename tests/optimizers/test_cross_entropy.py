"""CrossEntropy: distributions fitted to the best, held against small cases computed by hand."""

import sys
from functools import partial

import numpy as np
import pytest

from l2l_dask import Categorical, Evaluations, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import optimizer_rng
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers._distributions import _Gaussians, kept
from optimizers.cross_entropy import CrossEntropy

LINE = Space({"x": Real(0, 1)})
PLANE = Space({"x": Real(0, 1, shape=(2,))})
COST = Objectives(minimize("cost"))
KINDS = ["gaussian", "noisy-gaussian", "bayesian-gaussian-mixture", "noisy-mixture"]


def tell(optimizer, ids, x, cost):
    optimizer.tell(Evaluations(np.array(ids), np.array(x), np.array(cost, dtype=float)[:, None]))


def learned(x, cost, space=LINE, **options):
    """Return an optimizer that has made one update, of these vectors and costs."""
    optimizer = CrossEntropy(space, COST, **({"pop_size": len(x), "smoothing": 0.0} | options))
    optimizer.adopt(range(len(x)), x)
    tell(optimizer, range(len(x)), x, cost)
    assert optimizer.generation == 1
    return optimizer.distribution


def test_the_mean_and_variance_of_the_elite_are_those_computed_by_hand():
    # int(0.4 * 5) = 2 elite: 0.2 and 0.4.
    found = learned([[0.1], [0.2], [0.4], [0.6], [0.9]], [5, 1, 2, 4, 3], rho=0.4)
    assert found.means == pytest.approx(np.array([[0.3]]))
    assert found.covariances == pytest.approx(np.array([[[0.01]]]))


FIVE = [[0.1, 0.2], [0.9, 0.9], [0.3, 0.4], [0.3, 0.6], [0.5, 0.8]]
FIVE_COST = [1, 9, 2, 3, 4]


def test_the_covariance_of_enough_elite_is_full():
    # Deviations (-.2, 0, 0, .2) and (-.3, -.1, .1, .3): variances .08 / 4 and .2 / 4, covariance .12 / 4.
    found = learned(FIVE, FIVE_COST, PLANE, rho=0.8)
    assert found.means == pytest.approx(np.array([[0.3, 0.5]]))
    assert found.covariances == pytest.approx(np.array([[[0.02, 0.03], [0.03, 0.05]]]))


def test_the_dimensions_are_independent_with_fewer_elite_than_twice_as_many():
    found = learned(FIVE, FIVE_COST, PLANE, rho=0.6)  # 3 elite
    assert found.means == pytest.approx(np.array([[0.7 / 3, 0.4]]))
    assert found.covariances == pytest.approx(np.array([[[0.08 / 9, 0], [0, 0.08 / 3]]]))


def test_smoothing_keeps_that_part_of_the_old_mean_and_variance():
    # Old ones of the uniform distribution: 1/2 and 1/12.
    found = learned([[0.1], [0.2], [0.4], [0.6], [0.9]], [5, 1, 2, 4, 3], rho=0.4, smoothing=0.25)
    assert found.means[0, 0] == pytest.approx(0.25 * 0.5 + 0.75 * 0.3)
    assert found.covariances[0, 0, 0] == pytest.approx(0.25 / 12 + 0.75 * 0.01)


def test_components_of_a_mixture_are_smoothed_with_their_own_old_one():
    old = _Gaussians(np.array([0.6, 0.4]), np.array([[0.1], [0.9]]), np.array([[0.01], [0.04]]))
    new = _Gaussians(np.array([0.2, 0.8]), np.array([[0.7], [0.3]]), np.array([[0.02], [0.03]]))
    found = new.smoothed(old, 0.25)
    assert found.weights == pytest.approx([0.75 * 0.2 + 0.25 * 0.4, 0.75 * 0.8 + 0.25 * 0.6])
    assert found.means[:, 0] == pytest.approx([0.75 * 0.7 + 0.25 * 0.9, 0.75 * 0.3 + 0.25 * 0.1])
    assert found.spreads[:, 0] == pytest.approx([0.75 * 0.02 + 0.25 * 0.04, 0.75 * 0.03 + 0.25 * 0.01])


def test_a_component_without_a_partner_stays_with_its_part_of_the_weight():
    old = _Gaussians(np.array([0.6, 0.4]), np.array([[0.1], [0.9]]), np.array([[0.01], [0.04]]))
    new = _Gaussians(np.ones(1), np.array([[0.3]]), np.array([[0.03]]))
    found = new.smoothed(old, 0.5)
    assert found.weights == pytest.approx([0.5 + 0.3, 0.2])
    assert found.means[:, 0] == pytest.approx([0.2, 0.9])


def test_smoothing_a_mixture_changes_it():
    rng = np.random.default_rng(0)
    x = np.concatenate([0.2 + 0.01 * rng.standard_normal((20, 1)), 0.8 + 0.01 * rng.standard_normal((20, 1))])
    rough, smooth = (
        learned(x, np.zeros(40), distribution="bayesian-gaussian-mixture", smoothing=s) for s in (0.0, 0.5)
    )
    # The two clusters are found, but for the prior, which pulls as one result in 20; the old mean is 1/2.
    assert np.sort(rough.means[:, 0]) == pytest.approx([0.2, 0.8], abs=0.03)
    assert rough.weights @ rough.means[:, 0] == pytest.approx(0.5, abs=0.03)
    assert np.abs(smooth.means - rough.means).max() > 0.1
    assert smooth.weights.sum() == pytest.approx(1)


def test_a_mixture_draws_from_all_of_its_components():
    rng = np.random.default_rng(0)
    x = np.concatenate([0.2 + 0.01 * rng.standard_normal((20, 1)), 0.8 + 0.01 * rng.standard_normal((20, 1))])
    found = learned(x, np.zeros(40), distribution="bayesian-gaussian-mixture")
    drawn = np.array([found.draw(rng)[0] for _ in range(400)])
    # Weights of a half: 200 +- 4 sqrt(100).
    assert abs((drawn < 0.5).sum() - 200) < 40
    assert ((abs(drawn - 0.2) < 0.1) | (abs(drawn - 0.8) < 0.1)).mean() > 0.95


def test_noise_is_added_to_the_variance_and_decays():
    found = learned([[0.2], [0.4]], [1, 1], distribution="noisy-gaussian", noise_magnitude=0.03, noise_decay=0.5)
    assert found.covariances[0, 0, 0] == pytest.approx(0.01)
    rng = np.random.default_rng(0)
    for variance in (0.01 + 0.03, 0.01 + 0.015):
        drawn = np.array([found.draw(rng)[0] for _ in range(4000)])
        # The relative standard error of a variance is sqrt(2 / n).
        assert abs(drawn.var() / variance - 1) < 4 * np.sqrt(2 / 4000)
        found.fit(rng, np.array([[0.2], [0.4]]), 0.0)


def test_frequencies_of_choices_are_those_of_the_elite():
    space = Space({"c": Categorical(["x", "y", "z"])})
    x, y, z = [1 / 6], [1 / 2], [5 / 6]
    found = learned([x, y, y, x, z, z], [1, 2, 3, 4, 5, 6], space, rho=0.5)
    assert found.frequencies == pytest.approx(np.array([[1 / 3, 2 / 3, 0]]))
    smoothed = learned([x, y, y, x, z, z], [1, 2, 3, 4, 5, 6], space, rho=0.5, smoothing=0.5)
    assert smoothed.frequencies == pytest.approx(np.array([[1 / 3, 1 / 2, 1 / 6]]))
    rng = np.random.default_rng(0)
    drawn = np.array([smoothed.draw(rng)[0] for _ in range(3000)])
    for value, p in zip((x, y, z), (1 / 3, 1 / 2, 1 / 6), strict=True):
        # The choices keep together 0.001 of uniform probability, far below these four standard errors.
        assert abs(np.isclose(drawn, value).mean() - p) < 4 * np.sqrt(p * (1 - p) / 3000)


def test_those_that_equal_the_worst_of_the_elite_are_elite():
    rng = np.random.default_rng(0)
    assert kept(rng, np.array([1.0, 2.0, 2.0, 2.0, 3.0]), 2, 0.0).tolist() == [0, 1, 2, 3]


def test_others_are_kept_with_a_probability_by_their_own_distance_from_the_elite():
    # gamma = 1, T = 2: exp(-2 ln 2 / 2) = 1/2, and far away nobody.
    cost = np.concatenate([[0.0, 1.0], np.full(1000, 1 + 2 * np.log(2)), np.full(1000, 1e4)])
    found = kept(np.random.default_rng(0), cost, 2, 2.0)
    assert found[:2].tolist() == [0, 1]
    assert abs(len(found) - 2 - 500) < 4 * np.sqrt(250)
    assert found.max() < 1002


def test_the_temperature_falls_with_each_update_and_is_zero_without_a_decay():
    optimizer = CrossEntropy(LINE, COST, pop_size=2, temp_decay=0.5)
    for temperature in (1.0, 0.5, 0.25):
        assert optimizer.temperature == temperature
        candidates = optimizer.ask(2)
        tell(optimizer, candidates.ids, candidates.x, [1, 2])
    assert CrossEntropy(LINE, COST).temperature == 0


def test_the_first_individuals_come_from_the_space():
    assert np.array_equal(CrossEntropy(PLANE, COST, seed=3).ask(5).x, PLANE.sample(optimizer_rng(3), 5))


def test_it_goes_on_when_all_of_the_elite_are_equal():
    optimizer = CrossEntropy(PLANE, COST, pop_size=5, rho=1.0, smoothing=0.0)
    optimizer.adopt(range(5), np.full((5, 2), 0.3))
    tell(optimizer, range(5), np.full((5, 2), 0.3), np.zeros(5))
    assert optimizer.ask(5).x == pytest.approx(np.full((5, 2), 0.3), abs=1e-8)


def test_on_a_plateau_it_does_not_contract():
    # All are elite: the expected variance falls by 1 - 1/N per update, to 0.98^20 = 0.67 of 1/12, in either dimension.
    optimizer = CrossEntropy(PLANE, COST, pop_size=50, smoothing=0.0)
    for _ in range(20):
        candidates = optimizer.ask(50)
        tell(optimizer, candidates.ids, candidates.x, np.ones(50))
    assert (np.diag(optimizer.distribution.covariances[0]) > 0.2 / 12).all()


@pytest.mark.parametrize("distribution", KINDS)
def test_it_finds_what_random_search_finds_with_probability_below_a_millionth(distribution):
    # The best of N uniform vectors is within r of an inner point of the cube with probability at most N V_d r^d; d = 4
    # (V = pi^2 / 2), N = 2000 and 1e-6 make r^4 = 1e-6 / (1000 pi^2).
    optimizer = CrossEntropy(
        Space({"x": Real(0, 1, shape=(4,))}), COST, distribution=distribution, noise_magnitude=1e-3, noise_decay=0.5
    )
    best = np.inf
    for _ in range(40):
        candidates = optimizer.ask(50)
        cost = ((candidates.x - 0.3) ** 2).sum(axis=1)
        best = min(best, cost.min())
        tell(optimizer, candidates.ids, candidates.x, cost)
    assert best < np.sqrt(1e-6 / (1000 * np.pi**2))


@pytest.mark.parametrize(
    "given",
    [
        {"pop_size": 8, "synchronous": True},
        {"pop_size": 8, "temp_decay": 0.9, "smoothing": 0.0, "rho": 1.0},
        {"pop_size": 8, "distribution": "noisy-gaussian", "n_iteration": 4},
        {"pop_size": 16, "distribution": "noisy-mixture"},
        {"pop_size": 15, "distribution": "bayesian-gaussian-mixture", "n_components": 4, "synchronous": True},
    ],
    ids=str,
)
def test_it_keeps_the_contract_with_other_options(given):
    names = (
        ["conditional"]
        if "mixture" in given.get("distribution", "")
        else ["conditional", "unbounded", "one-dimensional"]
    )
    spaces = {name: default_spaces()[name] for name in names}
    check_optimizer(partial(CrossEntropy, **given), spaces=spaces, evaluations=40)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("pop_size", 1),
        ("rho", 1.5),
        ("smoothing", 1.0),
        ("temp_decay", -1),
        ("distribution", "cauchy"),
        ("stop_criterion", "low"),
        ("n_iteration", 0),
        ("noise_decay", 2),
    ],
)
def test_an_option_out_of_range_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option} must be .*$"):
        CrossEntropy(PLANE, COST, **{option: value})


def test_a_mixture_without_scikit_learn_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(OptimizerError, match=r"needs scikit-learn: pip install 'l2l-dask\[algorithms\]'"):
        CrossEntropy(PLANE, COST, distribution="noisy-mixture")


def test_when_it_is_cold_the_elite_alone_are_kept_without_a_warning():
    assert kept(np.random.default_rng(0), np.array([0.0, 1.0, 1e100]), 1, 1e-300).tolist() == [0]
