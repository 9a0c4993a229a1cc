"""The currents have the mean, the extent and the randomness that they say."""

import numpy as np
import pytest

from optimizees._currents import Current, held_out


def mean(current):
    times, values = current.points()
    return np.trapezoid(values, times) / current.duration


@pytest.mark.parametrize("shape", ["step", "ramp", "noise"])
def test_a_current_extends_over_its_duration_after_50_ms(shape):
    times, values = Current(shape, 0.2, 30.5).points()
    assert (times[0], times[-1]) == (50, 80.5)
    assert (np.diff(times) > 0).all()
    assert times.shape == values.shape


def test_the_mean_of_step_and_ramp_is_the_amplitude_and_the_ramp_starts_at_zero():
    step, ramp = Current("step", 0.2, 100), Current("ramp", 0.2, 100)
    assert mean(step) == mean(ramp) == pytest.approx(0.2)
    np.testing.assert_allclose(step.points()[1], 0.2)
    assert ramp.points()[1].tolist() == [0, 0.4]


def test_noise_has_the_amplitude_as_mean_half_of_it_as_deviation_and_forgets_within_5_ms():
    _, values = Current("noise", 0.2, 100_000).points()
    assert values.mean() == pytest.approx(0.2, rel=0.03)
    assert values.std() == pytest.approx(0.1, rel=0.03)
    after_5 = np.corrcoef(values[5:], values[:-5])[0, 1]
    assert after_5 == pytest.approx(np.exp(-1), abs=0.03)


def test_noise_is_the_same_for_the_same_seed_and_another_for_another():
    first, again, other = (Current("noise", 0.2, 100, seed).points()[1] for seed in ((1, 2), (1, 2), (1, 3)))
    np.testing.assert_array_equal(first, again)
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.9


def test_noise_leaves_numpys_global_generator_alone():
    before = np.random.get_state(legacy=False)["state"]["pos"]
    Current("noise", 0.2, 100).points()
    assert np.random.get_state(legacy=False)["state"]["pos"] == before


def test_a_label_names_shape_and_amplitude():
    assert Current("ramp", 0.25, 100).label == "ramp-0.25"


@pytest.mark.parametrize(("amplitude", "held"), [(0.2, 0.2), (-0.4, -0.4), (0.0, 0.1)])
def test_held_out_are_a_step_a_quarter_stronger_and_noise_that_no_search_has(amplitude, held):
    step, noise = held_out(amplitude, 100.0, 7).values()
    assert (step.shape, step.amplitude, step.duration) == ("step", 1.25 * held, 100)
    assert noise == Current("noise", held, 100.0, (1, 7))
    assert not np.allclose(noise.points()[1], Current("noise", held, 100.0).points()[1])
