"""Importing a simulator where it is used, and saying what to install where it is missing."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from l2l_dask.errors import PluginError


def require(extra: str, **packages: str) -> None:
    """Refuse an optimizee whose simulator is not installed; nothing is imported.

    Parameters
    ----------
    extra
        Of this distribution, which installs it.
    **packages
        Module and what to call it: ``nest="the simulator NEST"``.

    Raises
    ------
    PluginError
        Naming the first that is missing, and the extra.
    """
    for module, what in packages.items():
        if find_spec(module) is None:
            raise PluginError(f"{what} is not installed: pip install 'l2l-dask[{extra}]'")


def imported(module: str, what: str, extra: str) -> Any:
    """Import a simulator.

    Raises
    ------
    PluginError
        If it cannot be, with the reason and the extra that installs it.
    """
    try:
        return import_module(module)
    except ImportError as failure:
        raise PluginError(f"{what} cannot be imported ({failure}): pip install 'l2l-dask[{extra}]'") from failure
