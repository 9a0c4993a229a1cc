"""What is searched of a model of The Virtual Brain unless the user says otherwise, and how it is simulated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from l2l_dask.errors import PluginError, SpaceError
from l2l_dask.space import Categorical, Parameter, Real, Space
from optimizees._tvb_names import declared, one_of

Range: TypeAlias = Sequence[float] | Mapping[str, Any]

COUPLING, SPEED, NOISE = DRIVE = "coupling", "speed", "noise"
_SPEED = Real(2.0, 30.0, log=True)  # mm/ms, of myelinated fibres
_FEWEST = 20  # samples, from which on a correlation means something
_BOLD = {"period": 720.0, "transient": 20000.0, "duration": 72000.0}  # ms: the HCP's repetition time, TVB's kernel
_BOLD_STEP = 4.0  # ms, which TVB averages before it convolves


@dataclass(frozen=True)
class Usual:
    """How a model is usually simulated and searched here; times in ms."""

    coupling: str = "Linear"
    dt: float = 1.0
    period: float = 10.0
    transient: float = 1000.0
    duration: float = 7000.0
    initial: Mapping[str, Sequence[float]] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)
    space: Mapping[str, Parameter] = field(
        default_factory=lambda: {
            COUPLING: Real(0.01, 10.0, log=True),
            SPEED: _SPEED,
            NOISE: Real(1e-6, 1e-2, log=True),
        }
    )


_WILSON_COWAN = {
    "c_ee": 16.0,
    "c_ei": 12.0,
    "c_ie": 15.0,
    "c_ii": 3.0,
    "a_e": 1.3,
    "b_e": 4.0,
    "a_i": 2.0,
    "b_i": 3.7,
}


def _space(
    coupling: tuple[float, float], noise: tuple[float, float], **local: tuple[float, float]
) -> dict[str, Parameter]:
    return {
        COUPLING: Real(*coupling, log=True),
        SPEED: _SPEED,
        NOISE: Real(*noise, log=True),
        **{name: Real(*bounds) for name, bounds in local.items()},
    }


_USUAL = {
    "Generic2dOscillator": Usual(space=_space((0.3, 5.0), (1e-4, 0.03), a=(-2.0, 2.0), tau=(1.0, 3.0))),
    # omega in rad/ms: 0.05 to 0.4 is 8 to 64 Hz.
    "Kuramoto": Usual("Kuramoto", space=_space((1e-3, 0.1), (1e-3, 0.1), omega=(0.05, 0.4))),
    "SupHopf": Usual(
        "Difference",
        initial={"x": (-0.3, 0.3), "y": (-0.3, 0.3)},  # from -5 to 5, as TVB has it, it explodes
        space=_space((0.01, 0.4), (1e-5, 1e-2), a=(-0.05, 0.2), omega=(0.02, 0.4)),
    ),
    "ReducedWongWang": Usual(  # slow: synapses of 100 ms
        dt=5.0,
        period=50.0,
        transient=3000.0,
        duration=27000.0,
        space=_space((0.1, 1.0), (1e-6, 1e-3), w=(0.4, 1.0), I_o=(0.29, 0.32)),
    ),
    "WilsonCowan": Usual(  # the limit cycle of Wilson and Cowan (1972), Biophysical Journal 12:1, figure 11
        period=20.0,
        constants=_WILSON_COWAN,
        space=_space((1.0, 30.0), (1e-6, 1e-3), P=(0.5, 1.5)),
    ),
    "KIonEx": Usual(initial={"Kg": (-4.0, 4.0)}),  # from -20 on, as TVB has it, there can be less than no potassium
}


def usual(model: str) -> Usual:
    """Return how a model is usually simulated; of one that is not known here, only the drive is searched."""
    return _USUAL.get(model, Usual())


def searched(model: str, parameters: Mapping[str, Range], *, noisy: bool, regions: int) -> Space:
    """Build the space that a user asked for.

    Parameters
    ----------
    parameters
        Name, of the model's or of :data:`DRIVE`, to ``[low, high]`` or to an entry as in ``[space]``.
    noisy
        Whether there is noise to search.
    regions
        How many values a parameter has that differs between regions.

    Raises
    ------
    PluginError
        If a name is not known (with those that are near), or its range makes no sense.
    """
    names = known(model, noisy=noisy)
    entries: dict[str, Any] = {}
    for name, bounds in parameters.items():
        one_of(f"parameters of {model}", name, names)
        if isinstance(bounds, Mapping):
            entries[name] = bounds
        elif isinstance(bounds, Sequence) and len(bounds) == 2:
            entries[name] = {"low": bounds[0], "high": bounds[1]}
        else:
            raise PluginError(f"parameters: {name}: expected [low, high] or {{low = .., high = ..}}, got {bounds!r}")
    try:
        space = Space.from_dict(entries)
    except SpaceError as error:
        raise PluginError(f"parameters: {error}") from None
    for name, parameter in space.items():
        shape = parameter.shape
        if isinstance(parameter, Categorical) or (shape and (shape != (regions,) or name in DRIVE)):
            raise PluginError(
                f"parameters: {name}: expected one number"
                f"{'' if name in DRIVE else f', or shape = [{regions}], a number for each region'}, got {parameter}"
            )
        check_drive("parameters", name, -math.inf if parameter.low is None else parameter.low)
    return space


def check_drive(option: str, name: str, value: float) -> None:
    """Refuse a speed or a noise that cannot be; of others, nothing is known here.

    Raises
    ------
    PluginError
        With what was expected.
    """
    if name == SPEED and not value > 0:
        raise PluginError(f"{option}: {name}: expected more than 0 mm/ms, got {value!r}")
    if name == NOISE and not value >= 0:
        raise PluginError(f"{option}: {name}: expected 0 or more, got {value!r}")


def known(model: str, *, noisy: bool) -> list[str]:
    """Name what can be searched or fixed."""
    return [name for name in DRIVE if noisy or name != NOISE] + list(declared(model).parameters)


def times(usual: Usual, monitor: str, given: Mapping[str, float | None]) -> dict[str, float]:
    """Complete and check dt, period, transient and duration, in ms.

    Raises
    ------
    PluginError
        If one is impossible, or they do not fit each other.
    """
    own = {name: getattr(usual, name) for name in given} | (_BOLD if monitor == "Bold" else {})
    found = {name: float(own[name] if value is None else value) for name, value in given.items()}
    for name, value in found.items():
        if not 0 <= value < math.inf or (value == 0 and name != "transient"):
            raise PluginError(f"{name}: expected a positive number of ms, got {value!r}")
    if monitor == "Raw":
        found["period"] = found["dt"]
    steps = [("period", found["period"], found["dt"])]
    if monitor == "Bold":  # whose inner step TVB would round
        steps += [("Bold's inner step of 4 ms", _BOLD_STEP, found["dt"]), ("period", found["period"], _BOLD_STEP)]
    for what, whole, part in steps:
        n = whole / part
        if round(n) < 1 or not math.isclose(n, round(n)):
            raise PluginError(f"dt, period: {what} must be a multiple of {part:g} ms, got {whole:g} ms")
    if found["duration"] < _FEWEST * found["period"]:
        raise PluginError(
            f"duration: expected at least {_FEWEST} samples of {found['period']:g} ms, got {found['duration']:g} ms"
        )
    return found
