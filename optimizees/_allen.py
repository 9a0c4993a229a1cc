"""The published cells of the Allen Cell Types Database that bmtk ships: what is the same in every simulator.

The models are "perisomatic": reconstructed dendrites, a stub in place of the axon, and the active channels in the soma
alone. bmtk is not imported, its data files are read where it is installed.

Source: Gouwens et al. (2018), "Systematic generation of biophysically detailed models for diverse cortical neuron
types", Nature Communications 9:710.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from l2l_dask.errors import EvaluationError, PluginError
from l2l_dask.space import Real

Morphology: TypeAlias = Literal["scnn1a", "rorb", "nr5a1", "pvalb-470522102", "pvalb-469628681"]

#: Cell -> its reconstruction and the parameters that the Allen Institute published for it, as bmtk ships them.
FILES: Mapping[str, tuple[str, str]] = {
    "scnn1a": ("Scnn1a_473845048_m.swc", "472363762_fit.json"),
    "rorb": ("Rorb_325404214_m.swc", "473863510_fit.json"),
    "nr5a1": ("Nr5a1_471087815_m.swc", "473863035_fit.json"),
    "pvalb-470522102": ("Pvalb_470522102_m.swc", "472912177_fit.json"),
    "pvalb-469628681": ("Pvalb_469628681_m.swc", "473862421_fit.json"),
}
#: Section of a published model -> its tag in the SWC file.
TAGS: Mapping[str, int] = {"soma": 1, "axon": 2, "dend": 3, "apic": 4}
AXON_LENGTH, AXON_RADIUS = 60.0, 0.5  # um, of the stub that the published models have for an axon
CALCIUM_INSIDE, CALCIUM_OUTSIDE = 5e-5, 2.0  # mM, NEURON's and the channels' defaults


@dataclass(frozen=True)
class Published:
    """A model as the Allen Institute published it: S/cm2, uF/cm2, mV, Ohm cm, degrees Celsius.

    Attributes
    ----------
    conductances
        ``gbar_CHANNEL`` -> value, of the soma's channels, without those that the fit left out (0).
    calcium
        The parameters ``gamma`` and ``decay`` of the soma's ``CaDynamics``.
    leak, capacitance
        Section (a key of :data:`TAGS`) -> value.
    reversal
        Section -> ion (``na``, ``k``) -> reversal potential.
    leak_reversal, resistivity, celsius, initial
        Of the whole cell; ``initial`` is the potential to start from.
    """

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
    def read(cls, path: Path) -> Published:
        """Read one of bmtk's files, ``*_fit.json``."""
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


def published(morphology: str) -> Published:
    """Read the published model of a cell.

    Raises
    ------
    PluginError
        If the installed bmtk does not have it.
    """
    return Published.read(data_file("biophysical_neuron_models", FILES[morphology][1]))


def reconstruction(morphology: str) -> Path:
    """Find the reconstruction of a cell, an SWC file with the whole axon.

    Raises
    ------
    PluginError
        If the installed bmtk does not have it.
    """
    return data_file("morphologies", FILES[morphology][0])


def data_file(folder: str, name: str) -> Path:
    """Find a data file of the installed bmtk without importing it.

    Raises
    ------
    PluginError
        If there is none of that name.
    """
    spec = importlib.util.find_spec("bmtk")
    for place in (spec.submodule_search_locations if spec else None) or []:
        path = Path(place, "utils", "scripts", "bionet", folder, name)
        if path.is_file():
            return path
    raise PluginError(f"the installed bmtk has no {folder}/{name}: pip install --no-deps 'bmtk>=1.2'")


def check_names(given: Iterable[str], known: Collection[str]) -> None:
    """Refuse parameters that a cell does not have: without a word, they would leave it as published, a perfect fit.

    Raises
    ------
    EvaluationError
        Naming the first one, and those that there are.
    """
    unknown = [name for name in given if name not in known]
    if unknown:
        raise EvaluationError(f"the cell's parameters: expected some of {', '.join(known)}, got {unknown[0]!r}")


def conductance_range(value: float, decades: int) -> Real:
    """Return :func:`conductance_bounds` as a range on a logarithmic scale."""
    low, high = conductance_bounds(value, decades)
    return Real(low, high, log=True)


def conductance_bounds(value: float, decades: int) -> tuple[float, float]:
    """Return bounds around a published conductance that are so many powers of ten apart.

    They are powers of ten themselves: the published value is in the middle part of the range, elsewhere for each
    channel, so that no optimizer finds it by trying the middle.
    """
    low = math.floor(math.log10(value) - (decades - 1) / 2)
    return 10.0**low, 10.0 ** (low + decades)
