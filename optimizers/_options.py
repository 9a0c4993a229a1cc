"""Checks of options, with one-line messages."""

from __future__ import annotations

from l2l_dask.errors import OptimizerError


def check_count(name: str, value: int, least: int) -> int:
    """Return ``value`` if it is an integer of at least ``least``.

    Raises
    ------
    OptimizerError
        If it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OptimizerError(f"{name} must be an integer of at least {least}, got {value!r}")
    return value


def check_number(name: str, value: float, low: float, high: float) -> float:
    """Return ``value`` if it is a number from ``low`` to ``high``.

    Raises
    ------
    OptimizerError
        If it is not.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise OptimizerError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")
    return float(value)
