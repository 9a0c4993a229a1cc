"""ParallelTempering: exchanges by their formula, and Boltzmann's distribution at every temperature."""

import math
from functools import partial

import numpy as np
import pytest

from l2l_dask import Categorical, Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers.parallel_tempering import ParallelTempering

COST = Objectives(minimize("cost"))
SPACES = {name: default_spaces()[name] for name in ("two-point", "conditional", "unbounded")}
COSTS = np.array([0.0, 3.0, 2.5, 0.5])  # two valleys and a barrier
FOUR = Space({"c": Categorical(list("abcd"))})


def tell(optimizer, candidates, costs):
    optimizer.tell(Evaluations(candidates.ids, candidates.x, np.array(costs, dtype=float).reshape(-1, 1)))


def cost(x):
    return COSTS[int(x[0] * 4)]


def boltzmann(temperature):
    weights = np.exp(-COSTS / temperature)
    return weights / weights.sum()


def kernel(temperature):
    """Metropolis on four states, from each of which any other is proposed with probability 1/3."""
    p = np.minimum(1, np.exp(-(COSTS - COSTS[:, None]) / temperature)) / 3
    np.fill_diagonal(p, 0)
    return p + np.diag(1 - p.sum(axis=1))


def exchange(cold, hot):
    """Transition matrix on pairs (state of the cold chain, of the hot one) of an exchange."""
    swap = np.zeros((4, 4, 4, 4))
    for i in range(4):
        for j in range(4):
            p = min(1, math.exp((1 / cold - 1 / hot) * (COSTS[i] - COSTS[j])))
            swap[i, j, j, i] += p
            swap[i, j, i, j] += 1 - p
    return swap.reshape(16, 16)


def states(optimizer):
    """Return each level's state, cold to hot."""
    return [int(chain.x[0] * 4) for chain in sorted(optimizer.chains, key=lambda chain: chain.level)]


def test_two_levels_visit_pairs_of_states_as_boltzmann_says_with_a_barrier():
    # Two sweeps are one step of a chain on 16 pairs, of which the transition matrix is known: both step, they exchange,
    # both step, nothing. The share of each pair in n of these is then known to n var = pi_i (2 z_ii - 1 - pi_i),
    # Z = (I - P + 1 pi)^-1; 4.5 standard errors for all 16 hold with probability 1 - 16 * 7e-6.
    cold, hot, n = 0.5, 2.0, 2000
    optimizer = ParallelTempering(FOUR, COST, n_parallel_runs=2, temperature_bounds=(cold, hot), synchronous=True)
    tell(optimizer, c := optimizer.ask(2), [cost(x) for x in c.x])
    visited = np.zeros(16)
    for sweep in range(2 * n):
        tell(optimizer, c := optimizer.ask(2), [cost(x) for x in c.x])
        if sweep % 2:
            i, j = states(optimizer)
            visited[4 * i + j] += 1
    both = np.kron(kernel(cold), kernel(hot))
    p, pi = both @ exchange(cold, hot) @ both, np.kron(boltzmann(cold), boltzmann(hot))
    assert np.allclose(pi @ p, pi)
    z = np.linalg.inv(np.eye(16) - p + pi)
    assert (np.abs(visited / n - pi) < 4.5 * np.sqrt(pi * (2 * np.diag(z) - 1 - pi) / n)).all()


@pytest.mark.parametrize("in_flight", [1, 3, 8])
def test_every_level_visits_states_as_boltzmann_says_whatever_is_in_flight(in_flight):
    # Twenty independent searches: the mean of their shares is within t standard errors of what is expected, where t is
    # Student's at 1e-5 with 19 degrees of freedom, 5.1 (12 shares: 1 - 12 * 2e-5 ).
    shares = np.zeros((20, 3, 4))
    for seed in range(20):
        optimizer = ParallelTempering(FOUR, COST, seed=seed, n_parallel_runs=3, temperature_bounds=(1.0, 4.0))
        tell(optimizer, c := optimizer.ask(3), [cost(x) for x in c.x])
        rng, flying, judged = np.random.default_rng(seed), [], []
        optimizer._judged = lambda chain, o=optimizer, j=judged: (type(o)._judged(o, chain), j.append(states(o)))
        while optimizer.n_asked < 400:
            flying += [optimizer.ask(1) for _ in range(in_flight - len(flying))]
            c = flying.pop(rng.integers(len(flying)))
            tell(optimizer, c, [cost(c.x[0])])
        for level in range(3):
            shares[seed, level] = np.bincount(np.array(judged)[30:, level], minlength=4) / len(judged[30:])
    for level, temperature in enumerate([1.0, 2.0, 4.0]):
        mean, error = shares[:, level].mean(axis=0), shares[:, level].std(axis=0, ddof=1) / math.sqrt(20)
        assert (np.abs(mean - boltzmann(temperature)) < 5.1 * error).all()


def test_neighbours_exchange_as_often_as_the_formula_says():
    optimizer = ParallelTempering(FOUR, COST, n_parallel_runs=2, temperature_bounds=(1.0, 2.0))
    tell(optimizer, optimizer.ask(2), [0.0, 1.0])
    n, exchanged = 4000, 0
    for _ in range(n):  # the cold one is better: (1/1 - 1/2) (0 - 1) = -1/2
        optimizer.chains[0].level, optimizer.chains[1].level = 0, 1
        optimizer._exchange(0)
        exchanged += optimizer.chains[0].level == 1
    p = math.exp(-0.5)
    assert abs(exchanged / n - p) < 4.5 * math.sqrt(p * (1 - p) / n)
    optimizer.chains[0].level, optimizer.chains[1].level = 1, 0
    optimizer._exchange(0)  # the cold one is worse
    assert optimizer.chains[0].level == 0


def test_neighbours_alternate_between_above_and_below():
    tried = []
    optimizer = ParallelTempering(Space({"x": Real(0, 1)}), COST, n_parallel_runs=4, temperature_bounds=(1.0, 1.0))
    tell(optimizer, optimizer.ask(4), [0.0] * 4)
    optimizer._exchange = tried.append
    for _ in range(2):
        tell(optimizer, c := optimizer.ask(4), [0.0] * 4)
        assert sorted(c.info["chain"].tolist()) == [0, 1, 2, 3]
    # Level 0 with 1 and with nobody; 1 with 0, 2; 2 with 3, 1; 3 with 2 and with nobody: named by the lower level.
    assert tried == [0, 0, 2, 2, 1, 1]
    optimizer = ParallelTempering(
        Space({"x": Real(0, 1)}), COST, n_parallel_runs=5, temperature_bounds=(1.0, 1.0), synchronous=True
    )
    tell(optimizer, optimizer.ask(5), [0.0] * 5)
    tried.clear()
    optimizer._exchange = tried.append
    for _ in range(2):
        tell(optimizer, optimizer.ask(5), [0.0] * 5)
    assert tried == [0, 2, 1, 3]


def test_the_ladder_is_geometric_between_its_bounds_or_from_the_spread_of_random_costs():
    optimizer = ParallelTempering(FOUR, COST, n_parallel_runs=3, temperature_bounds=(0.25, 4.0))
    assert optimizer.ladder == pytest.approx([0.25, 1.0, 4.0])
    optimizer = ParallelTempering(FOUR, COST, n_parallel_runs=3)
    tell(optimizer, optimizer.ask(20), np.arange(20.0))
    spread = 9.5 / 1.349  # quartiles 4.75 and 14.25, in standard deviations of a normal distribution
    assert optimizer.ladder == pytest.approx([1e-4 * spread, 1e-2 * spread, spread])


def test_what_is_in_flight_is_judged_at_the_temperature_that_its_chain_has_by_then():
    optimizer = ParallelTempering(Space({"n": Integer(0, 9)}), COST, n_parallel_runs=2, temperature_bounds=(1e-9, 1e9))
    tell(optimizer, optimizer.ask(2), [0.0, 0.0])
    asked = optimizer.ask(2)
    assert asked.info["temperature"] == pytest.approx([1e-9, 1e9])
    optimizer.chains[0].level, optimizer.chains[1].level = 1, 0
    optimizer._judged = lambda chain: None
    tell(optimizer, asked, [1.0, 1.0])
    assert [chain.cost for chain in optimizer.chains] == [1.0, 0.0]


def test_it_crosses_a_barrier_that_a_cold_chain_does_not():
    # From the wrong valley of 20 the way up is 10; a chain at T = 0.1 takes it once in e^100 steps.
    costs = np.concatenate([np.arange(0.0, 10), np.arange(10.0, 1, -1)]) + 0.0
    costs[-1] = 1.0
    space = Space({"n": Integer(0, len(costs) - 1)})
    optimizer = ParallelTempering(space, COST, n_parallel_runs=4, noisy_step=0.5, temperature_bounds=(0.1, 10.0))
    start = space.encode({"n": len(costs) - 1})
    optimizer.adopt(range(4), [start] * 4)
    optimizer.tell(Evaluations(np.arange(4), np.array([start] * 4), np.ones((4, 1))))
    for _ in range(2000):
        c = optimizer.ask(1)
        tell(optimizer, c, [costs[int(c.x[0, 0] * len(costs))]])
    assert min(optimizer.chains, key=lambda chain: chain.level).cost == 0.0


@pytest.mark.parametrize(
    "given",
    [
        {"n_parallel_runs": 2, "temperature_bounds": (0.01, 1.0), "cooling_schedule": "default"},
        {"n_parallel_runs": 5, "synchronous": True, "n_iteration": 6},
    ],
    ids=str,
)
def test_it_keeps_the_contract_with_other_options(given):
    check_optimizer(partial(ParallelTempering, **given), spaces=SPACES, evaluations=40)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("n_parallel_runs", 1),
        ("noisy_step", -1),
        ("n_iteration", 0),
        ("temperature_bounds", (2.0, 1.0)),
        ("temperature_bounds", (0.0, 1.0)),
        ("temperature_bounds", 3),
        ("cooling_schedule", "slow"),
        ("temp_decay", -1),
        ("evaluations", 0),
    ],
)
def test_a_bad_option_is_refused_in_one_line_that_names_it(option, value):
    given = {"cooling_schedule": "default"} | {option: value}
    with pytest.raises(OptimizerError, match=rf"^{option}\b.* must be .*$"):
        ParallelTempering(FOUR, COST, **given)
