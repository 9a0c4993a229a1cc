"""Contracts that a plug-in's author runs too."""

from l2l_dask.testing.optimizee import check_optimizee
from l2l_dask.testing.optimizer import check_optimizer

__all__ = ["check_optimizee", "check_optimizer"]
