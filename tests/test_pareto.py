"""The Pareto front against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from l2l_dask import pareto
from l2l_dask.pareto import non_dominated

COST = st.floats(-2, 2).map(round) | st.just(np.nan)


def by_definition(cost):
    def dominates(a, b):
        return bool((a <= b).all() and (a < b).any())

    known = [row for row in cost if not np.isnan(row).any()]
    return [not np.isnan(row).any() and not any(dominates(other, row) for other in known) for row in cost]


@given(st.integers(1, 4).flatmap(lambda m: arrays(float, st.tuples(st.integers(0, 30), st.just(m)), elements=COST)))
def test_a_row_is_on_the_front_if_no_other_is_nowhere_worse_and_somewhere_better(cost):
    assert non_dominated(cost).tolist() == by_definition(cost)


@given(st.integers(3, 4).flatmap(lambda m: arrays(float, st.tuples(st.integers(0, 40), st.just(m)), elements=COST)))
def test_blocks_change_nothing(cost):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pareto, "_BLOCK", 4)
        patch.setattr(pareto, "_AT_ONCE", 8)
        assert non_dominated(cost).tolist() == by_definition(cost)


def test_a_hundred_thousand_rows_of_two_objectives_on_a_line_are_all_on_the_front():
    x = np.random.default_rng(1).random(100_000)
    assert non_dominated(np.stack([x, 1 - x], axis=1)).all()


def test_twenty_thousand_rows_of_three_objectives_on_a_sphere_are_all_on_the_front():
    x = np.abs(np.random.default_rng(1).normal(size=(20_000, 3)))
    assert non_dominated(1 - x / np.linalg.norm(x, axis=1, keepdims=True)).all()
