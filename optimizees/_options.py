"""Checks of what an optimizee is given: its options, and numbers that are handed to its methods."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from l2l_dask.errors import PluginError


def check_integer(option: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """Return ``value`` if it is an integer, of Python or NumPy, within limits that are allowed themselves.

    Raises
    ------
    PluginError
        If it is not: a fraction is not cut off.
    """
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_integer or (low is not None and value < low) or (high is not None and value > high):
        limits = "" if low is None else f" from {low} on" if high is None else f" from {low} to {high}"
        raise PluginError(f"{option}: expected an integer{limits}, got {value!r}")
    return int(value)


def check_number(option: str, value: Any, low: float | None = None) -> float:
    """Return ``value`` if it is a finite number, from a limit on that is allowed itself.

    Raises
    ------
    PluginError
        If it is not.
    """
    if not _is_finite(value) or (low is not None and value < low):
        limit = "" if low is None else f" from {low} on"
        raise PluginError(f"{option}: expected a finite number{limit}, got {value!r}")
    return float(value)


def check_positive(option: str, value: Any) -> float:
    """Return ``value`` if it is a finite number above 0.

    Raises
    ------
    PluginError
        If it is not.
    """
    if not (_is_finite(value) and value > 0):
        raise PluginError(f"{option}: expected a finite number above 0, got {value!r}")
    return float(value)


def _is_finite(value: Any) -> bool:
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return is_number and math.isfinite(value)
