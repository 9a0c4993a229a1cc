"""A single cell in Arbor: ion-channel conductances fitted to features of its response to a current step."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import math
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from l2l_dask.errors import EvaluationError, PluginError
from l2l_dask.evaluation import minimize
from l2l_dask.optimizee import Context, Optimizee, Target
from l2l_dask.space import Floats, Params, Real, Space
from optimizees._spike_features import Features, Step, error, features

Morphology = Literal["scnn1a", "rorb", "nr5a1", "pvalb-470522102", "pvalb-469628681"]

# Morphology -> its reconstruction and the parameters that the Allen Institute published for it, as bmtk ships them.
_FILES: dict[str, tuple[str, str]] = {
    "scnn1a": ("Scnn1a_473845048_m.swc", "472363762_fit.json"),
    "rorb": ("Rorb_325404214_m.swc", "473863510_fit.json"),
    "nr5a1": ("Nr5a1_471087815_m.swc", "473863035_fit.json"),
    "pvalb-470522102": ("Pvalb_470522102_m.swc", "472912177_fit.json"),
    "pvalb-469628681": ("Pvalb_469628681_m.swc", "473862421_fit.json"),
}
_TAGS = {"soma": 1, "axon": 2, "dend": 3, "apic": 4}
_SOMA = "(location 0 1)"  # the middle: Arbor, like NEURON, halves a soma of one sample
_AXON_LENGTH, _AXON_RADIUS = 60.0, 0.5  # um, as in the published models
_MAX_EXTENT = 40.0  # um, of one control volume
_TIME_STEP, _SAMPLING = 0.025, 0.1  # ms
_BEFORE, _AFTER = 50.0, 50.0  # ms without current
_CALCIUM_INSIDE, _CALCIUM_OUTSIDE = 5e-5, 2.0  # mM, NEURON's and the channels' defaults
_ZERO_CELSIUS = 273.15
_CPU = Path("/proc/cpuinfo")
_INSTALL = "pip install 'l2l-dask[arbor]'"


class ArborCell(Optimizee):
    """Fit the ion-channel conductances of a cortical neuron of the Allen Cell Types Database.

    The cell has its reconstructed dendrites, the axon stub, passive properties and channels of the model that the Allen
    Institute published for it ("perisomatic": the active channels sit in the soma). Its conductances, in S/cm2, are
    searched on a logarithmic scale; the target is the response of the published model to the same current step. The
    fitness ``feature_error`` sums the differences in the features of :mod:`optimizees._spike_features`, each in units
    of its tolerance: 0 is a perfect fit, and 11 means that each feature is about one tolerance off.

    Each evaluation saves the membrane potential at the soma as ``voltage``. It is deterministic. Needs the extra
    ``l2l-dask[arbor]``: Arbor, and bmtk, which is not imported: the cells are read from its data files.

    Parameters
    ----------
    morphology
        Which cell: scnn1a, rorb, nr5a1 (excitatory, layer 4), pvalb-470522102 or pvalb-469628681 (fast spiking).
    amplitude
        Of the current step into the soma, nA.
    duration
        Of the step, ms; it starts after 50 ms and is followed by 50 ms.
    decades
        Width of each conductance's range, in powers of ten. The bounds are powers of ten themselves, so that the
        published value is somewhere in the middle part of the range, elsewhere for each channel.
    """

    source: ClassVar[str] = "Gouwens et al. (2018), Nature Communications 9:710; Allen Cell Types Database"

    def __init__(
        self, morphology: Morphology = "nr5a1", amplitude: float = 0.2, duration: float = 200.0, decades: int = 2
    ) -> None:
        if morphology not in _FILES:
            raise PluginError(f"morphology: expected one of {', '.join(_FILES)}, got {morphology!r}")
        if not math.isfinite(amplitude):
            raise PluginError(f"amplitude: expected a finite current in nA, got {amplitude!r}")
        if not 1 <= duration < math.inf:
            raise PluginError(f"duration: expected at least 1 ms, got {duration!r}")
        if decades < 1:
            raise PluginError(f"decades: expected 1 or more, got {decades!r}")
        _require_packages()
        self.morphology, self.amplitude, self.duration = morphology, float(amplitude), float(duration)
        self._step = Step(_BEFORE, _BEFORE + self.duration, _SAMPLING)
        self._published = _Published.read(_file("biophysical_neuron_models", _FILES[morphology][1]))
        self.space = Space({name: _range(value, decades) for name, value in self.published.items()})
        self.objectives = minimize("feature_error")

    @property
    def published(self) -> Params:
        """The published conductances: the parameter set that the search should come near to, or an equivalent of."""
        return dict(self._published.conductances)

    @cached_property
    def _target(self) -> Floats:
        return self.trace(self.published)

    @cached_property
    def _target_features(self) -> Features:
        return features(self._target, self._step)

    @cached_property
    def _cell(self) -> Any:
        """Arbor's morphology and labels, which cannot be pickled."""
        return _load(_file("morphologies", _FILES[self.morphology][0]))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_cell"}

    def setup(self) -> None:
        """Import Arbor, read the morphology and simulate the target."""
        _ = self._target_features

    def trace(self, params: Params) -> Floats:
        """Simulate the membrane potential at the soma, in mV, sampled every 0.1 ms.

        Parameters
        ----------
        params
            Conductances by name; those that are missing are as :attr:`published`.
        """
        arbor = _arbor()
        ms = arbor.units.ms
        decor = self._published.decor(arbor, self.published | params)
        decor.place(_SOMA, arbor.i_clamp(_BEFORE * ms, self.duration * ms, self.amplitude * arbor.units.nA))
        policy = arbor.cv_policy_max_extent(_MAX_EXTENT * arbor.units.um)
        model = arbor.single_cell_model(arbor.cable_cell(self._cell.morphology, decor, self._cell.labels, policy))
        model.properties.catalogue.extend(arbor.allen_catalogue(), "")
        model.probe("voltage", _SOMA, "soma", 1 / _SAMPLING * arbor.units.kHz)
        model.run((_BEFORE + self.duration + _AFTER) * ms, _TIME_STEP * ms)
        return np.array(model.traces[0].value)

    def evaluate(self, params: Params, context: Context) -> float:
        voltage = self.trace(params)
        context.save("voltage", voltage.astype(np.float32))
        if not np.isfinite(voltage).all():
            raise EvaluationError(f"the membrane potential is not finite with {params}")
        return error(features(voltage, self._step), self._target_features)

    def targets(self) -> dict[str, Target]:
        values = self._target.astype(np.float32)
        return {"voltage": Target(values, _SAMPLING, label="membrane potential (mV)", step_label="time (ms)")}


@dataclass(frozen=True)
class _Published:
    """A model as the Allen Institute published it: S/cm2, uF/cm2, mV, Ohm cm, degrees Celsius."""

    conductances: dict[str, float]
    calcium: dict[str, float]
    leak: dict[str, float]
    capacitance: dict[str, float]
    reversal: dict[str, dict[str, float]]
    leak_reversal: float
    resistivity: float
    celsius: float
    initial: float

    @classmethod
    def read(cls, path: Path) -> _Published:
        fit = json.loads(path.read_text())
        passive, conditions, genome = fit["passive"][0], fit["conditions"][0], fit["genome"]
        values = {(gene["section"], gene["name"]): float(gene["value"]) for gene in genome}
        return cls(
            # A channel that the fit left out cannot be searched on a logarithmic scale.
            conductances={name: v for (_, name), v in sorted(values.items()) if name.startswith("gbar_") and v > 0},
            calcium={name.partition("_")[0]: v for (_, name), v in values.items() if name.endswith("_CaDynamics")},
            leak={section: v for (section, name), v in values.items() if name == "g_pas"},
            capacitance={entry["section"]: entry["cm"] for entry in passive["cm"]},
            reversal={entry["section"]: {"na": entry["ena"], "k": entry["ek"]} for entry in conditions["erev"]},
            leak_reversal=passive["e_pas"],
            resistivity=passive["ra"],
            celsius=conditions["celsius"],
            initial=conditions["v_init"],
        )

    def decor(self, arbor: Any, conductances: Params) -> Any:
        """Paint the model with other conductances."""
        u = arbor.units
        decor = arbor.decor()
        decor.set_property(
            Vm=self.initial * u.mV, tempK=(self.celsius + _ZERO_CELSIUS) * u.Kelvin, rL=self.resistivity * u.Ohm * u.cm
        )
        decor.set_ion("ca", int_con=_CALCIUM_INSIDE * u.mM, ext_con=_CALCIUM_OUTSIDE * u.mM, method="nernst/x=ca")
        for section, cm in self.capacitance.items():
            decor.paint(_region(section), cm=cm * u.uF / u.cm2)
        for section, potentials in self.reversal.items():
            for ion, potential in potentials.items():
                decor.paint(_region(section), ion=ion, rev_pot=potential * u.mV)
        for section, g in self.leak.items():
            decor.paint(_region(section), arbor.density(f"pas/e={self.leak_reversal!r}", {"g": g}))
        decor.paint(_region("soma"), arbor.density("CaDynamics", self.calcium))
        for name, g in conductances.items():
            decor.paint(_region("soma"), arbor.density(name.removeprefix("gbar_"), {"gbar": float(g)}))
        return decor


def _region(section: str) -> str:
    return f"(tag {_TAGS[section]})"


def _range(published: float, decades: int) -> Real:
    low = math.floor(math.log10(published) - (decades - 1) / 2)
    return Real(10.0**low, 10.0 ** (low + decades), log=True)


def _load(path: Path) -> Any:
    """Read a reconstruction and put the published models' stub in place of its axon, which they leave out."""
    samples = [line.split() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    soma = next(sample for sample in samples if int(sample[1]) == _TAGS["soma"])
    kept = [sample for sample in samples if int(sample[1]) != _TAGS["axon"]]
    first = 1 + max(int(sample[0]) for sample in samples)
    x, y, z = (float(coordinate) for coordinate in soma[2:5])
    for id, parent, distance in ((first, soma[0], 0.0), (first + 1, first, _AXON_LENGTH)):
        kept.append([str(v) for v in (id, _TAGS["axon"], x, y - distance, z, _AXON_RADIUS, parent)])
    return _arbor().load_swc_neuron(io.StringIO("\n".join(" ".join(sample) for sample in kept)))


def _file(folder: str, name: str) -> Path:
    """Find a data file of the installed bmtk without importing it."""
    spec = importlib.util.find_spec("bmtk")
    for place in (spec.submodule_search_locations if spec else None) or []:
        path = Path(place, "utils", "scripts", "bionet", folder, name)
        if path.is_file():
            return path
    raise PluginError(f"the installed bmtk has no {folder}/{name}: pip install --no-deps 'bmtk>=1.2'")


def _require_packages() -> None:
    if importlib.util.find_spec("arbor") is None:
        raise PluginError(f"the simulator Arbor is not installed: {_INSTALL}")
    if importlib.util.find_spec("bmtk") is None:
        raise PluginError(
            f"the cells are read from bmtk, which is not installed: {_INSTALL}, or pip install --no-deps bmtk"
        )


def _arbor() -> Any:
    if "arbor" not in sys.modules:
        _require_avx2()
    try:
        return importlib.import_module("arbor")
    except ImportError as failure:
        raise PluginError(f"the simulator Arbor cannot be imported ({failure}): {_INSTALL}") from failure


def _require_avx2() -> None:
    """Refuse what would otherwise end the process: Arbor's wheel executes AVX2 instructions while it is imported."""
    if platform.machine() != "x86_64" or not _CPU.is_file() or " avx2" in _CPU.read_text():
        return
    if subprocess.run([sys.executable, "-c", "import arbor"], capture_output=True, check=False).returncode < 0:
        raise PluginError("Arbor's wheel needs a processor with AVX2, this one has none: build Arbor from source")
