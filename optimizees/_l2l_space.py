"""The space of an original L2L optimizee: what it creates as individuals, and what it bounds them to."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import PluginError
from l2l_dask.space import Floats, Integer, Parameter, Params, Real

Bounding: TypeAlias = Callable[[dict[str, Any]], Mapping[str, Any]]
Bounds: TypeAlias = Mapping[str, Parameter | tuple[Any, Any] | Sequence[Any]]

_log = logging.getLogger(__name__)

_EXTREMES = (1e12, 1e15)  # a limit is what bounds both to the same
_AROUND = 4  # individuals, whose other entries must not matter to it
_POINTS = 16  # that must pass between the limits
_ROUNDING = 0.01  # of the distance of the limits, by which a point that passes may be moved
_MANY = 100  # elements of an array without bounds, from which on one location and scale serve them all
_ALIKE = 3.0  # factor between scales, and distance of locations in scales, up to which they serve all elements


@dataclass(frozen=True)
class Part:
    """One entry of an individual.

    Attributes
    ----------
    key, shape
        Its name and its shape; () for a number.
    whole
        Whether it is made of integers.
    names : tuple of str
        The parameters of the space that it is made of: itself, or one for each element.
    """

    key: str
    shape: tuple[int, ...]
    whole: bool
    names: tuple[str, ...]

    def taken(self, params: Params) -> Any:
        """Take its value out of a parameter set, as numpy's types or Python's int; None if it is not there."""
        if self.key in params:
            return given(params.pop(self.key), self.whole)
        if not all(name in params for name in self.names):
            return None
        return given(np.array([params.pop(name) for name in self.names]).reshape(self.shape), self.whole)


def given(value: Any, whole: bool = False) -> Any:
    """Return a number or an array in the types that an original optimizee gets them in; anything else as it is."""
    array = np.array(value)
    if array.dtype.kind not in "iuf":
        return value
    if whole:
        array = np.rint(array).astype(np.int64)
    if array.ndim:
        return array
    return int(array) if array.dtype.kind in "iu" else np.float64(array)


@dataclass(frozen=True)
class Created:
    """One entry of the individuals that were created: an (n, ...) array of values, and whether they are integers."""

    values: Floats
    whole: bool

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape[1:]


def created(create: Callable[[], Any], n: int) -> dict[str, Created]:
    """Ask for ``n`` individuals.

    Raises
    ------
    PluginError
        If they are not dicts of numbers and arrays, the same names and shapes in each.
    """
    drawn: list[dict[str, NDArray[Any]]] = []
    for _ in range(n):
        made = create()
        made = made[0] if isinstance(made, tuple) and made else made  # (individual, prior), for inference
        if not isinstance(made, Mapping) or not made:
            raise PluginError(f"create_individual: expected a dict of numbers and arrays, got {made!r:.80}")
        drawn.append({str(key): _numbers(str(key), value) for key, value in made.items()})
    forms = [{key: value.shape for key, value in one.items()} for one in drawn]
    for form in forms:
        if form != forms[0]:
            raise PluginError(
                f"create_individual: expected the same names and shapes each time, got {forms[0]}, {form}"
            )
    return {
        key: Created(
            np.array([one[key] for one in drawn], dtype=float), all(one[key].dtype.kind in "iu" for one in drawn)
        )
        for key in forms[0]
    }


def _numbers(key: str, value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # lists of different lengths
        array = np.array(value, dtype=object)
    if array.dtype.kind not in "iuf" or not array.size or not np.isfinite(array).all():
        raise PluginError(f"create_individual: expected finite numbers for {key!r}, got {value!r:.80}: give space=")
    return array


def spaced(
    made: Mapping[str, Created], bounding: Bounding | None, bounds: Bounds
) -> tuple[dict[str, Parameter], list[Part]]:
    """Turn what was created into parameters, and say which entries of an individual they make up.

    Raises
    ------
    PluginError
        If ``bounds`` names what there is not, or cannot be.
    """
    unknown = sorted(set(bounds) - set(made))
    if unknown:
        raise PluginError(f"bounds: expected some of {sorted(made)}, got {unknown[0]!r}")
    parameters: dict[str, Parameter] = {}
    parts, untold = [], []
    for key, entry in made.items():
        if isinstance(bounds.get(key), Real | Integer):
            found = _as_wished(key, bounds[key], entry.shape)
        else:
            low, high, rounds = _limits(key, made, bounding)
            if key in bounds:
                low, high = _pair(key, bounds[key], entry.shape)
            elif bounding is not None and np.isnan(low).any():
                untold.append(key)
            found = _elements(entry, low, high, rounds)
        names = (key,) if len(found) == 1 else element_names(key, entry.shape)
        taken = [name for name in names if name in parameters or (name in made and name != key)]
        if taken:
            raise PluginError(f"the elements of {key!r} need the name {taken[0]!r}, which is taken: give space=")
        parameters.update(zip(names, found, strict=True))
        parts.append(Part(key, entry.shape, entry.whole, names))
    if untold:
        _log.warning(
            "bounding_func tells no bounds of %s, which are searched without: if you know any, give bounds={%r: (low, "
            "high)}",
            ", ".join(untold),
            untold[0],
        )
    return parameters, parts


def element_names(key: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Name the parameters that an array is made of, where each element has its own."""
    return tuple("_".join([key, *map(str, index)]) for index in np.ndindex(*shape))


def _as_wished(key: str, wished: Any, shape: tuple[int, ...]) -> list[Parameter]:
    if wished.shape not in ((), shape):
        raise PluginError(f"bounds: {key!r} has the shape {shape}, got a parameter of shape {wished.shape}")
    return [replace(wished, shape=shape)]


def _pair(key: str, pair: Any, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    try:
        low, high = (np.broadcast_to(np.asarray(side, dtype=float), shape) for side in pair)
    except (TypeError, ValueError):
        low = high = np.full(shape, np.nan)
    if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        raise PluginError(
            f"bounds: expected (low, high) for {key!r}, low below high, each a number or {shape}, got {pair}"
        )
    return low, high


def _limits(
    key: str, made: Mapping[str, Created], bounding: Bounding | None
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Probe what one entry is bounded to, element by element, and whether it is rounded; NaN where nothing is found.

    A limit must be the same whatever the other entries are: else it is theirs, and would cut off what they allow.
    """
    entry = made[key]
    nothing = np.full(entry.shape, np.nan)
    if bounding is None:
        return nothing, nothing, np.zeros(entry.shape, dtype=bool)
    around = [{name: given(e.values[i], e.whole) for name, e in made.items()} for i in range(len(entry.values))][
        :_AROUND
    ]
    far = [
        {name: given(np.full(e.shape, sign * _EXTREMES[0]), e.whole) for name, e in made.items()} for sign in (-1, 1)
    ]

    def limit(sign: int) -> Floats:
        x = [np.full(entry.shape, sign * extreme) for extreme in _EXTREMES]
        near = [_bounded(bounding, key, entry, one, others) for others in around for one in x]
        beyond = [_bounded(bounding, key, entry, one, others) for others in far for one in x]
        # Values that it was not made for may make it raise: if it is the others', that tells nothing about this one.
        return _agreed([nothing if y is None else y for y in near] + [y for y in beyond if y is not None])

    low, high = limit(-1), limit(1)
    room = low < high
    rng = np.random.default_rng(0)
    passes, rounds = room.copy(), room.copy()
    for i in range(_POINTS):
        x = np.where(room, rng.uniform(np.where(room, low, 0), np.where(room, high, 1)), entry.values[0])
        x = np.rint(x) if entry.whole else x
        y = _bounded(bounding, key, entry, x, around[i % len(around)])
        y = nothing if y is None else y
        passes &= np.abs(y - x) <= _ROUNDING * (high - low)
        rounds &= (y == np.rint(y)) & (np.abs(y - x) <= 1)
    believed = room & (passes | rounds)
    return np.where(believed, low, np.nan), np.where(believed, high, np.nan), believed & rounds


def _bounded(bounding: Bounding, key: str, entry: Created, value: Floats, others: Mapping[str, Any]) -> Floats | None:
    """Bound an individual and return one entry of it; None if that raises."""
    individual = {name: np.copy(v) if isinstance(v, np.ndarray) else v for name, v in others.items()}
    try:
        with np.errstate(all="ignore"):
            bounded = np.asarray(bounding(individual | {key: given(value, entry.whole)})[key], dtype=float)
    except Exception:  # whatever it is
        return None
    return bounded if bounded.shape == entry.shape else None


def _agreed(answers: Sequence[Floats]) -> Floats:
    one = answers[0]
    same = np.all([answer == one for answer in answers], axis=0)
    agreed: Floats = np.where(same & (np.abs(one) < _EXTREMES[0] / 10), one, np.nan)
    return agreed


def _elements(entry: Created, low: Floats, high: Floats, rounds: NDArray[np.bool_]) -> list[Parameter]:
    """Make one parameter of an entry if that serves all its elements, else one for each."""
    flat = entry.values.reshape(len(entry.values), -1)
    if entry.shape and np.isnan(low).all() and flat.shape[1] > _MANY:
        return [replace(_unbounded(flat), shape=entry.shape)]
    sides = zip(low.ravel().tolist(), high.ravel().tolist(), rounds.ravel().tolist(), strict=True)
    each = [_element(flat[:, i], *side, entry.whole) for i, side in enumerate(sides)]
    if not entry.shape:
        return each
    if all(one == each[0] for one in each):
        return [replace(each[0], shape=entry.shape)]
    if np.isnan(low).all() and _alike(each):
        return [replace(_unbounded(flat), shape=entry.shape)]
    return each


def _element(values: Floats, low: float, high: float, rounds: bool, whole: bool) -> Parameter:
    if math.isnan(low):
        return _unbounded(values)
    if (rounds or whole) and math.ceil(low) < math.floor(high):
        return Integer(math.ceil(low), math.floor(high))
    return Real(low, high)


def _unbounded(values: Floats) -> Real:
    """Return a parameter without bounds, of the values' mean and standard deviation to about two digits."""
    mean, scale = float(values.mean()), float(values.std())
    if scale <= 1e-12 * abs(mean):  # always the same
        scale = abs(mean) / 10 or 1.0
    digits = 1 - math.floor(math.log10(scale))
    return Real(loc=round(mean, digits), scale=round(scale, digits))


def _alike(each: Sequence[Parameter]) -> bool:
    loc, scale = np.array([(p.loc, p.scale) for p in each if isinstance(p, Real)]).T
    return bool(scale.max() <= _ALIKE * scale.min() and np.ptp(loc) <= _ALIKE * scale.min())
