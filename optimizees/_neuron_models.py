"""What NeuronCell can search: a published cell of the Allen Institute, and Hodgkin and Huxley's channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from l2l_dask.space import Params
from optimizees import _neuron_mechanisms
from optimizees._allen import AXON_LENGTH, AXON_RADIUS, TAGS, published, reconstruction

_MAX_EXTENT = 40.0  # um, of one segment, as in the published models
_AXON_SECTIONS = 2

Point: TypeAlias = tuple[float, float, float, float]  # x, y, z and diameter, um


class Model(Protocol):
    """A cell whose parameters are searched.

    Attributes
    ----------
    reference
        The parameters to find again.
    initial, celsius
        Potential to start from (mV), and temperature.
    """

    @property
    def reference(self) -> Params: ...

    @property
    def initial(self) -> float: ...

    @property
    def celsius(self) -> float: ...

    def prepare(self, h: Any) -> None:
        """Do once what all simulations of this process share."""

    def build(self, h: Any, params: Params, made: list[Any]) -> Any:
        """Make the cell's sections, put each into ``made`` at once, and return the soma."""


@dataclass(frozen=True)
class Branch:
    """An unbranched piece of a reconstruction: which region, where it is attached, and its points."""

    region: str
    parent: int | None
    parent_x: float
    points: tuple[Point, ...]


class AllenCell:
    """A published cell: reconstructed dendrites, a stub of an axon, and active channels in the soma.

    Parameters
    ----------
    morphology
        A key of :data:`optimizees._allen.FILES`.

    Raises
    ------
    PluginError
        If the installed bmtk does not have it, or its channels are not compiled and cannot be.
    """

    def __init__(self, morphology: str) -> None:
        self._morphology = morphology
        self._published = published(morphology)
        self._branches: list[Branch] = []
        self._prefix = ""
        _neuron_mechanisms.require()

    @property
    def reference(self) -> Params:
        return dict(self._published.conductances)

    @property
    def initial(self) -> float:
        return self._published.initial

    @property
    def celsius(self) -> float:
        return self._published.celsius

    def prepare(self, h: Any) -> None:
        self._prefix = _neuron_mechanisms.load(h)
        self._branches = self._branches or branches(h, str(reconstruction(self._morphology)))

    def build(self, h: Any, params: Params, made: list[Any]) -> Any:
        for branch in self._branches:
            made.append(section := h.Section(name=branch.region))
            for point in branch.points:
                section.pt3dadd(*point)
            if branch.parent is not None:
                section.connect(made[branch.parent](branch.parent_x))
            self._make_passive(section, branch.region)
        soma = made[0]
        end = soma(0.5)
        for _ in range(_AXON_SECTIONS):
            made.append(axon := h.Section(name="axon"))
            axon.L, axon.diam = AXON_LENGTH / _AXON_SECTIONS, 2 * AXON_RADIUS
            axon.connect(end)
            self._make_passive(axon, "axon")
            end = axon(1)
        self._make_active(soma, params)
        return soma

    def _make_passive(self, section: Any, region: str) -> None:
        model = self._published
        section.nseg = 1 + 2 * int(section.L / _MAX_EXTENT)
        section.Ra, section.cm = model.resistivity, model.capacitance[region]
        section.insert("pas")
        section.g_pas, section.e_pas = model.leak[region], model.leak_reversal

    def _make_active(self, soma: Any, params: Params) -> None:
        model = self._published
        values = {"CaDynamics": model.calcium}
        values |= {name.removeprefix("gbar_"): {"gbar": value} for name, value in params.items()}
        for channel, its in values.items():
            soma.insert(self._prefix + channel)
            mechanism = getattr(soma(0.5), self._prefix + channel)  # the soma has one segment
            for name, value in its.items():
                setattr(mechanism, name, value)
        soma.ena, soma.ek = model.reversal["soma"]["na"], model.reversal["soma"]["k"]


class BallAndStick:
    """A soma with Hodgkin and Huxley's channels of the squid, and a passive dendrite: all of it built into NEURON.

    The soma is 20 um long and wide, the dendrite 400 um long and 2 um wide; 1 uF/cm2, 6.3 degrees Celsius.
    """

    initial, celsius = -65.0, 6.3

    @property
    def reference(self) -> Params:
        return {"gnabar": 0.12, "gkbar": 0.036, "gl": 3e-4, "g_pas": 1e-4, "Ra": 100.0}

    def prepare(self, h: Any) -> None:
        """Nothing is shared."""

    def build(self, h: Any, params: Params, made: list[Any]) -> Any:
        made.append(soma := h.Section(name="soma"))
        made.append(dendrite := h.Section(name="dend"))
        soma.L = soma.diam = 20.0
        dendrite.L, dendrite.diam = 400.0, 2.0
        dendrite.nseg = 1 + 2 * int(dendrite.L / _MAX_EXTENT)
        dendrite.connect(soma(1))
        for section in made:
            section.cm, section.Ra = 1.0, params["Ra"]
        soma.insert("hh")
        soma.gnabar_hh, soma.gkbar_hh, soma.gl_hh = params["gnabar"], params["gkbar"], params["gl"]
        soma.ena, soma.ek, soma.el_hh = 50.0, -77.0, -54.3
        dendrite.insert("pas")
        dendrite.g_pas, dendrite.e_pas = params["g_pas"], self.initial
        return soma


class _Holder:
    """What Import3d puts a cell's sections into; it must be possible to refer to it weakly."""


def branches(h: Any, path: str) -> list[Branch]:
    """Read a reconstruction without its axon by NEURON's own Import3d, as the published models do.

    Reading takes longer than a simulation may, building the cell from what was read does not.
    """
    h.load_file("stdlib.hoc")
    h.load_file("import3d.hoc")
    reader, cell = h.Import3d_SWC_read(), _Holder()
    reader.input(path)
    h.Import3d_GUI(reader, False).instantiate(cell)
    made = {region: list(getattr(cell, region, [])) for region in TAGS}
    kept = [(region, section) for region, sections in made.items() for section in sections if region != "axon"]
    index = {section: i for i, (_, section) in enumerate(kept)}
    try:
        return [_branch(region, section, index) for region, section in kept]
    finally:
        for section in (section for sections in made.values() for section in sections):
            h.delete_section(sec=section)


def _branch(region: str, section: Any, index: dict[Any, int]) -> Branch:
    parent = section.parentseg()
    points = tuple(
        (section.x3d(i), section.y3d(i), section.z3d(i), section.diam3d(i)) for i in range(int(section.n3d()))
    )
    return Branch(region, parent and index[parent.sec], parent.x if parent else 0.0, points)
