"""Which individuals no other one beats in all objectives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from l2l_dask.space import Floats


def non_dominated(cost: Floats) -> NDArray[np.bool_]:
    """Tell which rows are on the Pareto front.

    A row is dominated by one that is nowhere worse and somewhere better; equal rows do not dominate each other.

    Parameters
    ----------
    cost : (n, n_objectives) array
        Always minimised; a row with a NaN is on no front and dominates nobody.
    """
    front = np.zeros(len(cost), dtype=bool)
    known = np.flatnonzero(~np.isnan(cost).any(axis=1))
    # In this order a row can only be dominated by one before it, and then by one before it that is on the front.
    order = known[np.lexsort(cost[known].T[::-1])]
    if not len(order):
        return front
    if cost.shape[1] <= 2:
        return _staircase(cost, order, front)
    rest = order
    while len(rest):
        first, values = rest[0], cost[rest]
        front[first] = True
        no_worse, equal = (values >= cost[first]).all(axis=1), (values == cost[first]).all(axis=1)
        front[rest[equal]] = True
        rest = rest[~no_worse]
    return front


def _staircase(cost: Floats, order: NDArray[np.intp], front: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Walk along the first objective: on the front is what lowers the last one, and what equals that."""
    values = cost[order]
    last = values[:, -1]
    lowest_before = np.concatenate([[np.inf], np.minimum.accumulate(last)[:-1]])
    steps = np.flatnonzero(last < lowest_before)
    step = steps[np.searchsorted(steps, np.arange(len(order)), side="right") - 1]
    front[order] = (values == values[step]).all(axis=1)
    return front
