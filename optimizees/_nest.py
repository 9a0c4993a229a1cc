"""NEST, imported quietly and used from one thread, and its kernel made afresh for each evaluation."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from l2l_dask.errors import EvaluationError, PluginError
from optimizees._simulators import imported, require

EXTRA = "nest"
MAX_SEED = 2**32 - 1
_WHAT = "the simulator NEST"
_LOCK = threading.Lock()
# NEST's OpenMP library reads the first when it is loaded: with more than one thread, a call from any thread but the
# process's main one ends the process. With the second there is no welcome text.
_SETTINGS = {"OMP_NUM_THREADS": "1", "PYNEST_QUIET": "1"}
_imported_here = False


def require_nest(extra: str = EXTRA, **packages: str) -> None:
    """Refuse an optimizee if NEST, or another of its packages, is not installed; nothing is imported.

    Parameters
    ----------
    extra
        Of this distribution, which installs them all.
    **packages
        Further modules and what to call them: ``gymnasium="Gymnasium"``.

    Raises
    ------
    PluginError
        Naming the first that is missing, and the extra.
    """
    require(extra, nest=_WHAT, **packages)


def nest(extra: str = EXTRA) -> Any:
    """Import NEST such that it prints nothing and may be called from any one thread; the environment is as before.

    Raises
    ------
    PluginError
        If it cannot be imported, with the reason and the extra that installs it.
    EvaluationError
        If something else has imported it with several OpenMP threads, and this is not the main thread: the next call
        would end the process.
    """
    global _imported_here  # noqa: PLW0603
    with _LOCK:
        if "nest" not in sys.modules:
            with _environment(_SETTINGS):
                module = imported("nest", _WHAT, extra)
            _imported_here = True
            return module
    module = imported("nest", _WHAT, extra)
    if not (_imported_here or _in_main_thread() or os.environ.get("OMP_NUM_THREADS") == "1"):
        raise EvaluationError(
            "NEST was imported without OMP_NUM_THREADS=1 and can only be used from the main thread: set that before "
            "the import, or leave the import to the optimizee"
        )
    return module


def fresh_kernel(seed: int, resolution: float = 0.1, extra: str = EXTRA) -> Any:
    """Return NEST with an empty kernel, so that what is simulated depends on the seed and not on what ran before.

    One thread: more would give other spikes. NEST's kernel is the process's own: do not build a second network before
    the first has been read out, and use it from one thread at a time.

    Parameters
    ----------
    seed
        Of NEST's random numbers, from 1 to 2**32 - 1; ``context.seed`` is one.
    resolution
        Time step in ms.

    Raises
    ------
    PluginError
        If the seed or the resolution cannot be, or NEST cannot be imported.
    """
    if not 1 <= seed <= MAX_SEED:
        raise PluginError(f"seed: expected an integer from 1 to 2**32 - 1, got {seed!r}")
    if not resolution > 0:
        raise PluginError(f"resolution: expected a time step in ms above 0, got {resolution!r}")
    kernel = nest(extra)
    kernel.verbosity = kernel.VerbosityLevel.ERROR  # before the reset, which may have something to say
    kernel.ResetKernel()
    kernel.set(local_num_threads=1, rng_seed=int(seed), resolution=float(resolution))
    kernel.verbosity = kernel.VerbosityLevel.ERROR
    return kernel


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
