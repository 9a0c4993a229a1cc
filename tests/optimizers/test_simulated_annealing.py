"""SimulatedAnnealing: schedules by their formulas, the Metropolis rule, and Boltzmann's distribution."""

import heapq
import math
from functools import partial

import numpy as np
import pytest
from scipy.special import ndtr

from l2l_dask import Categorical, Evaluations, Integer, Objectives, Real, Space, maximize, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers._chains import Walk, accepts
from optimizers._schedules import SCHEDULES, Schedule
from optimizers.simulated_annealing import SimulatedAnnealing

COST = Objectives(minimize("cost"))
SPACES = {name: default_spaces()[name] for name in ("two-point", "conditional", "unbounded", "logarithmic")}
STILL = {"cooling_schedule": "constant", "temperature": 1.0}


def tell(optimizer, candidates, costs):
    optimizer.tell(Evaluations(candidates.ids, candidates.x, np.array(costs, dtype=float).reshape(-1, 1)))


def drive(optimizer, cost, n, in_flight=1, duration=lambda cost, rng: rng.random()):
    """Evaluate ``n`` individuals on a virtual clock."""
    rng, flying, now = np.random.default_rng(0), [], 0.0
    while optimizer.n_asked < n or flying:
        while len(flying) < in_flight and optimizer.n_asked < n:
            c = optimizer.ask(1)
            if not len(c):
                break
            value = cost(c.x[0])
            heapq.heappush(flying, (now + duration(value, rng), c.ids[0], c, value))
        now, _, c, value = heapq.heappop(flying)
        tell(optimizer, c, [value])


class Recorded(SimulatedAnnealing):
    """Notes where a chain is after each of its steps."""

    visited: list

    def _judged(self, chain):
        vars(self).setdefault("visited", []).append(chain.x)


def test_the_schedules_follow_their_formulas():
    # T_0 = 1, n = 100, T_n = 0.01, so (T_0 - T_n) / T_n = 99.
    expected = {
        ("constant", None): {0: 1, 50: 1},
        ("default", None): {0: 1, 1: 0.99, 2: 0.9801, 100: 0.99**100},
        ("default", 0.5): {3: 0.125},
        ("exponential", None): {2: 0.7225},
        ("logarithmic", None): {0: 1, 9: 1 / (1 + math.log(10))},
        ("logarithmic", 2.0): {9: 1 / (1 + 2 * math.log(10))},
        ("linear-multiplicative", None): {0: 1, 3: 0.25},
        ("linear-multiplicative", 0.5): {4: 1 / 3},
        ("quadratic-multiplicative", None): {2: 0.2},
        ("quadratic-multiplicative", 3.0): {2: 1 / 13},
        ("linear-additive", None): {0: 1, 25: 0.01 + 0.99 * 0.75, 100: 0.01, 200: 0.01},
        ("quadratic-additive", None): {0: 1, 25: 0.01 + 0.99 * 0.5625, 100: 0.01},
        ("exponential-additive", None): {
            0: 0.01 + 0.99 * 0.99,  # 1 / (1 + e^(-ln 99)) = 99 / 100
            50: 0.505,
            75: 0.01 + 0.99 / (1 + math.sqrt(99)),
            100: 0.01 + 0.99 * 0.01,
        },
        ("trigonometric-additive", None): {0: 1, 50: 0.505, 75: 0.01 + 0.99 * (1 - math.sqrt(0.5)) / 2, 100: 0.01},
    }
    assert {name for name, _ in expected} == set(SCHEDULES)
    for (name, decay), temperatures in expected.items():
        schedule = Schedule(name, decay=decay, end=0.01, n=100)
        for k, temperature in temperatures.items():
            assert schedule(k) == pytest.approx(temperature, rel=1e-12), (name, k)


def test_each_chain_cools_by_its_own_steps_from_the_temperature_given():
    optimizer = SimulatedAnnealing(Space({"x": Real(0, 1)}), COST, n_parallel_runs=2, temperature=3.0, temp_decay=0.5)
    tell(optimizer, optimizer.ask(2), [0.0, 0.0])
    candidates = optimizer.ask(2)
    assert candidates.info["chain"].tolist() == [0, 1]
    assert candidates.info["temperature"].tolist() == [3.0, 3.0]
    optimizer.tell(Evaluations(candidates.ids[1:], candidates.x[1:], np.array([[1.0]])))
    again = optimizer.ask(1)
    assert (again.info["chain"][0], again.info["temperature"][0]) == (1, 1.5)


def test_an_additive_schedule_ends_with_the_iterations_or_the_experiments_budget():
    space = Space({"x": Real(0, 1)})
    given = {"cooling_schedule": "linear-additive", "temperature": 1.0, "temp_end": 0.5, "n_parallel_runs": 2}
    for budget in ({"n_iteration": 10}, {"evaluations": 20}, {"n_iteration": 10, "evaluations": 1000}):
        optimizer = SimulatedAnnealing(space, COST, **given, **budget)
        tell(optimizer, optimizer.ask(2), [0.0, 0.0])
        for k in range(9):
            asked = optimizer.ask(2)
            assert asked.info["temperature"] == pytest.approx(1.0 - 0.05 * k)
            tell(optimizer, asked, [1.0, 1.0])
    with pytest.raises(OptimizerError, match="cooling_schedule must be told n_iteration or evaluations"):
        SimulatedAnnealing(space, COST, cooling_schedule="linear-additive")


def test_the_default_schedule_ends_with_the_budget():
    given = {"temperature": 2.0, "temp_end": 0.01, "n_parallel_runs": 2}
    for budget, last in (({"n_iteration": 10}, 0.02), ({"evaluations": 20}, 0.02), ({}, 2.0 * 0.99**10)):
        optimizer = SimulatedAnnealing(Space({"x": Real(0, 1)}), COST, **given, **budget)
        tell(optimizer, optimizer.ask(2), [0.0, 0.0])
        for _ in range(10):
            tell(optimizer, optimizer.ask(2), [1.0, 1.0])
        assert optimizer.temperature(optimizer.chains[0]) == pytest.approx(last)


@pytest.mark.parametrize("given", [{"cooling_schedule": "exponential"}, {"temp_decay": 0.0}])
def test_a_temperature_of_zero_leaves_steps_that_change_something(given):
    space = Space({"x": Real(0, 1), "n": Integer(0, 9)})
    optimizer = SimulatedAnnealing(space, COST, n_parallel_runs=1, temperature=1.0, **given)
    drive(optimizer, lambda x: float(x.sum()), 5000)  # 0.85 ** 5000 is 0
    (chain,) = optimizer.chains
    assert optimizer.temperature(chain) == 0.0
    asked = optimizer.ask(200).x
    assert len(np.unique(asked[:, 0])) == 200
    assert len(np.unique(asked[:, 1])) > 1


def test_a_rise_is_accepted_as_often_as_metropolis_says():
    rng, n = np.random.default_rng(0), 20_000
    for rise, temperature in ((0.5, 1.0), (2.0, 1.0), (2.0, 4.0)):
        p = math.exp(-rise / temperature)
        share = sum(accepts(rng, rise, temperature) for _ in range(n)) / n
        assert abs(share - p) < 4.5 * math.sqrt(p * (1 - p) / n)
    assert accepts(rng, 0.0, 1.0)
    assert accepts(rng, -1.0, 0.0)
    assert not accepts(rng, 1.0, 0.0)
    assert not accepts(rng, math.nan, 1.0)


def test_a_chain_between_two_points_goes_up_as_often_as_metropolis_says_and_down_always():
    space = Space({"c": Categorical(["low", "high"])})
    optimizer = Recorded(space, COST, n_parallel_runs=1, cooling_schedule="constant", temperature=2.0)
    drive(optimizer, lambda x: 1.5 * (x[0] > 0.5), 6000)
    high = np.array(optimizer.visited)[:, 0] > 0.5
    ups, p = high[1:][~high[:-1]], math.exp(-1.5 / 2.0)
    assert abs(ups.mean() - p) < 4.5 * math.sqrt(p * (1 - p) / len(ups))
    assert not high[1:][high[:-1]].any()


COSTS = np.array([0.0, 1.2, 2.0, 0.4, 1.5, 0.2])


def kernel(costs, temperature, sd):
    """Transition matrix of the Metropolis chain on n bins of [0, 1]: steps of ``sd`` from their centres, reflected."""
    n = len(costs)
    centre, step = (np.arange(n) + 0.5) / n, np.zeros((n, n))
    for image in range(-8, 9):  # bin j is [j/n, (j+1)/n], mirrored at 0 and 1 again and again
        low, high = np.arange(n) / n + 2 * image, (np.arange(n) + 1) / n + 2 * image
        for a, b in ((low, high), (-high, -low)):
            step += ndtr((b - centre[:, None]) / sd) - ndtr((a - centre[:, None]) / sd)
    assert np.allclose(step.sum(axis=1), 1)
    p = step * np.minimum(1, np.exp(-(costs - costs[:, None]) / temperature))
    p[np.diag_indices(n)] += 1 - p.sum(axis=1)
    return p


def boltzmann(costs, temperature):
    weights = np.exp(-costs / temperature)
    return weights / weights.sum()


def standard_errors(p, pi, n):
    """Standard errors of the shares of n steps spent in each state of a stationary chain (Kemeny and Snell, 4.6.4).

    n var = pi_i (2 z_ii - 1 - pi_i), with Z = (I - P + 1 pi)^-1: the effective sample size, without an estimate.
    """
    z = np.linalg.inv(np.eye(len(pi)) - p + pi)
    return np.sqrt(pi * (2 * np.diag(z) - 1 - pi) / n)


@pytest.mark.parametrize(
    ("chains", "in_flight", "duration"),
    [
        (1, 1, lambda cost, rng: 1.0),
        (3, 3, lambda cost, rng: rng.random()),
        (1, 6, lambda cost, rng: rng.random()),
        (2, 9, lambda cost, rng: rng.lognormal()),
        (1, 6, lambda cost, rng: 1.0 + 4.0 * cost),  # the worse the slower
        (1, 6, lambda cost, rng: 10.0 - 4.0 * cost),  # the better the slower
    ],
)
def test_a_chain_visits_states_as_boltzmann_says_whatever_is_in_flight(chains, in_flight, duration):
    # The share of each of six states is within 4.5 standard errors, exact ones, of its probability: all six with
    # probability 1 - 6 * 7e-6. A start elsewhere adds at most the mixing time over n, a few thousandths of that.
    space = Space({"n": Integer(0, 5)})
    optimizer = Recorded(space, COST, n_parallel_runs=chains, noisy_step=0.17, **STILL)
    drive(optimizer, lambda x: COSTS[int(x[0] * 6)], 8000, in_flight, duration)
    visited = (np.array(optimizer.visited)[:, 0] * 6).astype(int)
    pi = boltzmann(COSTS, 1.0)
    share = np.bincount(visited, minlength=6) / len(visited)
    p = kernel(COSTS, 1.0, 0.17)
    assert np.allclose(pi @ p, pi)
    assert len(visited) > 1200
    assert (np.abs(share - pi) < 4.5 * standard_errors(p, pi, len(visited))).all()


def test_without_cost_every_value_is_visited_evenly_in_a_mixed_space():
    # A walk that is symmetric visits all values alike. Its steps are a third of the range, and a categorical takes each
    # other value every sixth: the correlation falls to 1/e within ten steps, so 6000 steps hold 300 independent ones.
    space = Space({"a": Real(0, 1), "n": Integer(0, 4), "m": Integer(1, 8, log=True), "c": Categorical(list("abcd"))})
    walk, rng = Walk(space), np.random.default_rng(1)
    x, visited = walk.snapped(space.sample(rng, 1)[0]), []
    for _ in range(6000):
        x = walk.step(rng, x, 0.3)
        visited.append(x)
    visited = space.natural(space.snap(visited))
    bins = np.log(np.arange(0.5, 9)) - math.log(0.5)  # a logarithmic integer by the width of its values' logarithms
    expected = [np.full(5, 0.2), np.full(5, 0.2), np.diff(bins) / bins[-1], np.full(4, 0.25)]
    counted = [(visited[:, 0] * 5).astype(int), visited[:, 1], visited[:, 2] - 1, visited[:, 3]]
    for share, values in zip(expected, counted, strict=True):
        seen = np.bincount(values.astype(int), minlength=len(share)) / len(visited)
        assert (np.abs(seen - share) < 4.5 * np.sqrt(share * (1 - share) / 300)).all()


def test_with_more_in_flight_than_chains_what_was_drawn_from_a_state_left_is_not_judged():
    optimizer = SimulatedAnnealing(Space({"x": Real(0, 1)}), COST, n_parallel_runs=1, **STILL)
    tell(optimizer, optimizer.ask(1), [5.0])
    first = optimizer.ask(3)
    assert first.info["parents"].tolist() == [0, 0, 0]
    optimizer.tell(Evaluations(first.ids[2:], first.x[2:], np.array([[1.0]])))
    assert optimizer.chains[0].id == 0  # the third is judged third
    optimizer.tell(Evaluations(first.ids[:1], first.x[:1], np.array([[4.0]])))
    assert optimizer.chains[0].id == 1  # better, so accepted; the two others were drawn from where it was
    optimizer.tell(Evaluations(first.ids[1:2], first.x[1:2], np.array([[-1.0]])))
    assert optimizer.chains[0].id == 1
    assert optimizer.chains[0].results == 3
    assert optimizer.ask(1).info["parents"].tolist() == [1]


def test_one_that_does_not_come_back_is_given_up_after_a_hundred_others():
    optimizer = SimulatedAnnealing(Space({"x": Real(0, 1)}), COST, n_parallel_runs=1, **STILL)
    tell(optimizer, optimizer.ask(1), [5.0])
    lost = optimizer.ask(1)
    for _ in range(100):
        tell(optimizer, optimizer.ask(1), [4.0])
    assert optimizer.chains[0].id == 0
    tell(optimizer, optimizer.ask(1), [4.0])
    assert optimizer.chains[0].id == 2
    tell(optimizer, lost, [0.0])
    assert optimizer.chains[0].cost == 4.0


def test_a_failed_evaluation_is_rejected():
    optimizer = SimulatedAnnealing(Space({"x": Real(0, 1)}), COST, n_parallel_runs=1, temperature=1e9)
    tell(optimizer, optimizer.ask(1), [np.nan])
    tell(optimizer, optimizer.ask(1), [5.0])
    for _ in range(20):
        tell(optimizer, optimizer.ask(1), [np.nan])
    assert (optimizer.chains[0].id, optimizer.chains[0].cost) == (1, 5.0)


def test_synchronous_chains_step_together():
    optimizer = SimulatedAnnealing(Space({"x": Real(0, 1)}), COST, n_parallel_runs=3, temperature=1.0, synchronous=True)
    tell(optimizer, optimizer.ask(9), [1.0, 2.0, 3.0])
    second = optimizer.ask(9)
    assert second.info["chain"].tolist() == [0, 1, 2]
    optimizer.tell(Evaluations(second.ids[:2], second.x[:2], np.ones((2, 1))))
    assert len(optimizer.ask(9)) == 0
    optimizer.tell(Evaluations(second.ids[2:], second.x[2:], np.ones((1, 1))))
    assert len(optimizer.ask(9)) == 3


def test_the_first_temperature_is_the_spread_of_random_costs():
    optimizer = SimulatedAnnealing(Space({"x": Real(0, 1)}), COST, n_parallel_runs=2)
    tell(optimizer, optimizer.ask(20), np.arange(20.0))
    # Quartiles of 0 .. 19 are 4.75 and 14.25; a normal distribution's are 1.349 standard deviations apart.
    assert optimizer.temperature(optimizer.chains[0]) == pytest.approx(9.5 / 1.349)
    assert sorted(chain.cost for chain in optimizer.chains) == [0.0, 1.0]


def test_it_is_done_after_its_iterations_or_at_its_goal():
    space = Space({"x": Real(0, 1)})
    optimizer = SimulatedAnnealing(space, COST, n_parallel_runs=2, temperature=1.0, n_iteration=5)
    tell(optimizer, optimizer.ask(2), [1.0, 1.0])
    assert len(optimizer.ask(100)) == 10
    assert optimizer.done
    optimizer = SimulatedAnnealing(space, Objectives(maximize("gain")), stop_criterion=2.0)
    tell(optimizer, optimizer.ask(2), [-1.9, np.nan])
    assert not optimizer.done
    tell(optimizer, optimizer.ask(1), [-2.0])
    assert optimizer.done


def test_an_adopted_guess_takes_the_place_of_the_worst_chain_if_it_is_better():
    optimizer = SimulatedAnnealing(Space({"x": Real(0, 1)}), COST, n_parallel_runs=2, temperature=1.0)
    tell(optimizer, optimizer.ask(2), [3.0, 4.0])
    optimizer.adopt([2, 3], [[0.25], [0.75]])
    optimizer.tell(Evaluations(np.array([2, 3]), np.array([[0.25], [0.75]]), np.array([[5.0], [2.0]])))
    assert [(chain.id, chain.cost) for chain in optimizer.chains] == [(0, 3.0), (3, 2.0)]


@pytest.mark.parametrize("in_flight", [1, 16])
def test_it_finds_what_random_search_finds_with_probability_below_a_hundred_thousandth(in_flight):
    # The best of N = 1500 uniform vectors is within r of an inner point with probability at most N V_5 r^5,
    # V_5 = 8 pi^2 / 15, which is 1e-5 for the radius below.
    radius = (1e-5 / (1500 * 8 * math.pi**2 / 15)) ** (1 / 5)
    optimum, costs = np.array([0.3, 0.7, 0.5, 0.2, 0.6]), []

    def cost(x):
        costs.append(float(((x - optimum) ** 2).sum()))
        return costs[-1]

    optimizer = SimulatedAnnealing(Space({"x": Real(0, 1, shape=(5,))}), COST, seed=1, evaluations=1500)
    drive(optimizer, cost, 1500, in_flight)
    assert min(costs) < radius**2


@pytest.mark.parametrize(
    "given",
    [
        {"n_parallel_runs": 1, "cooling_schedule": "logarithmic", "temperature": 0.1},
        {"n_parallel_runs": 5, "synchronous": True, "temperature": 0.1, "noisy_step": 3.0},
        {"n_parallel_runs": 3, "cooling_schedule": "trigonometric-additive", "n_iteration": 6},
    ],
    ids=str,
)
def test_it_keeps_the_contract_with_other_options(given):
    check_optimizer(partial(SimulatedAnnealing, **given), spaces=SPACES, evaluations=40)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("n_parallel_runs", 0),
        ("noisy_step", 0),
        ("temp_decay", 1.5),
        ("n_iteration", 0),
        ("stop_criterion", "low"),
        ("cooling_schedule", "slow"),
        ("temperature", 0),
        ("temp_end", 0.9),
        ("evaluations", 0),
    ],
)
def test_a_bad_option_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option}\b.* must be .*$"):
        SimulatedAnnealing(Space({"x": Real(0, 1)}), COST, **{option: value})
