"""Exact hypervolume: against counted cells, and what is known of spheres and planes."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2l_dask.dashboard.hypervolume import hypervolume


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 3).flatmap(
        lambda m: st.lists(st.tuples(*[st.integers(0, 7)] * m), max_size=12).map(lambda c: (m, c))
    )
)
def test_the_volume_is_the_number_of_cells_that_are_dominated(drawn):
    m, points = drawn
    cost = np.array(points, dtype=float).reshape(-1, m)
    cells = np.stack(np.meshgrid(*[np.arange(6)] * m, indexing="ij"), axis=-1).reshape(-1, m)
    expected = sum(bool((cost <= cell).all(axis=1).any()) for cell in cells)
    assert hypervolume(cost, np.full(m, 6.0)) == expected


@pytest.mark.parametrize("odd", [[np.nan, 0.0], [-np.inf, 0.0], [np.inf, 0.0], [0.0, 2.0], [1.0, 0.0]])
def test_costs_that_are_none_and_those_beyond_the_reference_count_for_nothing(odd):
    assert hypervolume(np.array([odd, [0.5, 0.5]]), np.ones(2)) == 0.25
    assert hypervolume(np.array([odd]), np.ones(2)) == 0.0


@pytest.mark.parametrize("m", [2, 3])
def test_the_volume_is_that_of_a_library(m):
    moocore = pytest.importorskip("moocore")
    cost = np.random.default_rng(1).random((300, m))
    reference = np.full(m, 0.9)
    assert hypervolume(cost, reference) == pytest.approx(moocore.hypervolume(cost, ref=reference), rel=1e-12)


def test_ten_thousand_points_on_a_sphere_take_a_part_of_a_second():
    cost = np.abs(np.random.default_rng(1).normal(size=(10_000, 3)))
    cost = 1 - cost / np.linalg.norm(cost, axis=1)[:, None]
    at = time.process_time()
    assert hypervolume(cost, np.ones(3)) == pytest.approx(np.pi / 6, rel=0.02)
    took = time.process_time() - at
    print(f"{1000 * took:.0f} ms")
    assert took < 0.5
