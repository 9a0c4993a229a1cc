"""Units of time: for an axis, and in words."""

from __future__ import annotations

_UNITS = ((2 * 86_400, 86_400.0, "d"), (2 * 3600, 3600.0, "h"), (120, 60.0, "min"), (0, 1.0, "s"))
UNIT_NAMES = {"d": "days", "h": "hours", "min": "minutes", "s": "seconds"}


def unit(seconds: float) -> tuple[float, str]:
    """Choose a unit of time, and how many seconds it has, for what is so long."""
    return next((scale, name) for least, scale, name in _UNITS if seconds >= least or least == 0)


def duration(seconds: float, *, brief: bool = False) -> str:
    """Say how long something takes, in a unit that suits it."""
    size, name = unit(seconds)
    value = seconds / size
    said = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # which has an exponent from 1000 on
    return f"{said} {name if brief else UNIT_NAMES[name]}"
