"""Errors that a user can act on.

Every message says what was expected, what came, and what to do. The command line prints them as one line and exits with
status 2; anything else that is raised is a defect of this package.
"""

from __future__ import annotations


class L2LError(Exception):
    """Base class: something the user can put right.

    Attributes
    ----------
    exit_status : int
        Of the command line: 2 for bad input; the driver sets 1 when it happened in mid-run.
    """

    exit_status = 2


class SpaceError(L2LError):
    """A parameter space, or a parameter set, that makes no sense."""


class ObjectivesError(L2LError):
    """Objectives without a name or a direction."""


class ConfigError(L2LError):
    """An experiment file, an option or an argument that cannot be used."""


class PluginError(ConfigError):
    """An optimizer or optimizee that cannot be found, imported or built."""


class OptimizerError(L2LError):
    """An optimizer broke its contract, or was called against it."""


class EvaluationError(L2LError):
    """An evaluation returned something that is not a fitness."""


class StoreError(L2LError):
    """A trajectory that cannot be created, read or written."""


class LockedError(StoreError):
    """Another driver holds the store."""


class ReplayError(L2LError):
    """A resumed optimizer asks for something else than the trajectory records."""


class ClusterError(L2LError):
    """A cluster that cannot be reached or started."""


class LostError(ClusterError):
    """A cluster that went away in mid-run."""
