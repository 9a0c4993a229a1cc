"""Parameter spaces: from named parameters to the vector an optimizer works on, and back.

A :class:`Space` encodes every scalar element of every parameter as one dimension of a vector. Bounded dimensions lie in
[0, 1], unbounded reals are centred and scaled, integers and categoricals are cut into bins of equal width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l2l_dask.errors import SpaceError
from l2l_dask.parameters import (
    Categorical,
    Choice,
    Floats,
    Integer,
    Kind,
    Parameter,
    Real,
    code,
    coded,
    column,
    from_entry,
)

__all__ = ["Categorical", "Choice", "Floats", "Integer", "Kind", "Parameter", "Params", "Real", "Space"]

Params: TypeAlias = dict[str, Any]


class Space(Mapping[str, Parameter]):
    """Named parameters and their encoding as a vector.

    Parameters
    ----------
    parameters
        Name -> :class:`Real`, :class:`Integer` or :class:`Categorical`.

    Attributes
    ----------
    dim : int
        Length of the encoded vector: one dimension per scalar element.
    labels : tuple of str
        One label per dimension: ``tau_m``, ``w[0]``, ``w[1,2]``.
    kinds : tuple of str
        ``"real"``, ``"integer"`` or ``"categorical"`` per dimension.
    bounded : (dim,) array of bool
        False for reals without bounds.
    n_values : (dim,) array of int
        Number of values of an integer or categorical dimension, 0 for a real one.

    Raises
    ------
    SpaceError
        If it is empty, or a condition refers to something that cannot be its parent.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        if not isinstance(parameters, Mapping) or not parameters:
            raise SpaceError(f"a space needs at least one parameter, as {{name: Real(low, high)}}; got {parameters!r}")
        for name, parameter in parameters.items():
            if not isinstance(name, str) or not name or "[" in name:
                raise SpaceError(f"parameter names must be non-empty strings without '[', got {name!r}")
            if not isinstance(parameter, Real | Integer | Categorical):
                raise SpaceError(f"parameter {name!r} must be Real, Integer or Categorical, got {parameter!r}")
        self._parameters: dict[str, Parameter] = dict(parameters)
        self._lay_out()
        self._conditions = self._order_conditions()

    def _lay_out(self) -> None:
        labels: list[str] = []
        self._slices: dict[str, slice] = {}
        columns: list[tuple[float, float, bool, int]] = []
        for name, p in self._parameters.items():
            self._slices[name] = slice(len(labels), len(labels) + p.size)
            indices = np.ndindex(*p.shape) if p.shape else [()]
            labels += [f"{name}[{','.join(map(str, i))}]" if i else name for i in indices]
            columns += [column(p)] * p.size
        self.labels = tuple(labels)
        self.dim = len(labels)
        self.kinds: tuple[Kind, ...] = tuple(p.kind for p in self._parameters.values() for _ in range(p.size))
        offset, width, log, n = (np.array(c) for c in zip(*columns, strict=True))
        self._offset, self._width, self._log = offset.astype(float), width.astype(float), log.astype(bool)
        self.n_values: NDArray[np.int64] = n.astype(np.int64)
        self._any_log = bool(self._log.any())
        discrete = self.n_values > 0
        self._bins, self._log_integer = np.flatnonzero(discrete & ~self._log), np.flatnonzero(discrete & self._log)
        each = [p for p in self._parameters.values() for _ in range(p.size)]
        self.bounded: NDArray[np.bool_] = np.array([isinstance(p, Categorical) or p.low is not None for p in each])
        ends = [_ends(p) for p in each]
        self._low, self._high = np.array(ends, dtype=float).T
        for array in (self._offset, self._width, self._log, self.n_values, self.bounded):
            array.flags.writeable = False

    def _order_conditions(self) -> list[tuple[slice, list[tuple[int, Floats]]]]:
        """Per conditional parameter, parents before children: its dimensions, and (parent dimension, allowed codes)."""
        ordered: dict[str, list[tuple[int, Floats]]] = {}
        waiting = {name: p for name, p in self._parameters.items() if p.conditions}
        for name, p in waiting.items():
            for parent, values in p.conditions.items():
                self._check_parent(name, parent, values)
        while waiting:
            ready = [name for name, p in waiting.items() if not any(parent in waiting for parent in p.conditions)]
            if not ready:
                raise SpaceError(f"the conditions of {sorted(waiting)} go in a circle")
            for name in ready:
                conditions = waiting.pop(name).conditions
                ordered[name] = [
                    (self._slices[parent].start, np.array([code(self._parameters[parent], v) for v in values], float))
                    for parent, values in conditions.items()
                ]
        return [(self._slices[name], parents) for name, parents in ordered.items()]

    def _check_parent(self, name: str, parent: str, values: Sequence[Choice]) -> None:
        p = self._parameters.get(parent)
        if p is None or parent == name:
            raise SpaceError(
                f"parameter {name!r}: when= names {parent!r}, expected one of {sorted(set(self) - {name})}"
            )
        if isinstance(p, Real) or p.shape:
            raise SpaceError(f"parameter {name!r}: when= needs a scalar Integer or Categorical, {parent!r} is neither")
        for value in values:
            code(p, value)

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __reduce__(self) -> tuple[Any, ...]:
        return Space, (self._parameters,)  # by its parameters alone, so that another version can open it

    def __repr__(self) -> str:
        return f"Space({self._parameters!r})"

    @property
    def conditional(self) -> bool:
        """Whether any parameter is active only for some value of another."""
        return bool(self._conditions)

    def sample(self, rng: np.random.Generator, n: int) -> Floats:
        """Draw encoded vectors: uniform where bounded, standard normal where not.

        Row by row, so that one call for five rows equals five calls for one.

        Returns
        -------
        (n, dim) array
        """
        x = rng.random((n, self.dim))
        if not self.bounded.all():
            from scipy.special import ndtri  # slow to import, and a process that evaluates has no use for it

            free = ~self.bounded
            x[:, free] = ndtri(np.clip(x[:, free], 1e-300, 1 - 2**-53))
        return x

    def clip(self, x: ArrayLike) -> Floats:
        """Return ``x`` with its bounded dimensions moved into [0, 1]."""
        x = np.asarray(x, dtype=float)
        clipped: Floats = np.where(self.bounded, np.clip(x, 0.0, 1.0), x)
        return clipped

    def snap(self, x: ArrayLike) -> Floats:
        """Move integers and categoricals to the centre of their bin, so that equal parameters have equal vectors."""
        x = np.array(x, dtype=float)
        if len(self._bins):
            x[..., self._bins] = (self._bin(x) + 0.5) / self.n_values[self._bins]
        if len(self._log_integer):
            x[..., self._log_integer] = self._encoded(self._values(x))[..., self._log_integer]
        return x

    def _bin(self, x: Floats) -> Floats:
        """Return which bin of equal width the non-logarithmic integers and categoricals are in."""
        n = self.n_values[self._bins]
        which: Floats = np.minimum(np.floor(np.clip(x[..., self._bins], 0.0, 1.0) * n), n - 1)
        return which

    def active(self, x: ArrayLike) -> NDArray[np.bool_]:
        """Tell which dimensions are active: a (..., dim) array of bool."""
        x = np.asarray(x, dtype=float)
        return self._active(self._values(x)) if self._conditions else np.ones(x.shape, dtype=bool)

    def natural(self, x: ArrayLike) -> Floats:
        """Decode vectors to numbers in natural units: categoricals as codes, inactive dimensions as NaN.

        Parameters
        ----------
        x : (..., dim) array

        Returns
        -------
        (..., dim) array
        """
        values = self._values(np.asarray(x, dtype=float))
        if self._conditions:
            values[~self._active(values)] = np.nan
        return values

    def decode(self, x: ArrayLike) -> Params:
        """Decode one (dim,) vector to a parameter set; inactive parameters are absent."""
        return self.params(self.natural(x))

    def params(self, values: ArrayLike) -> Params:
        """Turn one row of :meth:`natural` into a parameter set."""
        values = np.asarray(values, dtype=float)
        if values.shape != (self.dim,):
            raise SpaceError(f"expected a vector of length {self.dim}, got shape {values.shape}")
        params: Params = {}
        for name, p in self._parameters.items():
            part = values[self._slices[name]]
            if math.isnan(part[0]):
                continue
            if isinstance(p, Categorical):
                picked = [p.choices[int(c)] for c in part]
                params[name] = np.array(picked, dtype=object).reshape(p.shape) if p.shape else picked[0]
            else:
                cast: Any = int if isinstance(p, Integer) else float
                params[name] = part.astype(cast).reshape(p.shape) if p.shape else cast(part[0])
        return params

    def encode(self, params: Mapping[str, Any]) -> Floats:
        """Encode one parameter set as a (dim,) vector; inactive dimensions get the middle of their range.

        Raises
        ------
        SpaceError
            If a name is unknown, an active parameter is missing, or a value is outside its range.
        """
        unknown = set(params) - set(self)
        if unknown:
            raise SpaceError(f"unknown parameters {sorted(unknown)}, expected {sorted(self)}")
        values = np.full(self.dim, np.nan)
        for name, value in params.items():
            values[self._slices[name]] = coded(name, self._parameters[name], value)
        x = self._encoded(values)
        active = self._active(values)
        for name, where in self._slices.items():
            if active[where.start] and name not in params:
                raise SpaceError(f"parameter {name!r} is missing from {sorted(params)}")
            if not active[where.start] and name in params:
                raise SpaceError(f"parameter {name!r} is not active with the other values given: leave it out")
        return x

    def _values(self, x: Floats) -> Floats:
        if x.shape[-1:] != (self.dim,):
            raise SpaceError(f"expected vectors of length {self.dim}, got shape {x.shape}")
        x = self.clip(x)
        values = self._offset + x * self._width
        if self._any_log:
            values[..., self._log] = np.exp(values[..., self._log])
        if len(self._bins):
            values[..., self._bins] = self._offset[self._bins] + self._bin(x)
        if len(self._log_integer):
            values[..., self._log_integer] = np.round(values[..., self._log_integer])
        clipped: Floats = np.clip(values, self._low, self._high)
        return clipped

    def _encoded(self, values: Floats) -> Floats:
        """Encode numbers in natural units; NaN becomes the middle of the range."""
        scaled = np.where(self._log, np.log(np.where(self._log, values, 1.0)), values)
        scaled[..., self._bins] += 0.5
        x = (scaled - self._offset) / self._width
        return self.clip(np.where(np.isnan(values), np.where(self.bounded, 0.5, 0.0), x))

    def _active(self, values: Floats) -> NDArray[np.bool_]:
        active = np.ones(values.shape, dtype=bool)
        for where, parents in self._conditions:
            on = np.ones(values.shape[:-1], dtype=bool)
            for parent, allowed in parents:
                on &= active[..., parent] & np.isin(values[..., parent], allowed)
            active[..., where] = on[..., None]
        return active

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Describe the space in the terms of an experiment file (JSON and TOML types only)."""
        described: dict[str, dict[str, Any]] = {}
        for name, p in self._parameters.items():
            entry: dict[str, Any] = {"type": p.kind}
            if isinstance(p, Categorical):
                entry["choices"] = list(p.choices)
            elif p.low is not None:
                entry |= {"low": p.low, "high": p.high, "log": p.log}
            elif isinstance(p, Real):
                entry |= {"loc": p.loc, "scale": p.scale}
            if p.shape:
                entry["shape"] = list(p.shape)
            if p.conditions:
                entry["when"] = {parent: list(values) for parent, values in p.conditions.items()}
            described[name] = entry
        return described

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> Space:
        """Build a space from an experiment file's ``[space]`` table; the reverse of :meth:`to_dict`.

        Raises
        ------
        SpaceError
            With the parameter's name and what was expected.
        """
        if not isinstance(described, Mapping):
            raise SpaceError(f"a space is a table name = {{low = .., high = ..}}, got {described!r}")
        return cls({name: from_entry(name, entry) for name, entry in described.items()})


def _ends(p: Parameter) -> tuple[float, float]:
    if isinstance(p, Categorical):
        return 0.0, len(p.choices) - 1.0
    return (-math.inf, math.inf) if p.low is None or p.high is None else (p.low, p.high)
