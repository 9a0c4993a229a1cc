"""Simulations of a whole brain with The Virtual Brain, whose import is kept from changing the process."""

from __future__ import annotations

import logging.config
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from l2l_dask.errors import EvaluationError, PluginError
from l2l_dask.space import Floats
from optimizees._connectomes import Connectome
from optimizees._simulators import imported

INTEGRATORS = (
    "HeunStochastic",
    "EulerStochastic",
    "HeunDeterministic",
    "EulerDeterministic",
    "RungeKutta4thOrderDeterministic",
    "Dopri5",
    "Dopri5Stochastic",
    "Dop853",
    "Dop853Stochastic",
    "VODE",
    "VODEStochastic",
)
MONITORS = ("TemporalAverage", "SubSample", "Raw", "Bold", "AfferentCoupling", "AfferentCouplingTemporalAverage")
# Where the weights hold the coupling's strength, its own factor (None: it has none) is to leave them as they are.
COUPLINGS: Mapping[str, str | None] = {
    "Linear": "a",
    "Scaling": "a",
    "Difference": "a",
    "Kuramoto": "a",
    "HyperbolicTangent": "a",
    "Sigmoidal": None,
    "SigmoidalJansenRit": "a",
}
PHASES = ("Kuramoto",)  # models of a phase, which grows without bounds: its sine is what a region does


@dataclass(frozen=True)
class Setting:
    """What the simulations of one search have in common; times in ms.

    Attributes
    ----------
    model, coupling, integrator, monitor
        Names of TVB's classes.
    variable
        Of the model: what is monitored.
    dt
        Step of the integration.
    period
        Between two samples of the monitor.
    transient, duration
        How long it runs before anything is kept, and then.
    initial
        State variable to the range from which its past is drawn; the others have the model's own.
    """

    model: str
    coupling: str
    integrator: str
    monitor: str
    variable: str
    dt: float
    period: float
    transient: float
    duration: float
    initial: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def stochastic(self) -> bool:
        return self.integrator.endswith("Stochastic")


def simulate(
    setting: Setting, connectome: Connectome, parameters: Mapping[str, Any], drive: Mapping[str, float], seed: int
) -> Floats:
    """Simulate a brain.

    Parameters
    ----------
    parameters
        Of the model: one number, or one for each region.
    drive
        ``coupling`` (by which the weights are multiplied), ``speed`` (mm/ms) and ``noise`` (TVB's ``nsig``).
    seed
        Of the noise and of the initial conditions.

    Returns
    -------
    (samples, regions) array

    Raises
    ------
    EvaluationError
        If the activity does not stay finite.
    """
    load(setting.model)
    simulator = _build(setting, connectome, parameters, drive, seed)
    start = simulator.current_step * setting.dt  # its past has taken some steps
    begin = start + max(setting.transient, setting.period)  # the first average of a monitor is not a whole one
    samples = []
    with np.errstate(all="ignore"):  # what is not finite is reported below
        for ((time, sample),) in simulator(simulation_length=setting.transient + setting.duration):
            activity = sample[0].mean(axis=-1)  # over the modes
            if not np.isfinite(activity).all():
                raise EvaluationError(
                    f"the activity of {setting.model} is not finite after {time - start:g} ms: a shorter dt (it is "
                    f"{setting.dt:g} ms) or narrower parameters may help; {dict(parameters) | dict(drive)}"
                )
            if time - begin > 0.01 * setting.dt:
                samples.append(activity)
    return np.array(samples)


@cache
def load(model: str) -> None:
    """Import TVB and a model, which compiles what the model needs."""
    with _unchanged_process():
        imported("tvb.simulator.simulator", "The Virtual Brain", "tvb")
        _class("simulator.models", model)


def _build(
    setting: Setting, connectome: Connectome, parameters: Mapping[str, Any], drive: Mapping[str, float], seed: int
) -> Any:
    of_noise, of_past = np.random.SeedSequence(seed).generate_state(2)
    model = _class("simulator.models", setting.model)(
        **{name: np.atleast_1d(np.asarray(value, dtype=float)) for name, value in parameters.items()},
        variables_of_interest=(setting.variable,),
    )
    network = _connectivity(connectome, drive)
    integrator = _class("simulator.integrators", setting.integrator)(dt=setting.dt)
    if setting.stochastic:
        noise = _class("simulator.noise", "Additive")(nsig=np.array([drive["noise"]]), noise_seed=int(of_noise))
        integrator.noise = noise
    network.configure()
    network.set_idelays(setting.dt)  # which says how long a past is needed
    simulator = _class("simulator.simulator", "Simulator")(
        model=model,
        connectivity=network,
        coupling=_coupling(setting.coupling, connectome.regions),
        integrator=integrator,
        monitors=(_monitor(setting),),
        initial_conditions=_past(setting, model, (network.horizon, connectome.regions), of_past),
    )
    simulator.configure()
    if setting.model in PHASES:
        model.observe = np.sin
    return simulator


def _past(setting: Setting, model: Any, shape: tuple[int, int], seed: int) -> Floats:
    """Draw the activity before the first step, (steps, variables, regions, modes); TVB's would also draw from numpy."""
    unknown = set(setting.initial) - set(model.state_variables)
    if unknown:
        raise PluginError(f"initial: {setting.model} has {', '.join(model.state_variables)}, got {sorted(unknown)}")
    steps, regions = shape
    random = np.random.RandomState(seed)
    past = np.empty((steps, model.nvar, regions, model.number_of_modes))
    for i, name in enumerate(model.state_variables):
        low, high = setting.initial.get(name, model.state_variable_range[name])
        past[:, i] = random.uniform(low, high, (steps, regions, model.number_of_modes))
    return past


def _connectivity(connectome: Connectome, drive: Mapping[str, float]) -> Any:
    return _class("datatypes.connectivity", "Connectivity")(
        weights=drive["coupling"] * connectome.weights,
        tract_lengths=connectome.lengths,
        speed=np.array([float(drive["speed"])]),
        centres=np.zeros((connectome.regions, 3)),  # which nothing here looks at
        region_labels=np.array([f"{i}" for i in range(connectome.regions)]),
    )


def _coupling(name: str, regions: int) -> Any:
    factor = COUPLINGS[name]
    # TVB divides Kuramoto's by the number of regions.
    own = {} if factor is None else {factor: np.array([float(regions) if name == "Kuramoto" else 1.0])}
    return _class("simulator.coupling", name)(**own)


def _monitor(setting: Setting) -> Any:
    kind = _class("simulator.monitors", setting.monitor)
    return kind() if setting.monitor in ("Raw", "AfferentCoupling") else kind(period=setting.period)


def _class(module: str, name: str) -> Any:
    return getattr(import_module(f"tvb.{module}"), name)


@contextmanager
def _unchanged_process() -> Iterator[None]:
    """Keep TVB, while it is imported, from what it does besides.

    It makes a folder in the user's home for its logs; it closes all log handlers and sets its own, on the root logger
    too; it warns of what its own declarations lack; and it sets a variable of the environment. The folder is not made
    elsewhere either: a process that is killed meanwhile would leave it there.
    """
    settings = imported("tvb.basic.config.profile_settings", "The Virtual Brain", "tvb").BaseSettingsProfile
    environment, configure, make_folders = dict(os.environ), logging.config.fileConfig, settings.initialize_profile
    logger = logging.getLogger("tvb")
    level = logger.level
    settings.initialize_profile = lambda _: None
    logging.config.fileConfig = lambda *_, **__: None
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        logging.config.fileConfig = configure
        settings.initialize_profile = make_folders
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
