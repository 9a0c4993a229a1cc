"""What a running evaluation says of its learning curve, and how it learns that it is to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

CURVE = "learning_curve"  # the saved array with the (step, value) pairs of ``context.report``

Point: TypeAlias = tuple[float, float]
Points: TypeAlias = Sequence[Point]
Reports: TypeAlias = Mapping[int, Points]


class Stopped(BaseException):
    """Raised by ``context.report`` in an evaluation that the search has stopped early; no ``Exception`` on purpose."""


@dataclass(frozen=True)
class Report:
    """Points of one individual's learning curve.

    Attributes
    ----------
    id
        The individual's.
    first
        Which point of the curve the first of these is, from 0: the same in every attempt.
    points
        (step, value) pairs; none to ask only whether it is to stop.
    place
        Where it is evaluated, in the executor's words.
    """

    id: int
    first: int
    points: tuple[Point, ...]
    place: str = ""


Listener: TypeAlias = Callable[[Report], bool]  # whether the individual is to stop


@dataclass(frozen=True)
class Order:
    """These individuals are to stop."""

    ids: frozenset[int]
