"""A spiking reservoir in NEST: a random recurrent network of excitatory and inhibitory neurons, driven by pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

import numpy as np

from l2l_dask.errors import PluginError
from l2l_dask.space import Floats
from optimizees._digits import PIXELS, STEP, Coding, Showing
from optimizees._options import check_number

_REST, _THRESHOLD, _REFRACTORY, _CAPACITY = -65.0, -50.0, 2.0, 250.0  # mV, mV, ms, pF
_EXCITATORY = 0.8  # share of the neurons
_LIMITS = {
    "input_weight": (0.0, math.inf),
    "input_degree": (1, math.inf),
    "weight": (0.0, math.inf),
    "inhibition": (0.0, math.inf),
    "indegree": (1, math.inf),
    "tau_m": (STEP, math.inf),
    "delay": (STEP, math.inf),
    "bias": (-math.inf, math.inf),
    "input_rate": (0.0, 1000.0 / STEP),  # no more than one spike in a time step
}


@dataclass(frozen=True)
class Reservoir:
    """The hyper-parameters of the reservoir; the defaults are a hand-tuned start.

    Each neuron is a leaky integrate-and-fire neuron that a spike moves at once by the weight (``iaf_psc_delta``): it
    rests at -65 mV, spikes at -50 mV and is refractory for 2 ms. Four in five are excitatory.

    Parameters
    ----------
    input_weight
        Standard deviation of the weights of a pixel's spikes, mV; their mean is 0.
    input_degree
        Pixels that a neuron sees, drawn at random.
    weight
        Of an excitatory spike within the reservoir, mV.
    inhibition
        How much stronger an inhibitory one is.
    indegree
        Excitatory neurons that a neuron listens to, drawn at random, and a quarter as many inhibitory ones.
    tau_m
        Membrane time constant, ms.
    delay
        Of the connections within the reservoir, ms.
    bias
        Constant drive, as the depolarisation in mV that it alone leads to: 15 reaches the threshold.
    input_rate
        Spikes per second of the brightest pixel.

    Raises
    ------
    PluginError
        Naming the one that cannot be.
    """

    input_weight: float = 4.7
    input_degree: int = 16
    weight: float = 0.2
    inhibition: float = 7.5
    indegree: int = 20
    tau_m: float = 10.0
    delay: int = 2
    bias: float = 8.0
    input_rate: float = 300.0

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            whole = isinstance(getattr(Reservoir, name), int)
            if not (math.isfinite(value) and low <= value <= high) or (whole and value != int(value)):
                kind = "a whole number" if whole else "a number"
                raise PluginError(f"{name}: expected {kind} from {low:g} to {high:g}, got {value!r}")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Reservoir:
        """Take those that have names of this class."""
        names = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in given.items() if name in names})

    def build(self, nest: Any, neurons: int, images: Floats, showing: Showing, rng: np.random.Generator) -> Any:
        """Create the reservoir and its input in NEST's kernel; the wiring follows from the kernel's seed.

        Parameters
        ----------
        images : (n, 64) array
            Shown one after the other.
        rng
            Draws the spikes of the pixels.

        Returns
        -------
        NodeCollection
            The reservoir's neurons.
        """
        excitatory, sources = round(_EXCITATORY * neurons), max(1, int(self.indegree) // 4)
        cells = nest.Create("iaf_psc_delta", neurons, params=neuron(self.tau_m, self.bias))
        trains = [{"spike_times": times} for times in showing.spike_times(images, rng)]
        pixels = nest.Create("spike_generator", PIXELS, params=trains)
        weights = nest.random.normal(0.0, float(self.input_weight))
        for source, indegree, weight, delay in (
            (pixels, self.input_degree, weights, STEP),
            (cells[:excitatory], self.indegree, float(self.weight), float(self.delay)),
            (cells[excitatory:], sources, -float(self.inhibition * self.weight), float(self.delay)),
        ):
            rule = {"rule": "fixed_indegree", "indegree": int(indegree)}
            nest.Connect(source, cells, rule, {"weight": weight, "delay": delay})
        return cells


def neuron(tau_m: float, bias: float) -> dict[str, float]:
    """Parameters of a neuron; ``bias`` is the depolarisation in mV that its constant input leads to."""
    return {
        "tau_m": float(tau_m),
        "C_m": _CAPACITY,
        "E_L": _REST,
        "V_m": _REST,
        "V_reset": _REST,
        "V_th": _THRESHOLD,
        "t_ref": _REFRACTORY,
        "I_e": float(bias) * _CAPACITY / float(tau_m),
    }


def check_network(neurons: int, duration: float, pause: float, coding: str) -> None:
    """Refuse networks, times and codings that cannot be.

    Raises
    ------
    PluginError
    """
    if neurons < 5:
        raise PluginError(f"neurons: expected at least 5, four excitatory and one inhibitory, got {neurons!r}")
    for name, value, least in (("duration", duration, STEP), ("pause", pause, 0.0)):
        if not least <= check_number(name, value) < 1e6 or value % STEP:
            raise PluginError(f"{name}: expected a multiple of {STEP:g} ms, at least {least:g}, got {value!r}")
    if coding not in get_args(Coding):
        raise PluginError(f"coding: expected one of {', '.join(get_args(Coding))}, got {coding!r}")
