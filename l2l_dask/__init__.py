"""Asynchronous, durable learning to learn on Dask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from l2l_dask.evaluation import Candidates, Evaluations, Objective, Objectives, Status, maximize, minimize
from l2l_dask.optimizee import Context, FunctionOptimizee, Optimizee, Target
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Categorical, Integer, Real, Space

if TYPE_CHECKING:
    from l2l_dask.command import CommandOptimizee
    from l2l_dask.experiment import Experiment
    from l2l_dask.trajectory import Trajectory, load

__version__ = "0.1.0"

__all__ = [
    "Candidates",
    "Categorical",
    "CommandOptimizee",
    "Context",
    "Evaluations",
    "Experiment",
    "FunctionOptimizee",
    "Integer",
    "Objective",
    "Objectives",
    "Optimizee",
    "Optimizer",
    "Real",
    "Space",
    "Status",
    "Target",
    "Trajectory",
    "load",
    "maximize",
    "minimize",
]

# What needs Zarr or the experiment's machinery is imported when first used: a worker's processes need neither.
_LATER = {
    "CommandOptimizee": "l2l_dask.command",
    "Experiment": "l2l_dask.experiment",
    "Trajectory": "l2l_dask.trajectory",
    "load": "l2l_dask.trajectory",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATER[name]), name)
