"""Checks of options, with one-line messages."""

from __future__ import annotations

import math

import numpy as np

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Objectives


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


def checked_goal(objectives: Objectives, stop_criterion: float | None) -> float:
    """Return the cost at which a search is done, from a fitness in the user's own direction; -inf if it never is.

    Raises
    ------
    OptimizerError
        If ``stop_criterion`` is neither None nor a number.
    """
    if stop_criterion is None:
        return -math.inf
    fitness = check_number("stop_criterion", stop_criterion, -math.inf, math.inf)
    return float(objectives.cost(np.array([fitness]))[0])
