"""GradientDescent: the estimated gradient, and the steps of each method, against hand computation."""

from functools import partial

import numpy as np
import pytest

from l2l_dask import Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import optimizer_rng
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers.gradient_descent import GradientDescent, slope

LINE = Space({"x": Real(0, 1)})
COST = Objectives(minimize("cost"))
SPACES = {
    "one-dimensional": default_spaces()["one-dimensional"],
    "logarithmic": default_spaces()["logarithmic"],
    "conditional": Space({"n": Integer(1, 3), "w": Real(shape=(2,), when={"n": [2, 3]})}),
}
METHODS = ["classic", "stochastic", "adam", "adamax", "rmsprop"]


def build(space=LINE, **options):
    return GradientDescent(space, COST, **({"synchronous": True} | options))


def tell(optimizer, candidates, cost):
    optimizer.tell(Evaluations(candidates.ids, candidates.x, np.asarray(cost, dtype=float)[:, None]))


def test_the_gradient_of_a_linear_function_is_exact_wherever_the_evaluations_are():
    rng = np.random.default_rng(0)
    true = np.array([3.0, -2.0, 0.5])
    x = rng.random((9, 3)) * np.array([[1.0]] * 5 + [[100.0]] * 4)
    assert slope(x, 7.0 + x @ true, np.full(3, 0.5), np.full(3, 0.1)) == pytest.approx(true)


def test_with_fewer_evaluations_than_unknowns_it_is_the_pseudo_inverse_of_the_original():
    rng = np.random.default_rng(0)
    centre = np.full(6, 0.5)
    dx, true = 0.1 * rng.standard_normal((3, 6)), rng.standard_normal(6)
    x = np.concatenate([[centre], centre + dx])
    assert slope(x, 7.0 + x @ true, centre, np.full(6, 0.1)) == pytest.approx(np.linalg.pinv(dx) @ (dx @ true))


def test_far_evaluations_count_little():
    # |x| has the slope 1 at 0.5, and -1 far away on the other side.
    x = np.array([[0.45], [0.5], [0.55], [-3.0], [-3.1], [-3.2]])
    assert slope(x, np.abs(x[:, 0]), np.array([0.5]), np.array([0.05])) == pytest.approx([1.0], abs=0.1)


def test_evaluations_at_one_place_and_a_plateau_give_no_gradient():
    centre, width = np.full(2, 0.5), np.full(2, 0.1)
    assert slope(np.full((4, 2), 0.5), np.array([1.0, 2, 3, 4]), centre, width) == pytest.approx([0, 0])
    assert slope(np.random.default_rng(0).random((4, 2)), np.ones(4), centre, width) == pytest.approx([0, 0])


def test_each_update_evaluates_the_present_point_and_perturbations_of_it():
    optimizer = build(Space({"x": Real(0, 1, shape=(2,))}), n_random_steps=1000, exploration_step_size=0.05)
    candidates = optimizer.ask(2000)
    assert len(candidates) == 1001
    assert candidates.x[0].tolist() == [0.5, 0.5]
    # The relative standard error of a standard deviation of 2000 values is 1 / sqrt(4000).
    assert abs((candidates.x[1:] - 0.5).std() / 0.05 - 1) < 4 / np.sqrt(4000)


def test_a_linear_function_is_descended_by_the_learning_rate_times_its_slope():
    optimizer = build(Space({"x": Real(0, 1, shape=(2,))}), method="classic", learning_rate=0.01)
    candidates = optimizer.ask(100)
    tell(optimizer, candidates, candidates.x @ [3.0, -2.0])
    assert optimizer.current == pytest.approx([0.5 - 0.03, 0.5 + 0.02])
    assert optimizer.ask(1).x[0] == pytest.approx(optimizer.current)


# The gradients 2, then -1. Adam and AdaMax: m is 0.1 * 2, then 0.9 * 0.2 - 0.1 = 0.08, to be divided by 0.1 and 0.19;
# v is 0.001 * 4, then 0.999 * 0.004 + 0.001 = 0.004996, to be divided by 0.001 and 1 - 0.999^2 = 0.001999; u is 2, then
# max(0.999 * 2, 1). RMSProp: r is 0.1 * 4, then 0.9 * 0.4 + 0.1.
BY_HAND = {
    "classic": (2.0, -1.0),
    "adam": (1.0, 0.08 / 0.19 / np.sqrt(0.004996 / 0.001999)),
    "adamax": (1.0, 0.08 / 0.19 / 1.998),
    "rmsprop": (2 / np.sqrt(0.4 + 1e-6), -1 / np.sqrt(0.46 + 1e-6)),
}


@pytest.mark.parametrize("method", BY_HAND)
def test_two_steps_are_those_computed_by_hand(method):
    optimizer = build(method=method, learning_rate=0.01)
    expected = 0.5
    for gradient, step in zip((2.0, -1.0), BY_HAND[method], strict=True):
        optimizer.step(np.array([gradient]))
        expected -= 0.01 * step
        assert optimizer.current == pytest.approx([expected])


def test_stochastic_steps_have_noise_that_decays():
    optimizer = build(method="stochastic", learning_rate=0.01, stochastic_deviation=0.3, stochastic_decay=0.5, seed=4)
    z = optimizer_rng(4).standard_normal(2)
    optimizer.step(np.array([2.0]))
    assert optimizer.current == pytest.approx([0.5 - 0.01 * (2 + 0.3 * 0.5 * z[0])])
    optimizer.step(np.array([-1.0]))
    assert optimizer.current == pytest.approx([0.5 - 0.01 * (2 + 0.15 * z[0] - 1 + 0.075 * z[1])])


@pytest.mark.parametrize("method", METHODS)
def test_the_present_point_stays_within_the_bounds_and_finite(method):
    optimizer = build(Space({"x": Real(0, 1), "w": Real()}), method=method, learning_rate=1e9)
    for gradient in (1e300, -1e300, 0.0, 1e-300):
        optimizer.step(np.full(2, gradient))
        assert 0 <= optimizer.current[0] <= 1
        assert np.isfinite(optimizer.current).all()


def test_it_starts_at_the_first_individual_that_was_given():
    optimizer = build(Space({"x": Real(0, 1, shape=(2,))}), exploration_step_size=0.01)
    optimizer.adopt([0, 1], [[0.1, 0.9], [0.3, 0.3]])
    candidates = optimizer.ask(50)
    assert len(candidates) == 4  # of max(5, 2 * 2) + 1, two places being taken
    assert np.abs(candidates.x - [0.1, 0.9]).max() < 0.06


def test_asynchronous_it_never_waits_and_steps_as_soon_as_enough_have_come():
    optimizer = build(synchronous=False, n_random_steps=3, method="classic", learning_rate=0.01)
    candidates = optimizer.ask(20)
    assert len(candidates) == 20
    tell(optimizer, candidates, 3.0 * candidates.x[:, 0])
    assert optimizer.generation == 5
    assert optimizer.current == pytest.approx([0.5 - 5 * 0.03])


@pytest.mark.parametrize("synchronous", [True, False])
@pytest.mark.parametrize(
    ("method", "rate"), [("classic", 0.2), ("stochastic", 0.2), ("adam", 0.02), ("adamax", 0.02), ("rmsprop", 0.02)]
)
def test_it_finds_what_random_search_finds_with_probability_below_a_millionth(method, rate, synchronous):
    # The best of N uniform vectors is within r of an inner point of the cube with probability at most N V_d r^d; d = 4
    # (V = pi^2 / 2), N = 900 and 1e-6 make r^4 = 1e-6 / (450 pi^2). Asynchronous, 27 are in flight: three generations.
    optimizer = build(
        Space({"x": Real(0, 1, shape=(4,))}),
        method=method,
        learning_rate=rate,
        synchronous=synchronous,
        exploration_step_size=0.003,
        stochastic_decay=0.8,
    )
    best = np.inf
    waiting = []
    for _ in range(100):
        waiting.append(optimizer.ask(9))
        if synchronous or len(waiting) == 3:
            candidates = waiting.pop(0)
            cost = ((candidates.x - 0.3) ** 2).sum(axis=1)
            best = min(best, cost.min())
            tell(optimizer, candidates, cost)
    assert best < np.sqrt(1e-6 / (450 * np.pi**2))


@pytest.mark.parametrize(
    "given",
    [
        {"method": "adamax", "synchronous": True, "n_random_steps": 1},
        {"method": "rmsprop", "n_iteration": 5},
        {"method": "classic", "learning_rate": 1e9},
        {"method": "stochastic", "synchronous": True},
    ],
    ids=str,
)
def test_it_keeps_the_contract_with_other_options(given):
    check_optimizer(partial(GradientDescent, **given), spaces=SPACES, evaluations=40)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("method", "newton"),
        ("learning_rate", -1),
        ("exploration_step_size", 0),
        ("n_random_steps", 0),
        ("first_order_decay", 1),
        ("second_order_decay", 1),
        ("momentum_decay", 1),
        ("stochastic_deviation", -1),
        ("stochastic_decay", 2),
        ("n_iteration", 0),
    ],
)
def test_an_option_out_of_range_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option} must be .*$"):
        build(**{option: value})
