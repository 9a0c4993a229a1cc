"""What the adapters of other libraries' optimizers share: names, options, natural units, warnings."""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.random import mtrand

from l2l_dask.errors import OptimizerError
from l2l_dask.parameters import Real, column
from l2l_dask.space import Floats, Parameter, Space

BOX = 5.0  # half the width of the box for unbounded parameters, in units of their scale
_SEEDS = 2**32  # what NumPy's RandomState takes


def needed(package: str, user: str, extra: str = "algorithms") -> ModuleType:
    """Import a library that need not be installed.

    Raises
    ------
    OptimizerError
        If it is not.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != package:
            raise OptimizerError(f"{user} cannot import {package}: {error}") from error
        raise OptimizerError(f"{user} needs {package}: pip install 'l2l-dask[{extra}]'") from error


def found(option: str, name: str, known: Mapping[str, Any], library: str) -> Any:
    """Return what ``name`` means: one of the ``known``, or what ``package.module:attribute`` leads to.

    Raises
    ------
    OptimizerError
        If there is no such thing; it lists names that are near.
    """
    if not isinstance(name, str):
        raise OptimizerError(f"{option} must be a name or 'package.module:name', got {name!r}")
    if name in known:
        return known[name]
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise OptimizerError(f"{option} must be something that can be imported, got {name!r}: {reason}") from error
    near = _near(name, known)
    hint = f", did you mean {' or '.join(near)}" if near else f", such as {', '.join(sorted(known)[:8])}"
    raise OptimizerError(
        f"{option} must be one of {library}'s {len(known)} or 'package.module:name', got {name!r}{hint}"
    )


def _near(name: str, known: Mapping[str, Any]) -> list[str]:
    lower = {other.lower(): other for other in sorted(known, reverse=True)}
    near = difflib.get_close_matches(name.lower(), lower, n=5, cutoff=0.5)
    near += [other for other in sorted(lower, key=len) if name and name.lower() in other and other not in near]
    return [lower[other] for other in near[:5]]


def checked_options(option: str, given: Mapping[str, Any] | None, reserved: tuple[str, ...]) -> dict[str, Any]:
    """Return a copy of the options for a library's class.

    Raises
    ------
    OptimizerError
        If they are no mapping, name something that the adapter sets, or cannot be kept in the store.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise OptimizerError(f"{option} must be a table of names and values, got {given!r}")
    if set(given) & set(reserved):
        raise OptimizerError(f"{option} must leave out {sorted(set(given) & set(reserved))}: the experiment sets them")
    try:
        copied: dict[str, Any] = json.loads(json.dumps(dict(given)))
    except (TypeError, ValueError) as error:
        raise OptimizerError(f"{option} must hold numbers, strings, lists and tables only: {error}") from error
    return copied


def built(option: str, make: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a library's class; what it says against its arguments becomes one line.

    Raises
    ------
    OptimizerError
        If it raises something.
    """
    try:
        with GlobalRandomness(0).lent(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make(*args, **options)
    except OptimizerError:
        raise
    except Exception as error:
        name = make.__name__ if isinstance(make, type) else "the library"
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OptimizerError(f"{option} must be what {name} takes for this space, it says: {reason}") from error


def takes(make: Callable[..., Any], name: str) -> bool:
    """Whether a class or function has a parameter of that name."""
    return name in inspect.signature(make).parameters


def library_seed(seed: int) -> int:
    """Return the seed for a library: the experiment's own, where it takes such."""
    return seed % _SEEDS


def drawn_seed(rng: np.random.Generator) -> int:
    """Draw a seed for a library's generator that starts anew."""
    return int(rng.integers(_SEEDS))


class GlobalRandomness:
    """A global random generator that is a library's own: it may draw from NumPy's, or seed it.

    Parameters
    ----------
    seed
        From 0 to 2**32 - 1.
    """

    def __init__(self, seed: int) -> None:
        self.restart(seed)

    def restart(self, seed: int) -> None:
        self._own = np.random.RandomState(seed)._bit_generator

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Put it in the place of NumPy's, and put that back as it was."""
        state = np.random.get_state(legacy=False)
        before = mtrand.get_bit_generator()
        mtrand.set_bit_generator(self._own)
        try:
            yield
        finally:
            mtrand.set_bit_generator(before)
            if state["has_gauss"]:  # the second of a pair of normal numbers, which the exchange drops
                np.random.set_state(state)


def refuse_objectives(name: str, most: int | None, n: int) -> None:
    """Refuse more objectives than a library's algorithm takes.

    Raises
    ------
    OptimizerError
        If there are more.
    """
    if most is not None and n > most:
        raise OptimizerError(
            f"{name} takes {most} objective(s), got {n}: choose one for several objectives "
            "(optuna: NSGAIISampler, TPESampler; pymoo: NSGA2, NSGA3; nevergrad: DE)"
        )


class Units:
    """Natural units, one number per dimension (a categorical's is its code), and the way back to encoded vectors.

    Attributes
    ----------
    parameters : list of Parameter
        One per dimension.
    low, high : (dim,) array
        Ends of each encoded dimension: 0 and 1, or those of a box where it is unbounded.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self.parameters: list[Parameter] = [p for p in space.values() for _ in range(p.size)]
        columns = [column(p) for p in self.parameters]
        self._offset = np.array([offset for offset, _, _, _ in columns])
        self._width = np.array([width for _, width, _, _ in columns])
        self._log = np.array([log for _, _, log, _ in columns])
        self._any_log = bool(self._log.any())
        self._half = np.where((space.n_values > 0) & ~self._log, 0.5, 0.0)  # from a bin's edge to its centre
        self._middle = np.where(space.bounded, 0.5, 0.0)
        self.low = np.where(space.bounded, 0.0, -BOX)
        self.high = np.where(space.bounded, 1.0, BOX)

    def boxed(self, x: Floats) -> Floats:
        """Move encoded vectors into [0, 1], and into the box where they are unbounded."""
        return np.minimum(np.maximum(x, self.low), self.high)

    def natural(self, x: Floats) -> Floats:
        """Decode an encoded vector inside the box; inactive dimensions are NaN."""
        return self._space.natural(self.boxed(x))

    def encoded(self, values: Floats) -> Floats:
        """Encode natural numbers; those that are NaN get the middle of their range."""
        if self._any_log:
            values = values.copy()
            values[self._log] = np.log(values[self._log])
        x = (values + self._half - self._offset) / self._width
        if self._space.conditional:
            x = np.where(np.isnan(x), self._middle, x)
        return self.boxed(x)

    def ends(self, i: int) -> tuple[float, float]:
        """Return the lowest and highest natural value of a dimension that is not categorical."""
        p = self.parameters[i]
        if isinstance(p, Real) and p.low is None:
            return p.loc - BOX * p.scale, p.loc + BOX * p.scale
        return p.low, p.high  # type: ignore[union-attr, return-value]
