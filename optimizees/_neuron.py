"""NEURON in a process that is not its own: imported without side effects, run without traces."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from l2l_dask.space import Floats
from optimizees._allen import CALCIUM_INSIDE, CALCIUM_OUTSIDE
from optimizees._currents import AFTER, BEFORE, SAMPLING, Current
from optimizees._simulators import imported

TIME_STEP = 0.025  # ms
# NEURON takes them over while it is imported, and gives them back with other flags: a system call that waits would be
# restarted after Ctrl-C, not ended by it, and faulthandler would no longer have a stack of its own.
_SIGNALS = (signal.SIGINT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV)
# What a simulation depends on beside the cell; calcium's are there only where a mechanism that uses it is loaded.
_GLOBALS = ("celsius", "dt", "secondorder", "t", "cai0_ca_ion", "cao0_ca_ion", "usetable_hh")
_VALUES = {"secondorder": 0, "cai0_ca_ion": CALCIUM_INSIDE, "cao0_ca_ion": CALCIUM_OUTSIDE, "usetable_hh": 1}
_SIGACTION = 512  # bytes, more than the structure has anywhere
_OPTIONS = "NEURON_MODULE_OPTIONS"


def neuron() -> Any:
    """Import NEURON, without a window, and return its top level.

    Raises
    ------
    PluginError
        If it cannot be imported, with the reason.
    """
    if "neuron" not in sys.modules:
        before = os.environ.get(_OPTIONS)
        os.environ[_OPTIONS] = before or "-nogui"
        try:
            with _signals_as_they_are():
                return imported("neuron", "the simulator NEURON", "neuron").h
        finally:
            if before is None:
                del os.environ[_OPTIONS]
            else:
                os.environ[_OPTIONS] = before
    return imported("neuron", "the simulator NEURON", "neuron").h


def response(h: Any, soma: Any, current: Current, initial: float, celsius: float) -> Floats:
    """Simulate with the fixed time step of 0.025 ms, and return the potential in the middle of a soma.

    The global variables that it depends on are set, and as they were afterwards: temperature, time, step and order of
    the integration, the initial calcium, whether the channels of Hodgkin and Huxley are read off a table. Other
    sections that there are in the process are simulated as well, as NEURON always does; they change nothing here.

    Parameters
    ----------
    h
        NEURON's top level.
    soma
        The section.
    current
        Into its middle.
    initial, celsius
        Potential to start from (mV), and temperature.

    Returns
    -------
    (n,) array
        mV, sampled every 0.1 ms, from 50 ms before the current starts to 50 ms after it.
    """
    clamp = h.IClamp(soma(0.5))
    clamp.delay, clamp.dur = BEFORE, current.duration
    times, values = (h.Vector(array) for array in current.points())
    values.play(clamp._ref_amp, times, True)
    voltage = h.Vector().record(soma(0.5)._ref_v)
    with _fixed_steps(h):
        h.celsius, h.dt = celsius, TIME_STEP
        h.finitialize(initial)
        advance = h.fadvance  # looking it up takes as long as a third of a step
        for _ in range(round((BEFORE + current.duration + AFTER) / TIME_STEP)):
            advance()
    return np.array(voltage)[: -1 : round(SAMPLING / TIME_STEP)]  # as_numpy() would keep its memory for ever


@contextmanager
def sections(h: Any) -> Iterator[list[Any]]:
    """Remove sections afterwards: those that are put into the list."""
    made: list[Any] = []
    try:
        yield made
    finally:
        for section in made:
            h.delete_section(sec=section)


@contextmanager
def _fixed_steps(h: Any) -> Iterator[None]:
    """Set NEURON's global variables and its adaptive integrator off, and put them back afterwards."""
    before, adaptive = {name: getattr(h, name) for name in _GLOBALS if hasattr(h, name)}, h.CVode()
    active = adaptive.active()
    adaptive.active(False)
    try:
        for name in _VALUES.keys() & before.keys():
            setattr(h, name, _VALUES[name])
        yield
    finally:
        for name, value in before.items():
            setattr(h, name, value)
        adaptive.active(active)


@contextmanager
def _signals_as_they_are() -> Iterator[None]:
    """Keep the handlers with their flags, which Python knows nothing of."""
    act = ctypes.CDLL(None).sigaction
    before = {number: ctypes.create_string_buffer(_SIGACTION) for number in _SIGNALS}
    for number, handler in before.items():
        act(int(number), None, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            act(int(number), handler, None)
