"""A published cell of the Allen Cell Types Database in Arbor."""

from __future__ import annotations

import io
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from l2l_dask.errors import PluginError
from l2l_dask.space import Floats
from optimizees import _allen
from optimizees._allen import TAGS, Published
from optimizees._currents import AFTER, BEFORE, SAMPLING, Current
from optimizees._simulators import imported

_SOMA = "(location 0 1)"  # the middle: Arbor, like NEURON, halves a soma of one sample
_MAX_EXTENT = 40.0  # um, of one control volume
_TIME_STEP = 0.025  # ms
_ZERO_CELSIUS = 273.15
_CPU = Path("/proc/cpuinfo")


class Cell:
    """One cell: its published model, and its response to a current with any conductances.

    Parameters
    ----------
    morphology
        A key of :data:`optimizees._allen.FILES`.

    Raises
    ------
    PluginError
        If the installed bmtk does not have it.
    """

    def __init__(self, morphology: str) -> None:
        self.morphology = morphology
        self.published = _allen.published(morphology)

    @cached_property
    def _loaded(self) -> Any:
        """Arbor's morphology and labels, which cannot be pickled."""
        return _load(_allen.reconstruction(self.morphology))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_loaded"}

    def response(self, conductances: Mapping[str, float], current: Current) -> Floats:
        """Simulate the membrane potential at the soma.

        Parameters
        ----------
        conductances
            In S/cm2, by name; those that are missing are as published.
        current
            Into the soma.

        Returns
        -------
        (n,) array
            mV, sampled every 0.1 ms, from 50 ms before the current starts to 50 ms after it.
        """
        arbor = simulator()
        ms = arbor.units.ms
        decor = _decor(arbor, self.published, self.published.conductances | dict(conductances))
        decor.place(_SOMA, _clamp(arbor, current))
        policy = arbor.cv_policy_max_extent(_MAX_EXTENT * arbor.units.um)
        model = arbor.single_cell_model(arbor.cable_cell(self._loaded.morphology, decor, self._loaded.labels, policy))
        model.properties.catalogue.extend(arbor.allen_catalogue(), "")
        model.probe("voltage", _SOMA, "soma", 1 / SAMPLING * arbor.units.kHz)
        model.run((BEFORE + current.duration + AFTER) * ms, _TIME_STEP * ms)
        return np.array(model.traces[0].value)


def _decor(arbor: Any, model: Published, conductances: Mapping[str, float]) -> Any:
    """Paint the model with other conductances."""
    u = arbor.units
    decor = arbor.decor()
    decor.set_property(
        Vm=model.initial * u.mV, tempK=(model.celsius + _ZERO_CELSIUS) * u.Kelvin, rL=model.resistivity * u.Ohm * u.cm
    )
    inside, outside = _allen.CALCIUM_INSIDE * u.mM, _allen.CALCIUM_OUTSIDE * u.mM
    decor.set_ion("ca", int_con=inside, ext_con=outside, method="nernst/x=ca")
    for section, cm in model.capacitance.items():
        decor.paint(_region(section), cm=cm * u.uF / u.cm2)
    for section, potentials in model.reversal.items():
        for ion, potential in potentials.items():
            decor.paint(_region(section), ion=ion, rev_pot=potential * u.mV)
    for section, g in model.leak.items():
        decor.paint(_region(section), arbor.density(f"pas/e={model.leak_reversal!r}", {"g": g}))
    decor.paint(_region("soma"), arbor.density("CaDynamics", model.calcium))
    for name, g in conductances.items():
        decor.paint(_region("soma"), arbor.density(name.removeprefix("gbar_"), {"gbar": float(g)}))
    return decor


def _clamp(arbor: Any, current: Current) -> Any:
    ms, current_unit = arbor.units.ms, arbor.units.nA
    if current.shape == "step":
        return arbor.i_clamp(BEFORE * ms, current.duration * ms, current.amplitude * current_unit)
    times, values = (a.tolist() for a in current.points())
    corners = [*zip(times, values, strict=True), (times[-1], 0.0)]  # Arbor holds the last value for ever
    return arbor.i_clamp([(t * ms, value * current_unit) for t, value in corners])


def _region(section: str) -> str:
    return f"(tag {TAGS[section]})"


def _load(path: Path) -> Any:
    """Read a reconstruction and put the published models' stub in place of its axon, which they leave out."""
    samples = [line.split() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    soma = next(sample for sample in samples if int(sample[1]) == TAGS["soma"])
    kept = [sample for sample in samples if int(sample[1]) != TAGS["axon"]]
    first = 1 + max(int(sample[0]) for sample in samples)
    x, y, z = (float(coordinate) for coordinate in soma[2:5])
    for id, parent, distance in ((first, soma[0], 0.0), (first + 1, first, _allen.AXON_LENGTH)):
        kept.append([str(v) for v in (id, TAGS["axon"], x, y - distance, z, _allen.AXON_RADIUS, parent)])
    return simulator().load_swc_neuron(io.StringIO("\n".join(" ".join(sample) for sample in kept)))


def simulator() -> Any:
    """Import Arbor.

    Raises
    ------
    PluginError
        If it is not installed, or this processor cannot execute it.
    """
    if "arbor" not in sys.modules:
        _require_avx2()
    return imported("arbor", "the simulator Arbor", "arbor")


def _require_avx2() -> None:
    """Refuse what would otherwise end the process: Arbor's wheel executes AVX2 instructions while it is imported."""
    if platform.machine() != "x86_64" or not _CPU.is_file() or " avx2" in _CPU.read_text():
        return
    if subprocess.run([sys.executable, "-c", "import arbor"], capture_output=True, check=False).returncode < 0:
        raise PluginError("Arbor's wheel needs a processor with AVX2, this one has none: build Arbor from source")
