"""Contracts that a plug-in's author runs too."""

from l2l_dask.testing.optimizee import check_optimizee

__all__ = ["check_optimizee"]
