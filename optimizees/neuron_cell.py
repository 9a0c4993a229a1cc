"""A single cell in NEURON: ion-channel conductances fitted to features of its response to a current step."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np

from l2l_dask.errors import EvaluationError, PluginError
from l2l_dask.evaluation import minimize
from l2l_dask.optimizee import Context, Optimizee, Target
from l2l_dask.space import Floats, Params, Space
from optimizees._allen import FILES, Morphology, check_names, conductance_range
from optimizees._currents import BEFORE, SAMPLING, Current, held_out
from optimizees._neuron import neuron, response, sections
from optimizees._neuron_models import AllenCell, BallAndStick, Model
from optimizees._options import check_integer, check_number
from optimizees._simulators import require
from optimizees._spike_features import Features, Step, error, features
from optimizees._trace_errors import rms, spike_distance, spike_times

ModelName: TypeAlias = Literal["allen", "hh"]


class NeuronCell(Optimizee):
    """Fit the ion-channel conductances of a cell in NEURON to its response to a current step.

    There are two models. ``allen`` is a cortical neuron of the Allen Cell Types Database as it was published, the same
    as in ``arbor-cell``: reconstructed dendrites, an axon stub, and active channels in the soma alone, whose
    conductances ``gbar_CHANNEL`` are searched. Its channels are compiled when it is first used on a machine, which
    takes 15 s, g++ or clang++, and make; the library is kept in ``~/.cache/l2l-dask`` (or below ``XDG_CACHE_HOME``).
    ``hh`` needs no compiler: a soma with the channels of Hodgkin and Huxley and a passive dendrite, where ``gnabar``,
    ``gkbar`` and ``gl`` of the soma, ``g_pas`` of the dendrite (all in S/cm2) and the axial resistivity ``Ra`` (Ohm cm)
    are searched. All ranges are logarithmic.

    The target is the response of the published model, or of the textbook's parameters, to the same step. The fitness
    ``feature_error`` sums the differences in the features of :mod:`optimizees._spike_features`, each in units of its
    tolerance: 0 is a perfect fit, and 11 means that each feature is about one tolerance off.

    Each evaluation saves the membrane potential at the soma as ``voltage``. It is deterministic. Needs the extra
    ``l2l-dask[neuron]``: NEURON, and for ``allen`` bmtk, which is not imported: the cells and their channels are read
    from its data files.

    Parameters
    ----------
    model
        ``allen`` or ``hh``.
    morphology
        Which cell of the Allen Institute: scnn1a, rorb, nr5a1 (excitatory, layer 4), pvalb-470522102 or
        pvalb-469628681 (fast spiking). The model ``hh`` has a shape of its own.
    amplitude
        Of the current step into the soma, nA.
    duration
        Of the step, ms; it starts after 50 ms and is followed by 50 ms.
    decades
        Width of each parameter's range, in powers of ten. The bounds are powers of ten themselves, so that the
        published value is somewhere in the middle part of the range, elsewhere for each parameter.
    """

    source: ClassVar[str] = (
        "Gouwens et al. (2018), Nature Communications 9:710; Hodgkin and Huxley (1952), Journal of Physiology 117:500"
    )

    def __init__(
        self,
        model: ModelName = "allen",
        morphology: Morphology = "nr5a1",
        amplitude: float = 0.2,
        duration: float = 200.0,
        decades: int = 2,
    ) -> None:
        if model not in get_args(ModelName):
            raise PluginError(f"model: expected one of {', '.join(get_args(ModelName))}, got {model!r}")
        if morphology not in FILES:
            raise PluginError(f"morphology: expected one of {', '.join(FILES)}, got {morphology!r}")
        self.current = Current("step", check_number("amplitude", amplitude), check_number("duration", duration, 1))
        decades = check_integer("decades", decades, 1)
        require("neuron", neuron="the simulator NEURON")
        if model == "allen":
            require("neuron", bmtk="bmtk, whose data files the cells are read from,")
        self.model = model
        self._model: Model = AllenCell(morphology) if model == "allen" else BallAndStick()
        self.space = Space({name: conductance_range(v, decades) for name, v in self.published.items()})
        self.objectives = minimize("feature_error")
        self._step = Step(BEFORE, BEFORE + self.current.duration, SAMPLING)

    @property
    def published(self) -> Params:
        """The model's published values: what the search should come near to, or an equivalent of."""
        return self._model.reference

    @cached_property
    def _target(self) -> Floats:
        return self.trace(self.published)

    @cached_property
    def _target_features(self) -> Features:
        return features(self._target, self._step)

    @cached_property
    def _simulator(self) -> Any:
        """NEURON with all that the model needs, which cannot be pickled."""
        h = neuron()
        self._model.prepare(h)
        return h

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_simulator"}

    def setup(self) -> None:
        """Import NEURON, load the channels, compile them if need be, and simulate the target."""
        _ = self._target_features

    def trace(self, params: Params, current: Current | None = None) -> Floats:
        """Simulate the membrane potential at the soma, in mV, sampled every 0.1 ms.

        Parameters
        ----------
        params
            By name; those that are missing are as :attr:`published`.
        current
            The step of the options unless given.

        Raises
        ------
        EvaluationError
            If the model has no parameter of a name.
        """
        check_names(params, self.published)
        h, model = self._simulator, self._model
        with sections(h) as made:
            soma = model.build(h, self.published | params, made)
            return response(h, soma, current or self.current, model.initial, model.celsius)

    def simulate(self, params: Params, seed: int) -> Floats:  # noqa: ARG002
        """Simulate the membrane potential at the soma.

        Parameters
        ----------
        params
            By name; those that are missing are as :attr:`published`.
        seed
            Not used: nothing is random.

        Returns
        -------
        (n,) array
            mV, sampled every 0.1 ms.
        """
        return self.trace(params)

    def evaluate(self, params: Params, context: Context) -> float:
        voltage = self.simulate(params, context.seed)
        context.save("voltage", voltage.astype(np.float32))
        if not np.isfinite(voltage).all():
            raise EvaluationError(f"the membrane potential is not finite with {params}")
        return error(features(voltage, self._step), self._target_features)

    def targets(self) -> dict[str, Target]:
        values = self._target.astype(np.float32)
        return {"voltage": Target(values, SAMPLING, label="membrane potential (mV)", step_label="time (ms)")}

    def held_out_currents(self, seed: int = 1) -> dict[str, Current]:
        """Return the currents of :meth:`held_out`: a step of 1.25 times the search's amplitude, and noise."""
        return held_out(self.current.amplitude, self.current.duration, seed)

    def held_out(self, params: Params, seed: int = 1) -> dict[str, float]:
        """Compare with the published model under currents that no search has seen.

        These are a step of 1.25 times the search's amplitude, and noise with that amplitude as its mean and 0.5 of it
        as its standard deviation, new for each seed.

        Parameters
        ----------
        params
            By name; those that are missing are as :attr:`published`.
        seed
            Of the noise, 0 or more.

        Returns
        -------
        dict
            For ``step`` and ``noise``: ``..._feature_error`` (tolerances), ``..._trace_error`` (mV),
            ``..._spike_distance`` (van Rossum), ``..._spikes`` and ``..._target_spikes``.
        """
        report: dict[str, float] = {}
        for name, current in self.held_out_currents(seed).items():
            found, wanted = self.trace(params, current), self.trace(self.published, current)
            spikes, wanted_spikes = spike_times(found, SAMPLING), spike_times(wanted, SAMPLING)
            report |= {
                f"{name}_feature_error": error(features(found, self._step), features(wanted, self._step)),
                f"{name}_trace_error": rms(found, wanted),
                f"{name}_spike_distance": spike_distance(spikes, wanted_spikes),
                f"{name}_spikes": float(len(spikes)),
                f"{name}_target_spikes": float(len(wanted_spikes)),
            }
        return report
