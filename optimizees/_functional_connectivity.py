"""Functional connectivity: which regions are active together, and how like two brains are in that."""

from __future__ import annotations

import numpy as np

from l2l_dask.space import Floats


def connectivity(activity: Floats) -> Floats:
    """Correlate the activity of all regions.

    Parameters
    ----------
    activity : (samples, n) array

    Returns
    -------
    (n, n) array
        Pearson's r. A region whose activity does not change has none with any other: 0.
    """
    deviation = activity - activity.mean(axis=0)
    size = np.sqrt((deviation**2).sum(axis=0))
    # What is left of a constant after rounding is no activity.
    silent = size <= 1e-12 * np.sqrt(len(activity)) * np.abs(activity).max(axis=0, initial=0.0)
    deviation = np.where(silent, 0.0, deviation / np.where(silent, 1.0, size))
    matrix: Floats = np.clip(deviation.T @ deviation, -1.0, 1.0)
    np.fill_diagonal(matrix, 1.0)
    return matrix


def pairs(matrix: Floats) -> Floats:
    """Return the values above the diagonal: one for each pair of regions."""
    return matrix[np.triu_indices(len(matrix), 1)]


def similarity(one: Floats, other: Floats) -> float:
    """Correlate two connectivities over all pairs of regions (Pearson's r); 0 if all pairs of one are alike."""
    a, b = (values - values.mean() for values in (pairs(one), pairs(other)))
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 1e-12 * len(a) else 0.0


def distance(one: Floats, other: Floats) -> float:
    """Return the largest difference of the two distributions of connectivity (Kolmogorov and Smirnov's), 0 to 1."""
    a, b = np.sort(pairs(one)), np.sort(pairs(other))
    values = np.concatenate([a, b])
    steps = np.searchsorted(a, values, "right") / len(a) - np.searchsorted(b, values, "right") / len(b)
    return float(np.abs(steps).max())


def metastability(activity: Floats) -> float:
    """Return how much the synchrony of all regions varies: the standard deviation of Kuramoto's order parameter."""
    from scipy.signal import hilbert  # slow to import

    phases = np.angle(hilbert(activity - activity.mean(axis=0), axis=0))
    return float(np.abs(np.exp(1j * phases).mean(axis=1)).std())
