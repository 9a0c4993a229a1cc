"""Cells in Arbor: ion-channel conductances fitted to features, traces and spikes of their responses to currents."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import product
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from l2l_dask.errors import EvaluationError, PluginError
from l2l_dask.evaluation import Objectives, minimize
from l2l_dask.optimizee import Context, Fitness, Optimizee, Target
from l2l_dask.space import Floats, Params, Real, Space
from optimizees._allen import FILES, Morphology, check_names, conductance_bounds, conductance_range
from optimizees._arbor import Cell
from optimizees._currents import BEFORE, SAMPLING, Current, Shape, held_out
from optimizees._options import check_integer, check_number
from optimizees._simulators import require
from optimizees._spike_features import Features, Step, error, features
from optimizees._trace_errors import rms, spike_distance, spike_times

Measure: TypeAlias = Literal["features", "trace", "spikes"]

_OBJECTIVES: dict[str, str] = {"features": "feature_error", "trace": "trace_error", "spikes": "spike_distance"}
_SHAPES = ("step", "ramp", "noise")


class _Response:
    """A voltage trace and what is measured of it, once and when it is asked for."""

    def __init__(self, voltage: Floats, step: Step) -> None:
        self.voltage, self._step = voltage, step

    @cached_property
    def features(self) -> Features:
        return features(self.voltage, self._step)

    @cached_property
    def spikes(self) -> Floats:
        return spike_times(self.voltage, self._step.interval)

    def error(self, measure: str, target: _Response) -> float:
        if measure == "features":
            return error(self.features, target.features)
        if measure == "trace":
            return rms(self.voltage, target.voltage)
        return spike_distance(self.spikes, target.spikes)


class ArborCell(Optimizee):
    """Fit the ion-channel conductances of one or several cortical neurons of the Allen Cell Types Database.

    A cell has its reconstructed dendrites, the axon stub, passive properties and channels of the model that the Allen
    Institute published for it ("perisomatic": the active channels sit in the soma). The target is the response of the
    published model to the same currents. With one cell, its conductances are searched, ``gbar_CHANNEL`` in S/cm2. With
    several cells, which differ in their conductances, one set of factors is searched for all of them:
    ``scale_CHANNEL`` times the published conductance of each cell, for the channels that all of them have. All ranges
    are logarithmic.

    The objectives are means over the responses of all cells to all currents, and 0 is a perfect fit:

    - ``feature_error`` sums the differences in the features of :mod:`optimizees._spike_features`, each in units of its
      tolerance: 11 means that each feature is about one tolerance off;
    - ``trace_error`` is the root mean square difference of the traces, in mV, sample by sample: a spike that is late
      counts as one too few and one too many;
    - ``spike_distance`` is van Rossum's distance of the spike trains (time constant 10 ms): 1 for one spike too many.

    Each evaluation saves the membrane potential at the soma: as ``voltage`` where there is one response, otherwise as
    ``voltage-CELL-SHAPE-AMPLITUDE``. It is deterministic. Needs the extra ``l2l-dask[arbor]``: Arbor, and bmtk, which
    is not imported: the cells are read from its data files.

    Parameters
    ----------
    morphology
        Which cell, or a list of several: scnn1a, rorb, nr5a1 (excitatory, layer 4), pvalb-470522102, pvalb-469628681
        (fast spiking).
    amplitude
        Mean of the current into the soma, nA, or a list of several: each cell responds to each.
    duration
        Of the current, ms; it starts after 50 ms and is followed by 50 ms.
    decades
        Width of each parameter's range, in powers of ten. For conductances the bounds are powers of ten themselves, so
        that the published value is somewhere in the middle part of the range, elsewhere for each channel; for factors
        likewise, with the geometric mean of the cells' published values.
    stimulus
        Shape of the current, or a list of several: step; ramp, from 0 to twice the amplitude; noise (standard
        deviation half of the amplitude, correlation time 5 ms, the same in all evaluations).
    errors
        What the objectives are, in this order: some of features, trace and spikes.
    """

    source: ClassVar[str] = "Gouwens et al. (2018), Nature Communications 9:710; Allen Cell Types Database"

    def __init__(
        self,
        morphology: Morphology | Sequence[Morphology] = "nr5a1",
        amplitude: float | Sequence[float] = 0.2,
        duration: float = 200.0,
        decades: int = 2,
        *,
        stimulus: Shape | Sequence[Shape] = "step",
        errors: Measure | Sequence[Measure] = ("features",),
    ) -> None:
        morphologies = _several("morphology", morphology, FILES)
        shapes = _several("stimulus", stimulus, _SHAPES)
        amplitudes = [check_number("amplitude", a) for a in _several("amplitude", amplitude)]
        self.duration = check_number("duration", duration, 1)
        decades = check_integer("decades", decades, 1)
        self._measures = _several("errors", errors, _OBJECTIVES)
        require("arbor", arbor="the simulator Arbor", bmtk="bmtk, whose data files the cells are read from,")
        self.cells = [Cell(m) for m in morphologies]
        self.currents = [Current(shape, a, self.duration) for shape, a in product(shapes, amplitudes)]
        self.space = Space(
            _conductances(self.cells[0], decades) if len(self.cells) == 1 else _factors(self.cells, decades)
        )
        self.objectives = Objectives([minimize(_OBJECTIVES[measure]) for measure in self._measures])
        self._step = Step(BEFORE, BEFORE + self.duration, SAMPLING)

    @property
    def published(self) -> Params:
        """The published models: the parameter set that the search should come near to, or an equivalent of."""
        if len(self.cells) > 1:
            return dict.fromkeys(self.space, 1.0)
        return dict(self.cells[0].published.conductances)

    @property
    def responses(self) -> list[str]:
        """The names under which the responses are saved, in the order of :meth:`simulate`'s."""
        pairs = list(product(self.cells, self.currents))
        if len(pairs) == 1:
            return ["voltage"]
        return [f"voltage-{cell.morphology}-{current.label}" for cell, current in pairs]

    @cached_property
    def _targets(self) -> list[_Response]:
        shape = len(self.responses), len(self.trace({}))
        return [_Response(voltage, self._step) for voltage in _checked_traces(self.target_traces(), shape)]

    def target_traces(self) -> Floats:
        """Return what the responses should be; override it to fit recordings instead of the published models.

        Returns
        -------
        (n_cells * n_currents, n_samples) array
            In the order, the unit and the sampling of :meth:`simulate`'s; else :meth:`setup` raises a PluginError.
        """
        return self.simulate(self.published, 0)

    def setup(self) -> None:
        """Import Arbor, read the morphologies and simulate the targets."""
        _ = self._targets

    def trace(self, params: Params, cell: Cell | None = None, current: Current | None = None) -> Floats:
        """Simulate the membrane potential at the soma, in mV, sampled every 0.1 ms.

        Parameters
        ----------
        params
            By name; those that are missing are as :attr:`published`.
        cell, current
            The first of :attr:`cells` and of :attr:`currents` unless given.

        Raises
        ------
        EvaluationError
            If there is no parameter of a name.
        """
        cell, current = cell or self.cells[0], current or self.currents[0]
        return cell.response(self._of(cell, params), current)

    def simulate(self, params: Params, seed: int) -> Floats:  # noqa: ARG002
        """Simulate the responses of all cells to all currents.

        Parameters
        ----------
        params
            By name; those that are missing are as :attr:`published`.
        seed
            Not used: nothing is random.

        Returns
        -------
        (n_cells * n_currents, n_samples) array
            Membrane potentials at the soma, in mV, sampled every 0.1 ms.
        """
        return np.array([self.trace(params, cell, current) for cell, current in product(self.cells, self.currents)])

    def evaluate(self, params: Params, context: Context) -> Fitness:
        voltages = self.simulate(params, context.seed)
        for name, voltage in zip(self.responses, voltages, strict=True):
            context.save(name, voltage.astype(np.float32))
        if not np.isfinite(voltages).all():
            raise EvaluationError(f"the membrane potential is not finite with {params}")
        found = [_Response(voltage, self._step) for voltage in voltages]
        errors = [_mean(measure, found, self._targets) for measure in self._measures]
        return errors[0] if len(errors) == 1 else errors

    def targets(self) -> dict[str, Target]:
        labels = {"label": "membrane potential (mV)", "step_label": "time (ms)"}
        return {
            name: Target(target.voltage.astype(np.float32), SAMPLING, **labels)
            for name, target in zip(self.responses, self._targets, strict=True)
        }

    def held_out_currents(self, seed: int = 1) -> dict[str, Current]:
        """Return currents that no search has seen, by name.

        ``step`` is a step of 1.25 times the strongest amplitude of the search, and ``noise`` is noise with the
        strongest amplitude as its mean, new for each seed (0 or more).
        """
        return held_out(max((current.amplitude for current in self.currents), key=abs), self.duration, seed)

    def held_out(self, params: Params, seed: int = 1) -> dict[str, float]:
        """Compare with the published models under the currents of :meth:`held_out_currents`.

        Parameters
        ----------
        params
            By name; those that are missing are as :attr:`published`.
        seed
            Of the noise, 0 or more.

        Returns
        -------
        dict
            For ``step`` and ``noise``: ``..._feature_error`` (tolerances), ``..._trace_error`` (mV) and
            ``..._spike_distance``, means over the cells; ``..._spikes`` and ``..._target_spikes``, sums over the cells.
        """
        report: dict[str, float] = {}
        for name, current in self.held_out_currents(seed).items():
            found, wanted = (
                [_Response(self.trace(p, cell, current), self._step) for cell in self.cells]
                for p in (params, self.published)
            )
            for measure, objective in _OBJECTIVES.items():
                report[f"{name}_{objective}"] = _mean(measure, found, wanted)
            report[f"{name}_spikes"] = float(sum(len(response.spikes) for response in found))
            report[f"{name}_target_spikes"] = float(sum(len(response.spikes) for response in wanted))
        return report

    def _of(self, cell: Cell, params: Params) -> Params:
        """Return the conductances of one cell."""
        check_names(params, self.published)
        if len(self.cells) == 1:
            return params
        published = cell.published.conductances
        names = {name: f"gbar_{name.removeprefix('scale_')}" for name in params}
        return {gbar: published[gbar] * params[name] for name, gbar in names.items()}


def _checked_traces(given: Any, shape: tuple[int, int]) -> Floats:
    """Refuse targets that do not match the responses, sample by sample.

    Raises
    ------
    PluginError
        With what was expected.
    """
    expected = f"target_traces: expected {shape} numbers in mV (responses, samples), sampled every {SAMPLING:g} ms"
    try:
        traces = np.asarray(given, dtype=float)
    except (TypeError, ValueError) as error:  # rows of several lengths
        raise PluginError(f"{expected}, got no array of numbers: {error}") from None
    if traces.shape != shape:
        raise PluginError(f"{expected}, got {traces.shape}")
    if not np.isfinite(traces).all():
        raise PluginError(f"{expected}, got {np.count_nonzero(~np.isfinite(traces))} that are not finite")
    return traces


def _mean(measure: str, found: list[_Response], wanted: list[_Response]) -> float:
    return sum(f.error(measure, w) for f, w in zip(found, wanted, strict=True)) / len(wanted)


def _several(option: str, given: Any, known: Iterable[str] | None = None) -> list[Any]:
    """Read an option that is one value or several different ones.

    Raises
    ------
    PluginError
        If there are none, one is unknown, or one is there twice.
    """
    values = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    for value in values:
        if known is not None and value not in known:
            raise PluginError(f"{option}: expected one of {', '.join(known)}, got {value!r}")
    if not values or len(set(values)) < len(values):
        raise PluginError(f"{option}: expected one or several different values, got {given!r}")
    return values


def _conductances(cell: Cell, decades: int) -> dict[str, Real]:
    return {name: conductance_range(value, decades) for name, value in cell.published.conductances.items()}


def _factors(cells: Sequence[Cell], decades: int) -> dict[str, Real]:
    """Return the ranges of the factors of those channels that all cells have."""
    published = [cell.published.conductances for cell in cells]
    ranges = {}
    for name in published[0]:
        if all(name in conductances for conductances in published):
            middle = math.exp(sum(math.log(conductances[name]) for conductances in published) / len(cells))
            low, high = conductance_bounds(middle, decades)
            ranges[f"scale_{name.removeprefix('gbar_')}"] = Real(low / middle, high / middle, log=True)
    return ranges
