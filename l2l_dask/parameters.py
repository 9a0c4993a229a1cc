"""Parameters: what one named entry of a space may be, and how its values are coded as numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import SpaceError

Floats: TypeAlias = NDArray[np.float64]
Choice: TypeAlias = str | int | float | bool | None
Kind: TypeAlias = Literal["real", "integer", "categorical"]

_MAX_INTEGER = 2**50  # beyond, bin centres are no longer exact in float64
_MAX_LOG_INTEGER = 2**40


@dataclass(frozen=True)
class Base:
    """What all parameters share: a shape, and the condition under which they are active."""

    kind: ClassVar[Kind]
    shape: tuple[int, ...] = field(default=(), kw_only=True)
    when: Mapping[str, Choice | Sequence[Choice]] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        shape = (self.shape,) if isinstance(self.shape, int) else tuple(self.shape)
        if any(not isinstance(n, int) or n < 1 for n in shape):
            raise SpaceError(f"shape must be positive integers, got {self.shape!r}")
        object.__setattr__(self, "shape", shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def conditions(self) -> dict[str, tuple[Choice, ...]]:
        """Parent name -> the values for which this parameter is active."""
        return {
            name: tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (values,)
            for name, values in (self.when or {}).items()
        }


@dataclass(frozen=True)
class Real(Base):
    """A real number (or an array of them).

    Parameters
    ----------
    low, high
        Bounds, both or neither. ``low < high``.
    log
        Search on a logarithmic scale; needs ``low > 0``.
    loc, scale
        Centre and spread of an unbounded parameter (a network weight): it encodes to ``(value - loc) / scale``.
    shape
        Shape of an array-valued parameter.
    when
        ``{parent: value or list of values}``: active only then.
    """

    kind: ClassVar[Kind] = "real"
    low: float | None = None
    high: float | None = None
    log: bool = field(default=False, kw_only=True)
    loc: float = field(default=0.0, kw_only=True)
    scale: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.low is None) != (self.high is None):
            raise SpaceError("give both low and high, or neither (and loc and scale instead)")
        for name in ("low", "high", "loc", "scale"):
            value = getattr(self, name)
            if value is not None and not _is_number(value):
                raise SpaceError(f"{name} must be a finite number, got {value!r}")
        if self.low is None or self.high is None:
            if self.log:
                raise SpaceError("a logarithmic parameter needs low and high")
            if not self.scale > 0:
                raise SpaceError(f"scale must be positive, got {self.scale!r}")
            return
        if (self.loc, self.scale) != (0.0, 1.0):
            raise SpaceError("loc and scale are for parameters without bounds: drop them, or low and high")
        if not self.low < self.high:
            raise SpaceError(f"low must be smaller than high, got low={self.low!r}, high={self.high!r}")
        if self.log and self.low <= 0:
            raise SpaceError(f"a logarithmic parameter needs low > 0, got low={self.low!r}")
        if not math.isfinite(self.high - self.low):
            raise SpaceError(f"high - low must be finite, got low={self.low!r}, high={self.high!r}")


@dataclass(frozen=True)
class Integer(Base):
    """An integer from ``low`` to ``high``, both included."""

    kind: ClassVar[Kind] = "integer"
    low: int
    high: int
    log: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("low", "high"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool):
                raise SpaceError(f"{name} must be an integer, got {value!r}")
            object.__setattr__(self, name, int(value))
        if not self.low < self.high:
            raise SpaceError(f"low must be smaller than high, got low={self.low!r}, high={self.high!r}")
        if self.log and (self.low < 1 or self.high > _MAX_LOG_INTEGER):
            raise SpaceError(f"a logarithmic integer needs 1 <= low and high <= 2**40, got {self.low} and {self.high}")
        if max(abs(self.low), abs(self.high)) > _MAX_INTEGER:
            raise SpaceError(f"integers beyond +-2**50 lose precision, got {self.low} and {self.high}")


@dataclass(frozen=True)
class Categorical(Base):
    """One of several ``choices`` (strings, numbers, booleans or None), without an order."""

    kind: ClassVar[Kind] = "categorical"
    choices: Sequence[Choice]

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.choices, str) or not isinstance(self.choices, Sequence) or not self.choices:
            raise SpaceError(f"choices must be a list of at least one value, got {self.choices!r}")
        for i, choice in enumerate(self.choices):
            if not isinstance(choice, str | int | float | bool | None):
                raise SpaceError(f"choices must be strings, numbers, booleans or None, got {choice!r}")
            if isinstance(choice, float) and not math.isfinite(choice):
                raise SpaceError(f"choices must be finite, got {choice!r}")
            if any(_same(choice, other) for other in self.choices[:i]):
                raise SpaceError(f"choices must differ, got {choice!r} twice")
        object.__setattr__(self, "choices", tuple(self.choices))


Parameter: TypeAlias = Real | Integer | Categorical
_TYPES: dict[str, type[Parameter]] = {"real": Real, "integer": Integer, "categorical": Categorical}


def from_entry(name: str, entry: Any) -> Parameter:
    if isinstance(entry, Real | Integer | Categorical):
        return entry
    if not isinstance(entry, Mapping):
        raise SpaceError(f"parameter {name!r}: expected a table like {{low = 0, high = 1}}, got {entry!r}")
    fields = dict(entry)
    kind = fields.pop("type", "categorical" if "choices" in fields else "real")
    if kind not in _TYPES:
        raise SpaceError(f"parameter {name!r}: type must be one of {sorted(_TYPES)}, got {kind!r}")
    known = {f.name for f in dataclasses.fields(_TYPES[kind])}
    if set(fields) - known:
        raise SpaceError(f"parameter {name!r}: unknown {sorted(set(fields) - known)}, expected some of {sorted(known)}")
    if "log" in fields and not isinstance(fields["log"], bool):
        raise SpaceError(f"parameter {name!r}: log must be true or false, got {fields['log']!r}")
    if isinstance(fields.get("shape"), list):
        fields["shape"] = tuple(fields["shape"])
    try:
        return _TYPES[kind](**fields)
    except SpaceError as error:
        raise SpaceError(f"parameter {name!r}: {error}") from None
    except TypeError:
        needed = "choices" if kind == "categorical" else "low and high"
        raise SpaceError(f"parameter {name!r}: {kind} needs {needed}, got {sorted(fields)}") from None


def column(p: Parameter) -> tuple[float, float, bool, int]:
    """Offset, width, whether logarithmic, number of values: ``natural = offset + x * width`` (then exp)."""
    if isinstance(p, Categorical):
        return 0.0, float(len(p.choices)), False, len(p.choices)
    if isinstance(p, Integer):
        n = p.high - p.low + 1
        if p.log:
            return math.log(p.low - 0.5), math.log(p.high + 0.5) - math.log(p.low - 0.5), True, n
        return float(p.low), float(n), False, n
    if p.low is None or p.high is None:
        return p.loc, p.scale, False, 0
    if p.log:
        return math.log(p.low), math.log(p.high) - math.log(p.low), True, 0
    return float(p.low), float(p.high - p.low), False, 0


def code(p: Parameter, value: Any) -> float:
    """Return the number that stands for ``value`` in the store."""
    if isinstance(p, Categorical):
        for position, choice in enumerate(p.choices):
            if _same(choice, value):
                return float(position)
        raise SpaceError(f"expected one of {list(p.choices)}, got {value!r}")
    if not _is_number(value):
        raise SpaceError(f"expected a finite number, got {value!r}")
    number = float(value)
    if isinstance(p, Integer) and number != round(number):
        raise SpaceError(f"expected an integer, got {value!r}")
    if p.low is not None and p.high is not None and not p.low <= number <= p.high:
        raise SpaceError(f"expected a value from {p.low} to {p.high}, got {value!r}")
    return number


def coded(name: str, p: Parameter, value: Any) -> Floats:
    elements = np.asarray(value, dtype=object)
    if elements.shape != p.shape:
        raise SpaceError(f"parameter {name!r}: expected shape {p.shape}, got {elements.shape}")
    try:
        return np.array([code(p, element) for element in elements.ravel().tolist()])
    except SpaceError as error:
        raise SpaceError(f"parameter {name!r}: {error}") from None


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float | np.integer | np.floating)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _same(a: Any, b: Any) -> bool:
    """Equality that tells True from 1 (JSON and TOML do too) but not 1 from 1.0."""
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)
