"""Observations that an optimizee saves, and the target that they are to meet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Evaluations
from l2l_dask.space import Floats


class Target:
    """The target of the option ``target``, or else what each optimizee saves under that name.

    Attributes
    ----------
    needs : tuple of str
        Names of the arrays that the optimizee must save.

    Raises
    ------
    OptimizerError
        If the option is neither numbers nor the path of a file of numbers, or an observation has another length.
    """

    def __init__(self, given: list[float] | str | None) -> None:
        self._given = None if given is None else _numbers(given)
        self.needs: tuple[str, ...] = ("observation", "target") if given is None else ("observation",)

    def pair(self, evaluations: Evaluations, i: int) -> tuple[Floats, Floats] | None:
        """Return the ``i``-th result's observation and target; None if it failed or they are not finite."""
        observed = evaluations.outputs["observation"][i]
        wanted = self._given if self._given is not None else evaluations.outputs["target"][i]
        if np.isnan(evaluations.cost[i]).any() or observed is None or wanted is None:
            return None
        g, y = _flat("observation", observed), _flat("target", wanted)
        if len(g) != len(y):
            raise OptimizerError(
                f"target has {len(y)} numbers, expected as many as the observation, which has {len(g)}"
            )
        return (g, y) if np.isfinite(g).all() and np.isfinite(y).all() else None


def _flat(name: str, array: NDArray[np.generic]) -> Floats:
    try:
        return np.array(array, dtype=float).ravel()
    except (TypeError, ValueError) as error:
        raise OptimizerError(f"{name} must be an array of numbers, got {array!r:.80}") from error


def _numbers(given: list[float] | str) -> Floats:
    expected = "target must be a list of numbers or the path of a .npy file of numbers"
    try:
        loaded = np.load(Path(given), allow_pickle=False) if isinstance(given, str | Path) else given
        numbers = np.array(loaded, dtype=float).ravel()
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise OptimizerError(f"{expected}, got {' '.join(repr(given).split()):.80}") from error
    if not len(numbers) or not np.isfinite(numbers).all():
        raise OptimizerError(f"{expected}, all of them finite and one at least, got {numbers.tolist()!r:.80}")
    return numbers
