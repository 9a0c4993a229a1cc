"""Asynchronous, durable learning to learn on Dask."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from l2l_dask.command import CommandOptimizee
    from l2l_dask.evaluation import Candidates, Evaluations, Objective, Objectives, Status, maximize, minimize
    from l2l_dask.experiment import Experiment
    from l2l_dask.optimizee import Context, FunctionOptimizee, Optimizee, Target
    from l2l_dask.optimizer import Optimizer
    from l2l_dask.service.client import Service, connect
    from l2l_dask.space import Categorical, Integer, Real, Space
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
    "Service",
    "Space",
    "Status",
    "Target",
    "Trajectory",
    "connect",
    "load",
    "maximize",
    "minimize",
]

# Imported when first used: the command line answers at once, and a worker's processes need neither Zarr nor pandas.
_HOMES = {
    "command": ("CommandOptimizee",),
    "evaluation": ("Candidates", "Evaluations", "Objective", "Objectives", "Status", "maximize", "minimize"),
    "experiment": ("Experiment",),
    "optimizee": ("Context", "FunctionOptimizee", "Optimizee", "Target"),
    "optimizer": ("Optimizer",),
    "service.client": ("Service", "connect"),
    "space": ("Categorical", "Integer", "Real", "Space"),
    "trajectory": ("Trajectory", "load"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
