"""The distances of traces and spike trains have the values that follow from their definitions."""

import math

import numpy as np
import pytest

from optimizees._spike_features import SPIKE_THRESHOLD
from optimizees._trace_errors import rms, spike_distance, spike_times

NONE = np.array([])


def test_the_rms_of_a_constant_difference_is_that_difference():
    target = np.sin(np.arange(100.0))
    assert rms(target, target) == 0
    assert rms(target - 3.0, target) == pytest.approx(3.0)


def test_a_late_spike_costs_the_trace_as_much_as_one_too_few_and_one_too_many():
    none = np.full(1000, -70.0)
    early, late = none.copy(), none.copy()
    early[100:110] = late[500:510] = 30.0
    assert rms(late, early) == pytest.approx(math.sqrt(2) * rms(none, early))


def test_a_spike_is_when_the_potential_rises_through_the_threshold_interpolated():
    voltage = np.array(
        [-70.0, -70.0, SPIKE_THRESHOLD + 10, 0.0, -70.0, SPIKE_THRESHOLD - 1, SPIKE_THRESHOLD + 3, -70.0]
    )
    first = 1 + (SPIKE_THRESHOLD + 70) / (SPIKE_THRESHOLD + 80)
    np.testing.assert_allclose(spike_times(voltage, 0.1), [0.1 * first, 0.1 * 5.25])


def test_a_potential_that_stays_on_one_side_has_no_spikes():
    assert len(spike_times(np.full(10, -70.0), 0.1)) == len(spike_times(np.full(10, 20.0), 0.1)) == 0


def test_one_spike_too_many_is_a_distance_of_1():
    train = np.array([10.0, 400.0, 900.0])
    assert spike_distance(train, train) == spike_distance(NONE, NONE) == 0
    assert spike_distance(train[:1], NONE) == pytest.approx(1.0)
    assert spike_distance(train, np.array([10.0, 900.0])) == pytest.approx(1.0)


def test_the_distance_of_shifted_spikes_grows_from_0_to_the_square_root_of_2():
    shifts = np.array([0.0, 1.0, 5.0, 10.0, 50.0, 500.0])
    found = [spike_distance(np.array([100.0 + shift]), np.array([100.0])) for shift in shifts]
    np.testing.assert_allclose(found, np.sqrt(2 * (1 - np.exp(-shifts / 10.0))), atol=1e-12)


def test_the_distance_is_that_of_the_trains_filtered_with_an_exponential():
    one, other, tau, dt = np.array([3.0, 9.0, 40.0]), np.array([5.0, 38.0]), 10.0, 0.001
    t = np.arange(0, 300, dt)

    def filtered(train):
        return sum(np.where(t >= s, np.exp(-np.maximum(t - s, 0) / tau), 0) for s in train)

    integral = 2 / tau * ((filtered(one) - filtered(other)) ** 2).sum() * dt
    assert spike_distance(one, other, tau) == pytest.approx(math.sqrt(integral), rel=1e-3)
