r"""Cooling schedules of simulated annealing: the temperature at step k, from T_0 on.

The multiplicative ones have a decay :math:`\alpha`, the additive ones a last step n and a last temperature :math:`T_n`;
the names are those of the original L2L. Formulas as in [1]_, which gives their origins; on how they compare see [2]_.

======================== =================================================================== =================
name                     :math:`T_k`                                                         :math:`\alpha`
======================== =================================================================== =================
constant                 :math:`T_0`
default                  :math:`T_0 \alpha^k` [3]_                                           0.99
exponential              :math:`T_0 \alpha^k` [3]_                                           0.85
logarithmic              :math:`T_0 / (1 + \alpha \ln(1 + k))` [4]_                          1
linear-multiplicative    :math:`T_0 / (1 + \alpha k)`                                        1
quadratic-multiplicative :math:`T_0 / (1 + \alpha k^2)`                                      1
linear-additive          :math:`T_n + (T_0 - T_n) (n - k)/n` [5]_
quadratic-additive       :math:`T_n + (T_0 - T_n) ((n - k)/n)^2` [5]_
exponential-additive     :math:`T_n + (T_0 - T_n) / (1 + e^{2 \ln((T_0 - T_n)/T_n) (k - n/2)/n})` [5]_
trigonometric-additive   :math:`T_n + (T_0 - T_n) (1 + \cos(\pi k/n))/2` [5]_
======================== =================================================================== =================

The exponential additive schedule has :math:`\ln(T_0 - T_n)` in [1]_, which depends on the unit of temperature (and with
:math:`T_0 = 1, T_n = 0`, as in the original L2L, does not cool at all): here the unit is :math:`T_n`.

References
----------
.. [1] J. F. Díaz Martín, J. M. Riaño Sierra, "A comparison of cooling schedules for simulated annealing", Encyclopedia
   of Artificial Intelligence, 2009.
.. [2] Y. Nourani, B. Andresen, "A comparison of simulated annealing cooling strategies", Journal of Physics A 31, 1998.
.. [3] S. Kirkpatrick, C. D. Gelatt, M. P. Vecchi, "Optimization by simulated annealing", Science 220, 1983.
.. [4] E. Aarts, J. Korst, "Simulated annealing and Boltzmann machines", 1989.
.. [5] B. T. Luke, "Simulated annealing cooling schedules", 2005.
"""

from __future__ import annotations

import math

from l2l_dask.errors import OptimizerError
from optimizers._options import check_number

_MULTIPLICATIVE = {
    "default": 0.99,
    "exponential": 0.85,
    "logarithmic": 1.0,
    "linear-multiplicative": 1.0,
    "quadratic-multiplicative": 1.0,
}
_ADDITIVE = ("linear-additive", "quadratic-additive", "exponential-additive", "trigonometric-additive")
_POWERS = ("default", "exponential")

SCHEDULES = ("constant", *_MULTIPLICATIVE, *_ADDITIVE)


class Schedule:
    """One schedule, for any first temperature.

    Parameters
    ----------
    name
        One of :data:`SCHEDULES`.
    decay
        Alpha of a multiplicative schedule; ``None`` for that of the table.
    end
        Last temperature of an additive schedule, in units of the first.
    n
        Last step of an additive schedule.

    Raises
    ------
    OptimizerError
        If one of them is out of its range; it is called by its name as an option.
    """

    def __init__(self, name: str, *, decay: float | None = None, end: float = 1e-3, n: int | None = None) -> None:
        if name not in SCHEDULES:
            raise OptimizerError(f"cooling_schedule must be one of {', '.join(SCHEDULES)}, got {name!r}")
        if name in _ADDITIVE and n is None:
            raise OptimizerError(
                f"cooling_schedule must be told n_iteration or evaluations to be {name!r}, got neither"
            )
        self.name = name
        self._alpha = _MULTIPLICATIVE.get(name, 1.0)
        if decay is not None:
            self._alpha = check_number("temp_decay", decay, 0.0, 1.0 if name in _POWERS else math.inf)
        self._end = check_number("temp_end", end, 1e-300, 0.5)
        self._n = 1 if n is None else n

    def __call__(self, k: int) -> float:
        """Return the temperature at step ``k`` in units of the first."""
        if self.name in _ADDITIVE:
            return self._end + (1.0 - self._end) * self._share(min(k, self._n))
        alpha = self._alpha
        if self.name in _POWERS:
            return float(alpha**k)
        if self.name == "logarithmic":
            return 1.0 / (1.0 + alpha * math.log1p(k))
        if self.name == "linear-multiplicative":
            return 1.0 / (1.0 + alpha * k)
        if self.name == "quadratic-multiplicative":
            return 1.0 / (1.0 + alpha * k * k)
        return 1.0

    def _share(self, k: int) -> float:
        """Return how much of T_0 - T_n is left at step ``k`` of an additive schedule."""
        n = self._n
        if self.name == "linear-additive":
            return (n - k) / n
        if self.name == "quadratic-additive":
            return ((n - k) / n) ** 2
        if self.name == "trigonometric-additive":
            return 0.5 * (1.0 + math.cos(math.pi * k / n))
        ratio = (1.0 - self._end) / self._end
        return 1.0 / (1.0 + math.exp(2.0 * math.log(ratio) * (k - n / 2) / n))
