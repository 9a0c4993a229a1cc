"""Simulations to optimise: one file each; a simulator is imported when it is used.

:func:`from_l2l` takes an optimizee of the original L2L as it is.
"""

from optimizees._from_l2l import from_l2l
from optimizees._l2l_trajectory import L2LTrajectory

__all__ = ["L2LTrajectory", "from_l2l"]
