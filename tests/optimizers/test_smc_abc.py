"""SMCABC: weights, thresholds and kernels by hand, and the posterior of a Gaussian by its closed form."""

import heapq
import math
from functools import partial

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from l2l_dask import Categorical, Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers.smc_abc import SMCABC

DISTANCE = Objectives(minimize("distance"))
LINE = Space({"theta": Real()})
SPACES = {name: default_spaces()[name] for name in ("two-point", "conditional", "unbounded")}


def tell(optimizer, candidates, costs):
    optimizer.tell(Evaluations(candidates.ids, candidates.x, np.array(costs, dtype=float).reshape(-1, 1)))


def sample(optimizer, distance, populations, in_flight, duration=lambda x, rng: rng.lognormal()):
    """Run on a virtual clock until so many populations are complete."""
    rng, flying, now = np.random.default_rng(0), [], 0.0
    while optimizer.iteration < populations:
        while len(flying) < in_flight:
            c = optimizer.ask(1)
            if not len(c):
                break
            heapq.heappush(flying, (now + duration(c.x[0], rng), c.ids[0], c, distance(c.x[0], rng)))
        now, _, c, value = heapq.heappop(flying)
        tell(optimizer, c, [value])
    return optimizer.population


SIGMA, MEASURED = 0.5, 1.0


def distance(x, rng):
    """|simulated - measured|, simulated ~ N(theta, SIGMA^2); one simulation in ten fails."""
    simulated = x[0] + SIGMA * rng.standard_normal()
    return abs(simulated - MEASURED) if rng.random() < 0.9 else math.nan


def accepted_posterior(epsilon, power):
    """The moment of the posterior, prior N(0, 1), given that the distance is at most epsilon: by quadrature."""
    theta = np.linspace(-6, 6, 20001)
    likely = norm.cdf((MEASURED + epsilon - theta) / SIGMA) - norm.cdf((MEASURED - epsilon - theta) / SIGMA)
    density = norm.pdf(theta) * likely
    return (theta**power * density).sum() / density.sum()


@pytest.mark.parametrize(
    ("given", "in_flight", "duration"),
    [
        ({"synchronous": True}, 16, lambda x, rng: rng.lognormal()),
        ({}, 1, lambda x, rng: 1.0),
        ({}, 16, lambda x, rng: rng.lognormal()),
        ({}, 300, lambda x, rng: rng.lognormal()),  # most were drawn from an older population
        ({}, 16, lambda x, rng: 1.0 + 5.0 * (x[0] > 0.8)),  # slow because of its parameter
    ],
)
def test_the_posterior_of_a_gaussian_is_that_of_its_closed_form(given, in_flight, duration):
    # Self-normalised importance sampling has the variance sum w^2 (f - mean)^2 to first order: both moments within 4.5
    # of its roots. As epsilon goes to 0 they go to those of N(0.8, 0.2): 1 / (1 + SIGMA^2) and SIGMA^2 / (1 + SIGMA^2).
    optimizer = SMCABC(LINE, DISTANCE, seed=3, pop_size=300, **given)
    x, weights, costs, epsilon = sample(optimizer, distance, 5, in_flight, duration)
    assert len(x) >= 300
    assert costs.max() <= epsilon < 0.4
    assert weights.sum() == pytest.approx(1)
    for power in (1, 2):
        f = x[:, 0] ** power
        mean = weights @ f
        error = math.sqrt(weights**2 @ (f - mean) ** 2)
        assert abs(mean - accepted_posterior(epsilon, power)) < 4.5 * error
        assert error < 0.07
    assert accepted_posterior(1e-3, 1) == pytest.approx(0.8, abs=1e-4)


def test_thresholds_and_weights_are_as_computed_by_hand():
    optimizer = SMCABC(LINE, DISTANCE, pop_size=4, alpha=0.5, synchronous=True)
    first = optimizer.ask(9)
    assert len(first) == 4
    assert first.info["epsilon"].tolist() == [math.inf] * 4
    tell(optimizer, first, [3.0, 1.0, 2.0, 4.0])
    assert optimizer.population.epsilon == 4.0
    assert optimizer.population.weights.tolist() == [0.25] * 4
    second = optimizer.ask(4)
    assert second.info["epsilon"].tolist() == [2.0] * 4  # half of the weight is on 1 and 2
    tell(optimizer, second, [2.0, 2.1, np.nan, 1.5])
    third = optimizer.ask(9)
    assert len(third) == 2  # two are accepted
    tell(optimizer, third, [0.5, 0.2])
    x, weights, costs, epsilon = optimizer.population
    assert epsilon == 2.0
    assert costs.tolist() == [2.0, 1.5, 0.5, 0.2]
    # The kernel: normal, of twice the variance of the four of equal weight (more than twice the dimension).
    sd = math.sqrt(2 * first.x[:, 0].var())
    density = norm.pdf(x[:, :1], first.x[:, 0], sd).mean(axis=1)
    expected = norm.pdf(x[:, 0]) / density
    assert weights == pytest.approx(expected / expected.sum(), rel=1e-6)


def test_the_kernel_has_twice_the_weighted_covariance():
    space = Space({"w": Real(shape=(2,))})
    optimizer = SMCABC(space, DISTANCE, pop_size=40)
    first = optimizer.ask(40)
    tell(optimizer, first, np.arange(40.0))
    asked = optimizer.ask(1)
    tell(optimizer, asked, [0.5])
    covariance = 2 * np.cov(first.x.T, bias=True)
    density = np.mean([multivariate_normal(x, covariance).pdf(asked.x[0]) for x in first.x])
    expected = math.log(multivariate_normal(np.zeros(2), np.eye(2)).pdf(asked.x[0]) / density)
    assert optimizer._accepted[-1].log_weight == pytest.approx(expected, rel=1e-6)


def test_with_few_particles_for_the_dimension_the_kernel_has_twice_the_variances():
    space = Space({"w": Real(shape=(3,))})
    optimizer = SMCABC(space, DISTANCE, pop_size=5)
    first = optimizer.ask(5)
    tell(optimizer, first, np.arange(5.0))
    asked = optimizer.ask(1)
    tell(optimizer, asked, [0.5])
    density = np.mean([norm.pdf(asked.x[0], x, np.sqrt(2 * first.x.var(axis=0))).prod() for x in first.x])
    expected = math.log(norm.pdf(asked.x[0]).prod() / density)
    assert optimizer._accepted[-1].log_weight == pytest.approx(expected, rel=1e-6)


def test_a_late_particle_enters_the_next_population_with_the_weight_of_where_it_was_drawn():
    optimizer = SMCABC(LINE, DISTANCE, pop_size=4)
    asked = optimizer.ask(6)
    optimizer.tell(Evaluations(asked.ids[:4], asked.x[:4], np.array([[3.0], [1.0], [2.0], [4.0]])))
    assert optimizer.iteration == 1
    optimizer.tell(Evaluations(asked.ids[4:], asked.x[4:], np.array([[1.9], [2.1]])))
    assert [p.id for p in optimizer._accepted] == [1, 2, 4]  # 1 and 2 stayed, 4 is close enough
    assert optimizer._accepted[-1].log_weight == 0.0  # from the prior
    assert len(optimizer.ask(50)) == 50


def test_bounded_and_discrete_parameters_have_a_uniform_prior():
    space = Space({"a": Real(1.0, 100.0, log=True), "n": Integer(0, 4), "c": Categorical(["x", "y", "z"])})
    optimizer = SMCABC(space, DISTANCE, seed=1)
    values = space.natural(optimizer.ask(2000).x)
    # Shares of 2000 draws: within 4.5 standard errors.
    for counted, share in (
        (np.log10(values[:, 0]) < 0.5, 1 / 4),
        (values[:, 1] == 4, 1 / 5),
        (values[:, 2] == 1, 1 / 3),
    ):
        assert abs(counted.mean() - share) < 4.5 * math.sqrt(share * (1 - share) / 2000)


def test_the_posterior_of_a_discrete_parameter_is_that_of_bayes():
    # n of 0 .. 4 hits with probability (n + 1)/6: the posterior of a hit (distance 0) is (n + 1)/15.
    def miss(x, rng):
        return float(rng.random() > (int(x[0] * 5) + 1) / 6)

    optimizer = SMCABC(Space({"n": Integer(0, 4)}), DISTANCE, pop_size=400)
    x, weights, _, epsilon = sample(optimizer, miss, 4, 8)
    assert epsilon == 0.0
    for n in range(5):
        hit = (x[:, 0] * 5).astype(int) == n
        share, expected = weights[hit].sum(), (n + 1) / 15
        assert abs(share - expected) < 4.5 * math.sqrt(weights**2 @ (hit - expected) ** 2)


def test_it_is_done_after_its_populations_or_at_its_threshold():
    optimizer = SMCABC(LINE, DISTANCE, pop_size=50, n_iteration=3)
    sample(optimizer, distance, 3, 4)
    assert optimizer.done
    optimizer = SMCABC(LINE, DISTANCE, pop_size=50, stop_criterion=0.5)
    while not optimizer.done:
        assert optimizer.population.epsilon > 0.5
        sample(optimizer, distance, optimizer.iteration + 1, 4)
    assert optimizer.population.epsilon <= 0.5


@pytest.mark.parametrize(
    "given", [{"pop_size": 10}, {"pop_size": 6, "synchronous": True, "alpha": 0.9, "n_iteration": 5}], ids=str
)
def test_it_keeps_the_contract_with_other_options(given):
    check_optimizer(partial(SMCABC, **given), spaces=SPACES, evaluations=40)


@pytest.mark.parametrize(
    ("option", "value"),
    [("pop_size", 3), ("alpha", 1.0), ("n_iteration", 0), ("stop_criterion", "near")],
)
def test_a_bad_option_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option}\b.*must be.*$"):
        SMCABC(LINE, DISTANCE, **{option: value})
