"""Features of traces whose spikes were drawn by hand."""

import numpy as np
import pytest

from optimizees._spike_features import TOLERANCES, Step, error, features

STEP = Step(start=50.0, end=150.0, interval=0.1)
REST, PLATEAU, AFTER, PEAK, TROUGH = -80.0, -60.0, -75.0, 20.0, -70.0


def trace(*times):
    """Draw a step response, with a triangular spike of 2 ms and a trough of 1 ms at each time after its start."""
    voltage = np.full(2000, PLATEAU)
    voltage[:500], voltage[1500:] = REST, AFTER
    for time in times:
        i = 500 + round(time * 10)
        voltage[i : i + 21] = np.interp(np.arange(21), [0, 10, 20], [PLATEAU, PEAK, PLATEAU])
        voltage[i + 21 : i + 31] = TROUGH
    return voltage


def test_each_feature_is_what_was_drawn():
    found = features(trace(10, 25, 60), STEP)
    crossing = 0.5  # ms from the foot of a spike to the threshold, half way up
    assert found == pytest.approx(
        {
            "resting_level": REST,
            "spike_count": 3,
            "latency": 10 + crossing,
            "last_spike": 60 + crossing,
            "first_interval": 15,
            "last_interval": 35,
            "peak": PEAK,
            "width": 1.0,
            "trough": TROUGH,
            "plateau": PLATEAU,
            "level_after": AFTER,
        }
    )


def test_without_spikes_times_are_the_duration_and_heights_the_plateau():
    found = features(trace(), STEP)
    assert (found["spike_count"], found["width"]) == (0, 0)
    assert {found[name] for name in ("latency", "last_spike", "first_interval", "last_interval")} == {100.0}
    assert {found[name] for name in ("peak", "trough")} == {PLATEAU}


def test_one_spike_has_a_time_but_no_interval():
    found = features(trace(30), STEP)
    assert found["latency"] == found["last_spike"] == pytest.approx(30.5)
    assert found["first_interval"] == found["last_interval"] == 100.0


def test_spikes_outside_the_step_do_not_count():
    voltage = trace(10)
    voltage[200:210], voltage[1600:1610] = PEAK, PEAK
    assert features(voltage, STEP)["spike_count"] == 1


def test_a_spike_that_starts_within_the_step_counts_whenever_it_ends():
    found = features(trace(10, 99), STEP)
    assert (found["spike_count"], found["last_spike"]) == (2, pytest.approx(99.5))
    assert found["peak"] == PEAK
    assert found["width"] == pytest.approx(1.0)


def test_a_potential_that_never_returns_is_one_spike_that_lasts():
    voltage = trace()
    voltage[700:] = PEAK
    found = features(voltage, STEP)
    assert (found["spike_count"], found["latency"]) == (1, pytest.approx(20, abs=0.1))
    assert found["width"] > STEP.end - STEP.start


def test_a_step_that_starts_above_the_threshold_has_a_spike_at_once():
    voltage = trace()
    voltage[500:505] = PEAK
    assert features(voltage, STEP)["latency"] == 0.0


def test_the_error_counts_each_difference_in_units_of_its_tolerance():
    target = features(trace(10, 25, 60), STEP)
    assert error(target, target) == 0
    for name, tolerance in TOLERANCES.items():
        assert error(target | {name: target[name] - 3 * tolerance}, target) == pytest.approx(3)
    assert target.keys() == TOLERANCES.keys()
