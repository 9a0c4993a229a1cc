"""Which individuals no other one beats in all objectives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from l2l_dask.space import Floats

_BLOCK, _AT_ONCE = 256, 20_000  # rows: as many comparisons fit into a processor's cache, or nearly


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
    values = cost[order]
    new = np.append(True, (values[1:] != values[:-1]).any(axis=1))
    front[order] = _unbeaten(values[new])[np.cumsum(new) - 1]
    return front


def _unbeaten(values: Floats) -> NDArray[np.bool_]:
    """Tell which of different rows, in lexicographic order, no other is nowhere worse than: block by block."""
    unbeaten = np.zeros(len(values), dtype=bool)
    for start in range(0, len(values), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(values)))
        for by in np.array_split(np.flatnonzero(unbeaten), 1 + start // _AT_ONCE):
            block = block[~_no_worse(values[by], values[block]).any(axis=0)]
        beaten_within = np.triu(_no_worse(values[block], values[block]), 1).any(axis=0)
        unbeaten[block[~beaten_within]] = True
    return unbeaten


def _no_worse(these: Floats, than: Floats) -> NDArray[np.bool_]:
    """Tell which of these rows (first index) are nowhere worse than which of those, that come after them."""
    result = np.ones((len(these), len(than)), dtype=bool)
    for a, b in zip(these.T[1:], than.T[1:], strict=True):
        result &= a[:, None] <= b
    return result


def _staircase(cost: Floats, order: NDArray[np.intp], front: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Walk along the first objective: on the front is what lowers the last one, and what equals that."""
    values = cost[order]
    last = values[:, -1]
    lowest_before = np.concatenate([[np.inf], np.minimum.accumulate(last)[:-1]])
    steps = np.flatnonzero(last < lowest_before)
    step = steps[np.searchsorted(steps, np.arange(len(order)), side="right") - 1]
    front[order] = (values == values[step]).all(axis=1)
    return front
