"""The table of individuals: which of a million match a filter, in what order, and what stands in the rows of a page."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import ConfigError
from l2l_dask.evaluation import Ids, Status
from l2l_dask.space import Categorical, Floats
from l2l_dask.trajectory import Trajectory

_LONGEST, _DEEPEST = 10_000, 50  # of a filter: characters, and brackets in brackets
_TOKEN = re.compile(r'\s*(?:(?P<sign>!=|<=|>=|==|[()=<>~])|(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<word>[^\s()=<>!~"]+))')
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_HELP = 'for example: tau >= 0.1 and (status = done or error ~ "silent")'


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes
    ----------
    kind
        What can be asked of it: numbers are compared and sorted, choices are equal or not and sorted, and texts are
        equal or contain something.
    choices
        The words for its numbers.
    values
        Its values, of all individuals or of some.
    """

    name: str
    kind: Literal["number", "choice", "text"]
    choices: tuple[str, ...]
    values: Callable[[Any], NDArray[Any]]


@dataclass(frozen=True)
class Table:
    """A page of the individuals that match, in order.

    Attributes
    ----------
    ids
        Those on this page.
    number, pages
        Which page of how many, from 0.
    matching, of
        How many match, of how many there are.
    shown
        All that in words.
    """

    ids: Ids
    number: int
    pages: int
    matching: int
    of: int
    shown: str


def columns(t: Trajectory) -> dict[str, Column]:
    """Name the columns: objectives and parameters as they are called, and what the store notes beside.

    Where two would have one name, the parameter is ``params.NAME``, and what the store notes is ``record.NAME``.
    """
    found: dict[str, Column] = {}

    def add(name: str, other: str, values: Callable[[Any], Any], kind: Any = "number", choices: Any = ()) -> None:
        name = f"{other}.{name}" if name in found else name
        found[name] = Column(name, kind, tuple(map(str, choices)), values)

    record = t.record
    for j, name in enumerate(t.objectives.names):
        add(name, "fitness", lambda ids, j=j: record["fitness"][ids, j])  # type: ignore[misc]
    j = 0
    for p in t.space.values():
        for label in t.space.labels[j : j + p.size]:
            words = ("choice", p.choices) if isinstance(p, Categorical) else ("number", ())
            add(label, "params", lambda ids, j=j: record["params"][ids, j], *words)  # type: ignore[misc]
            j += 1
    add("id", "record", lambda ids: np.arange(len(t))[ids])
    add("status", "record", lambda ids: record["status"][ids], "choice", [s.label for s in Status])
    add("seconds", "record", lambda ids: record["finished"][ids] - record["started"][ids])
    for name, values in record.columns.items():
        if name in ("x", "params", "fitness", "status"):
            continue
        if values.ndim == 2:
            for k in range(values.shape[1]):
                add(f"{name}[{k}]", "record", lambda ids, v=values, k=k: v[ids, k])  # type: ignore[misc]
        else:
            add(name, "record", lambda ids, v=values: v[ids], "text" if values.dtype.kind == "T" else "number")  # type: ignore[misc]
    return found


def select(t: Trajectory, where: str = "") -> Ids:
    """Return who matches a filter, ascending.

    Parameters
    ----------
    where
        Comparisons like ``tau >= 0.1``, ``rule = "stdp"``, ``status != done`` or ``error ~ "silent"`` (contains), with
        ``and``, ``or``, ``not`` and brackets; a name with blanks or signs stands in double quotes. Who has no value
        matches no comparison. All match an empty one.

    Raises
    ------
    ConfigError
        If it makes no sense.
    """
    if not where.strip():
        return np.arange(len(t))
    return np.flatnonzero(_Filter(where, t).mask())


def page(
    t: Trajectory, where: str = "", *, sort: str = "id", descending: bool = False, number: int = 0, size: int = 50
) -> Table:
    """Return a page of the individuals that match; equals stand in the order of their ids, and who has no value last.

    Raises
    ------
    ConfigError
        If the filter makes no sense, or there is no such column to sort by.
    """
    known = columns(t)
    if sort not in known or known[sort].kind == "text":
        raise ConfigError(f"the table cannot be sorted by {sort!r}: expected a column of numbers or choices")
    ids = select(t, where)
    pages = max(1, -(-len(ids) // size))
    number = min(max(number, 0), pages - 1)
    first, end = number * size, min((number + 1) * size, len(ids))
    if sort == "id" and sort not in (*t.objectives.names, *t.space.labels):
        chosen = ids[len(ids) - end : len(ids) - first][::-1] if descending else ids[first:end]
    else:
        whole = slice(None) if len(ids) == len(t) else ids
        values = known[sort].values(whole).astype(float)
        chosen = ids[_ranked(-values if descending else values, first, end)]
    matching = f"{len(ids):,} of {len(t):,} individuals match" if where.strip() else f"{len(t):,} individuals"
    some = f"{first + 1:,} to {end:,} shown" if end > first else "none shown"
    return Table(chosen, number, pages, len(ids), len(t), f"{matching}, {some}")


def cells(t: Trajectory, ids: Ids, names: Sequence[str]) -> dict[str, list[Any]]:
    """Return what stands in some columns: the words of choices, None where there is no value, infinities in words."""
    known = columns(t)
    table: dict[str, list[Any]] = {}
    for name in names:
        column = known[name]
        listed = column.values(ids).tolist()
        if column.kind == "choice":
            table[name] = [None if math.isnan(v) else column.choices[int(v)] for v in listed]
        elif column.kind == "number":
            table[name] = [None if math.isnan(v) else v if math.isfinite(v) else str(v) for v in listed]
        else:
            table[name] = listed
    return table


def _ranked(values: Floats, first: int, end: int) -> Ids:
    """Return who is at the places from ``first`` to ``end``, without sorting all."""
    missing = np.isnan(values)
    n = len(values) - int(missing.sum())
    parts = [np.flatnonzero(missing)[max(0, first - n) : max(0, end - n)]]
    last = min(end, n) - 1
    if first <= last:
        low, high = np.partition(np.where(missing, np.inf, values), (first, last))[[first, last]]
        between = np.flatnonzero((values >= low) & (values <= high))
        if low < high:
            between = between[np.argsort(values[between], kind="stable")]
        before = int((values < low).sum())
        parts.insert(0, between[first - before : last + 1 - before])
    return np.concatenate(parts)


class _Filter:
    """Reads a filter from left to right, and finds out who matches."""

    def __init__(self, where: str, t: Trajectory) -> None:
        if len(where) > _LONGEST:
            raise ConfigError(f"the filter is longer than {_LONGEST:,} characters")
        self._columns, self._n, self._tokens, at = columns(t), len(t), [], 0
        where = where.rstrip()
        while at < len(where):
            found = _TOKEN.match(where, at)
            if found is None:
                raise ConfigError(f"the filter makes no sense from {where[at : at + 20]!r} on; {_HELP}")
            self._tokens.append((str(found.lastgroup), found[str(found.lastgroup)]))
            at = found.end()
        self._depth = 0

    _tokens: list[tuple[str, str]]

    def mask(self) -> NDArray[np.bool_]:
        mask = self._any()
        if self._tokens:
            raise ConfigError(f"the filter has {self._tokens[0][1]!r} where 'and' or 'or' was expected; {_HELP}")
        return mask

    def _takes(self, kind: str, *texts: str) -> bool:
        """Go on if the next is one of these."""
        if self._tokens and self._tokens[0][0] == kind and self._tokens[0][1].lower() in texts:
            del self._tokens[0]
            return True
        return False

    def _any(self) -> NDArray[np.bool_]:
        mask = self._all()
        while self._takes("word", "or"):
            mask = mask | self._all()
        return mask

    def _all(self) -> NDArray[np.bool_]:
        mask = self._one()
        while self._takes("word", "and"):
            mask = mask & self._one()
        return mask

    def _one(self) -> NDArray[np.bool_]:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ConfigError(f"the filter has more than {_DEEPEST} brackets in one another")
        if self._takes("word", "not"):
            mask = ~self._one()
        elif self._takes("sign", "("):
            mask = self._any()
            if not self._takes("sign", ")"):
                raise ConfigError(f"the filter lacks a ')'; {_HELP}")
        else:
            mask = self._comparison()
        self._depth -= 1
        return mask

    def _comparison(self) -> NDArray[np.bool_]:
        name = self._text("the name of a column")
        column = self._columns.get(name)
        if column is None:
            some = ", ".join(list(self._columns)[:12])
            raise ConfigError(f"the filter names {name!r}, expected a column: {some}, ...")
        if not self._tokens or self._tokens[0][1] not in ("==", "~", *_COMPARE):
            raise ConfigError(f"the filter has no comparison after {name!r}: expected one of {', '.join(_COMPARE)}, ~")
        sign = self._tokens.pop(0)[1].replace("==", "=")
        return _compared(column, sign, self._text(f"a value to compare {name!r} with"))

    def _text(self, expected: str) -> str:
        if not self._tokens or self._tokens[0][0] == "sign":
            found = repr(self._tokens[0][1]) if self._tokens else "its end"
            raise ConfigError(f"the filter has {found} where {expected} was expected; {_HELP}")
        kind, text = self._tokens.pop(0)
        if kind == "word":
            return text
        try:
            return str(json.loads(text))
        except ValueError:
            raise ConfigError(f"the filter has {text}, expected text in double quotes, as in JSON") from None


def _compared(column: Column, sign: str, value: str) -> NDArray[np.bool_]:
    """Compare a column of all individuals."""
    values = column.values(slice(None))
    if column.kind == "number":
        return _compared_numbers(column, sign, value, values)
    if sign not in ("=", "!=", "~"):
        raise ConfigError(f"the filter has {column.name!r} {sign}, expected = or != or ~, for it has no numbers")
    if column.kind == "text":
        if sign == "~":
            return np.asarray(np.strings.find(values, value) >= 0)
        return np.asarray((values == value) == (sign == "="))
    if sign != "~" and value not in column.choices:
        raise ConfigError(f"the filter compares {column.name!r} with {value!r}, expected one of {list(column.choices)}")
    wanted = [i for i, c in enumerate(column.choices) if (value in c if sign == "~" else (c == value) == (sign == "="))]
    return np.isin(values, np.array(wanted, dtype=float))


def _compared_numbers(column: Column, sign: str, value: str, values: NDArray[Any]) -> NDArray[np.bool_]:
    try:
        number = float(value)
    except ValueError:
        raise ConfigError(f"the filter compares {column.name!r} with {value!r}, expected a number") from None
    if sign == "~":
        raise ConfigError(
            f"the filter has {column.name!r} ~, expected one of {', '.join(_COMPARE)}, for it has numbers"
        )
    with np.errstate(invalid="ignore"):
        mask = np.asarray(_COMPARE[sign](values, number))
    return mask & ~np.isnan(values) if sign == "!=" else mask
