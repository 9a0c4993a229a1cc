"""The tasks are what they are said to be, the gradients are right, and each term of the local rule is its own."""

import math

import numpy as np
import pytest

from optimizees._small_network import TERMS, Descent, Network, Plasticity
from optimizees._tasks import FAMILIES


def test_a_sinusoid_is_that_of_its_amplitude_and_phase():
    numbers = np.array([[2.0, 0.0], [0.5, math.pi / 2]])
    y = FAMILIES["sinusoids"].answers(numbers, np.array([[[math.pi / 2]], [[math.pi]]]))
    np.testing.assert_allclose(y, [[[2.0]], [[0.5]]])


def test_the_hand_is_where_the_turned_cursor_is_on_the_target():
    reaching, angle = FAMILIES["reaching"], 0.7
    tasks = reaching.sampled(np.random.default_rng(1), np.array([[angle]]), 4, 6)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    np.testing.assert_allclose(tasks.query_y[0] @ turn.T, tasks.query_x[0])
    distances = np.linalg.norm(tasks.query_x, axis=-1)
    assert (distances >= 0.5).all()
    assert (distances <= 1).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_tasks_cover_their_range_evenly_and_are_examined_on_other_samples(name):
    family, seen = FAMILIES[name], []
    sampled = family.sampled
    tasks = family.draw(np.random.default_rng(3), 40, 5, 20)
    assert tasks.support_x.shape == (40, 5, family.inputs)
    assert tasks.query_y.shape == (40, 20, family.outputs)
    assert not np.isin(tasks.query_x, tasks.support_x).any()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(family), "sampled", lambda self, rng, numbers, *counts: seen.append(numbers) or sampled)
        family.draw(np.random.default_rng(3), 40, 5, 20)
    for (low, high), numbers in zip(family.ranges, seen[0].T, strict=True):
        assert sorted(((numbers - low) / (high - low) * 40).astype(int)) == list(range(40))


@pytest.fixture
def network():
    return Network((2, 4, 3, 2))


@pytest.fixture
def learning(network):
    rng = np.random.default_rng(5)
    return network.random(rng, 3, [1.0, 1.5, 0.7]), FAMILIES["reaching"].draw(rng, 3, 6, 4)


def test_the_gradients_are_those_of_finite_differences(network, learning):
    weights, tasks = learning
    given = (tasks.support_x, tasks.support_y)
    for layer, gradient in enumerate(network.gradients(weights, *given)):
        for index in np.ndindex(*gradient.shape[1:]):
            changed = []
            for step in (1e-6, -1e-6):
                moved = [w.copy() for w in weights]
                moved[layer][:, *index] += step
                changed.append(network.losses(moved, *given))
            np.testing.assert_allclose(gradient[:, *index], (changed[0] - changed[1]) / 2e-6, rtol=1e-6, atol=1e-8)


def test_each_task_has_a_network_of_its_own(network, learning):
    weights, tasks = learning
    together = network.losses(weights, tasks.query_x, tasks.query_y)
    for i in range(3):
        alone = [w[i : i + 1] for w in weights]
        assert network.losses(alone, tasks.query_x[i : i + 1], tasks.query_y[i : i + 1]) == pytest.approx(together[i])


def test_descent_makes_heavy_ball_steps_with_decay(network, learning):
    weights, tasks = learning
    before = [w.copy() for w in weights]
    states = Descent([0.1, 0.2, 0.3], momentum=0.5, decay=0.01).steps(network, weights, tasks)
    first = [w.copy() for w in next(states)]
    second = next(states)
    gradients = [network.gradients(w, tasks.support_x, tasks.support_y) for w in (before, first)]
    for i, rate in enumerate([0.1, 0.2, 0.3]):
        step = -rate * (gradients[0][i] + 0.01 * before[i])
        np.testing.assert_allclose(first[i], before[i] + step)
        step = 0.5 * step - rate * (gradients[1][i] + 0.01 * first[i])
        np.testing.assert_allclose(second[i], first[i] + step)
        np.testing.assert_array_equal(weights[i], before[i])  # what was given is not touched


def test_a_gradient_longer_than_clip_is_shortened_to_it_and_keeps_its_direction(network, learning):
    weights, tasks = learning
    gradients = network.gradients(weights, tasks.support_x, tasks.support_y)
    lengths = np.sqrt(sum((g**2).sum(axis=(1, 2)) for g in gradients))
    clip = float(np.sort(lengths)[1])
    moved = next(Descent([1.0] * 3, clip=clip).steps(network, weights, tasks))
    factor = np.minimum(1, clip / lengths)
    assert (factor < 1).sum() == 1
    for w, new, g in zip(weights, moved, gradients, strict=True):
        np.testing.assert_allclose(new, w - factor[:, None, None] * g)


def one_presentation(network, weights, tasks, rule, rates, feedback):
    return next(Plasticity(np.array(rule, dtype=float), rates, feedback).steps(network, weights, tasks))


@pytest.mark.parametrize("term", TERMS)
def test_each_term_of_the_rule_is_local_to_its_synapse(network, learning, term):
    weights, tasks = learning
    rule = np.tile([float(t == term) for t in TERMS], (3, 1))
    rates, feedback = [0.1, 0.2, 0.3], network.feedback(np.random.default_rng(6), 3)
    new = one_presentation(network, weights, tasks, rule, rates, feedback)
    for task in range(3):
        alone = [w[task : task + 1] for w in weights]
        layers = [a[0, 0] for a in network.activities(alone, tasks.support_x[task : task + 1, :1])]
        missed = tasks.support_y[task, 0] - layers[-1]
        errors = [missed @ b[task] * (1 - h**2) for b, h in zip(feedback, layers[1:-1], strict=True)] + [missed]
        for layer in range(3):
            for row, column in np.ndindex(*weights[layer].shape[1:]):
                pre, post = 1.0 if row == 0 else layers[layer][row - 1], layers[layer + 1][column]
                w, error = weights[layer][task, row, column], errors[layer][column]
                value = eval(term.replace("weight", "w"), {"pre": pre, "post": post, "error": error, "w": w})
                assert new[layer][task, row, column] - w == pytest.approx(rates[layer] * value, abs=1e-12)


def test_without_hidden_feedback_the_error_term_is_half_the_gradient_of_one_sample(network, learning):
    weights, tasks = learning
    rule = [[0, 0, 0, 0, 1, 0]] * 3
    new = one_presentation(network, weights, tasks, rule, [0.1] * 3, [np.zeros((3, 2, n)) for n in (4, 3)])
    gradient = network.gradients(weights, tasks.support_x[:, :1], tasks.support_y[:, :1])[-1]
    np.testing.assert_allclose(new[-1], weights[-1] - 0.05 * gradient)
    np.testing.assert_array_equal(new[0], weights[0])


def test_one_sample_after_the_other_is_presented_and_then_the_first_again(network, learning):
    weights, tasks = learning
    seen = []
    rule = Plasticity(np.zeros((3, 6)), [0.1] * 3, network.feedback(np.random.default_rng(1), 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Plasticity, "_present", lambda self, network, weights, x, y: seen.append((x, y)))
        states = rule.steps(network, weights, tasks)
        for _ in range(8):
            next(states)
    for i, (x, y) in enumerate(seen):
        np.testing.assert_array_equal(x[:, 0], tasks.support_x[:, i % 6])
        np.testing.assert_array_equal(y[:, 0], tasks.support_y[:, i % 6])
