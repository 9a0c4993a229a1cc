"""How far apart two voltage traces are, sample by sample and spike by spike."""

from __future__ import annotations

import numpy as np

from l2l_dask.space import Floats
from optimizees._spike_features import SPIKE_THRESHOLD


def rms(found: Floats, target: Floats) -> float:
    """Return the root mean square difference between two traces, in their unit.

    They are not aligned: a spike that comes later than the target's by more than its width counts as one too few and
    one too many. So this alone prefers a trace without spikes to one with all spikes a little late; features do not.
    """
    return float(np.sqrt(np.mean((found - target) ** 2)))


def spike_times(voltage: Floats, interval: float) -> Floats:
    """Return when the potential (mV) rises through the threshold, interpolated, for samples every ``interval`` ms."""
    above = voltage > SPIKE_THRESHOLD
    after = 1 + np.flatnonzero(above[1:] & ~above[:-1])
    low, high = voltage[after - 1], voltage[after]
    times: Floats = interval * (after - 1 + (SPIKE_THRESHOLD - low) / (high - low))
    return times


def spike_distance(found: Floats, target: Floats, time_constant: float = 10.0) -> float:
    """Return the distance of van Rossum between two spike trains: 0 where they are equal, 1 for one spike too many.

    Each spike becomes an exponential that decays with ``time_constant``; the distance is that of the two sums, in the
    integral of the squared difference. Spikes that are much closer than the time constant are nearly the same, those
    that are much farther apart nearly one too few and one too many, which is a distance of sqrt(2).

    Parameters
    ----------
    found, target : (n,) and (m,) arrays
        Times of spikes, in ms.

    Notes
    -----
    van Rossum, "A novel spike distance", Neural Computation 13, 2001, normalised with 2 / time_constant in place of
    1 / time_constant.
    """

    def overlap(a: Floats, b: Floats) -> float:
        return float(np.exp(-np.abs(a[:, None] - b[None, :]) / time_constant).sum())

    squared = overlap(found, found) + overlap(target, target) - 2 * overlap(found, target)
    return float(np.sqrt(max(squared, 0.0)))
