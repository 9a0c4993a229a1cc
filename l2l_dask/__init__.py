"""Asynchronous, durable learning to learn on Dask."""

from l2l_dask.evaluation import (
    Candidates,
    Evaluations,
    Objective,
    Objectives,
    Status,
    maximize,
    minimize,
)
from l2l_dask.optimizee import Context, FunctionOptimizee, Optimizee, Target
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Categorical, Integer, Real, Space

__version__ = "0.1.0"

__all__ = [
    "Candidates",
    "Categorical",
    "Context",
    "Evaluations",
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
    "maximize",
    "minimize",
]
