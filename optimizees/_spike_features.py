"""Features of a voltage trace under a current step, and how far apart two sets of them are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from l2l_dask.space import Floats

Features: TypeAlias = dict[str, float]

SPIKE_THRESHOLD = -20.0  # mV; the fast-spiking cells' peaks stay below 0

#: By how much a feature may differ to count as one unit of error: mV for levels, ms for times.
TOLERANCES: Mapping[str, float] = {
    "resting_level": 1.0,
    "spike_count": 1.0,
    "latency": 1.0,
    "last_spike": 2.0,
    "first_interval": 1.0,
    "last_interval": 2.0,
    "peak": 2.0,
    "width": 0.1,
    "trough": 1.0,
    "plateau": 1.0,
    "level_after": 1.0,
}


@dataclass(frozen=True)
class Step:
    """A current step: when it starts and ends (ms), and the sampling interval of the traces."""

    start: float
    end: float
    interval: float


def features(voltage: Floats, step: Step) -> Features:
    """Describe the response to a current step.

    Where there are too few spikes for a feature, it has the value that it tends to as spikes vanish: times become the
    duration of the step, heights the plateau, the width zero.

    Returns
    -------
    dict
        ``resting_level`` before the step; during it ``spike_count``, ``latency`` of the first spike and time of the
        ``last_spike`` since its start, ``first_interval`` and ``last_interval`` between spikes, mean ``peak``, mean
        ``width`` at threshold, mean ``trough`` between spikes, ``plateau`` (the median); and ``level_after`` it. mV
        and ms.
    """
    start, end = round(step.start / step.interval), round(step.end / step.interval)
    during, onward = voltage[start:end], voltage[start:]
    up, down = _crossings(onward, end - start)
    plateau, duration = float(np.median(during)), step.end - step.start
    times = np.array([_crossing_time(onward, i) for i in up]) * step.interval
    intervals = np.diff(times)
    troughs = [during[a:b].min() for a, b in zip(down, up[1:], strict=False)]
    peaks = [onward[a:b].max() for a, b in zip(up, down, strict=True)]
    widths = [_crossing_time(onward, b) - _crossing_time(onward, a) for a, b in zip(up, down, strict=True)]
    return {
        "resting_level": float(voltage[start // 2 : start].mean()),
        "spike_count": float(len(up)),
        "latency": float(times[0]) if len(times) else duration,
        "last_spike": float(times[-1]) if len(times) else duration,
        "first_interval": float(intervals[0]) if len(intervals) else duration,
        "last_interval": float(intervals[-1]) if len(intervals) else duration,
        "peak": float(np.mean(peaks)) if peaks else plateau,
        "width": float(np.mean(widths)) * step.interval if widths else 0.0,
        "trough": float(np.mean(troughs)) if troughs else plateau,
        "plateau": plateau,
        "level_after": float(voltage[(end + len(voltage)) // 2 :].mean()),
    }


def error(found: Features, target: Features) -> float:
    """Sum the differences between two sets of features, each in units of its tolerance."""
    return sum(abs(found[name] - target[name]) / tolerance for name, tolerance in TOLERANCES.items())


def _crossings(voltage: Floats, end: int) -> tuple[list[int], list[int]]:
    """First samples above the threshold, and first samples below it again, of the spikes that start before ``end``."""
    above = np.concatenate([[False], voltage > SPIKE_THRESHOLD, [False]])
    change = np.diff(above.astype(np.int8))
    up, down = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    n = int((up < end).sum())
    return up[:n].tolist(), down[:n].tolist()


def _crossing_time(voltage: Floats, i: int) -> float:
    """Interpolate when the threshold was crossed between the samples ``i - 1`` and ``i``, in samples."""
    if i in (0, len(voltage)):
        return float(i)
    before, after = voltage[i - 1], voltage[i]
    return float(i - 1 + (SPIKE_THRESHOLD - before) / (after - before))
