"""A spiking network in NEST that drives an environment of Gymnasium, by default the mountain car."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import PluginError
from l2l_dask.evaluation import maximize
from l2l_dask.optimizee import Context, Optimizee
from l2l_dask.space import Floats, Params, Real, Space
from optimizees._gymnasium import EXTRA, Counts, Decoding, Encoding, Environment, decoding, encoding, gymnasium
from optimizees._nest import fresh_kernel, nest, require_nest
from optimizees._options import check_integer, check_positive

FitnessName = Literal["auto", "furthest", "return"]

_MOUNTAIN_CARS = ("MountainCar-v0", "MountainCarContinuous-v0")
_PUBLISHED_STEPS = {"MountainCar-v0": 109}
_MODEL = "iaf_psc_delta"  # weights in mV, exact at any resolution
_REST = -70.0  # mV, NEST's default; 15 mV below the threshold
_CURRENT = 1000.0  # pA, into an input neuron at its preferred value: three spikes in 20 ms; below 375 pA there are none
_RESOLUTION, _DELAY = 0.5, 1.0  # ms
_PAUSE = 10.0  # ms: longer than the two delays and the refractory time (2 ms), so that no spike is on its way after it


@dataclass(frozen=True)
class Episode:
    """What happened from one start to the end.

    Attributes
    ----------
    observations : (steps + 1, dims) array
        From the start on.
    actions : (steps,) or (steps, action dims) array
    spikes : (steps, outputs) array
        Spike counts of the output neurons in each step.
    rewards : (steps,) array
    terminated : bool
        Whether the environment ended it, and not the limit of steps.
    """

    observations: NDArray[np.float32]
    actions: NDArray[Any]
    spikes: Counts
    rewards: Floats
    terminated: bool

    @property
    def steps(self) -> int:
        return len(self.rewards)

    @property
    def total(self) -> float:
        """The return: the sum of the rewards."""
        return float(self.rewards.sum())

    @property
    def furthest(self) -> float:
        """The largest value of the first dimension of the observation."""
        return float(self.observations[:, 0].max())


def starts(seed: int, number: int, *, unseen: bool = False) -> list[int]:
    """Draw seeds for an environment's ``reset``: even ones for evaluations, odd ones for what they have not seen."""
    drawn = np.random.SeedSequence(seed).generate_state(number)
    return [int(state) // 2 * 2 + unseen for state in drawn]


class NestGymnasium(Optimizee):
    """Search the weights of a spiking network that acts in an environment of Gymnasium.

    Input neurons (a population code of the observation), hidden neurons and output neurons, connected from layer to
    layer, all to all: for the mountain car 30 + 30, 5 and 3 leaky integrate-and-fire neurons with 315 weights, as
    published for L2L. A spike moves the membrane potential of its target by the weight, in mV; the threshold is 15 mV
    above rest. In each step of the environment the network runs for ``step_ms``. Of discrete actions the one whose
    output neuron spiked most is taken; a continuous action is the mean of its neurons' preferred values, weighted with
    their spikes.

    The fitness is the mean over the episodes. ``furthest`` is the largest value that the first dimension of the
    observation (the car's position) reached, plus, where the goal was, the fraction of the steps that are left;
    ``mean_return`` is the sum of the rewards. Saves the first episode: ``observations``, ``actions``, and ``spikes`` of
    the output neurons in each step. Starts derive from ``context.seed``, so that each individual has its own; the
    network itself is deterministic. Needs the extra ``l2l-dask[gymnasium]``.

    Parameters
    ----------
    environment
        Its id, or ``module:id`` of one that the import of a module registers. Observations must be a Box, actions
        Discrete or a Box with bounds.
    environment_options
        Keyword arguments for ``gymnasium.make``.
    max_steps
        Steps after which an episode ends; None is 109 for the mountain car, as published, and else the environment's
        own limit.
    episodes
        Per evaluation, each with a start of its own.
    fitness
        ``furthest`` (for environments whose episodes end at a goal), ``return``, or ``auto``: furthest for the
        mountain cars, return for the others.
    ranges
        [low, high] for each dimension of the observation, which its neurons cover; None is the environment's own
        bounds, and where it has none the range that 1000 steps of random play reach.
    neurons_per_dim
        Input neurons for each dimension of the observation.
    tuning_width
        Standard deviation of the input neurons' tuning curves, as a fraction of the range. The wider, the more alike
        the network acts in states that are alike.
    hidden
        Number of hidden neurons.
    neurons_per_action
        Output neurons for each dimension of a continuous action.
    step_ms
        How long the network runs for each step of the environment, ms.
    max_weight
        The weights are searched between minus this and this, mV.
    """

    source: ClassVar[str] = "Yegenoglu et al. (2022), Frontiers in Computational Neuroscience 16:885207"

    def __init__(
        self,
        environment: str = "MountainCar-v0",
        *,
        environment_options: Mapping[str, Any] | None = None,
        max_steps: int | None = None,
        episodes: int = 1,
        fitness: FitnessName = "auto",
        ranges: Sequence[Sequence[float]] | None = None,
        neurons_per_dim: int = 30,
        tuning_width: float = 0.1,
        hidden: int = 5,
        neurons_per_action: int = 5,
        step_ms: float = 20.0,
        max_weight: float = 20.0,
    ) -> None:
        self.episodes, hidden = check_integer("episodes", episodes, 1), check_integer("hidden", hidden, 1)
        neurons_per_dim = check_integer("neurons_per_dim", neurons_per_dim, 2)
        neurons_per_action = check_integer("neurons_per_action", neurons_per_action, 2)
        tuning_width = check_positive("tuning_width", tuning_width)
        max_weight = check_positive("max_weight", max_weight)
        self.step_ms = check_positive("step_ms", step_ms)
        if step_ms % _DELAY:
            raise PluginError(f"step_ms: expected a multiple of {_DELAY} ms, got {step_ms!r}")
        if fitness not in ("auto", "furthest", "return"):
            raise PluginError(f"fitness: expected 'auto', 'furthest' or 'return', got {fitness!r}")
        require_nest(EXTRA, gymnasium="Gymnasium")
        self.environment = Environment.find(environment, {} if environment_options is None else environment_options)
        self.max_steps = _limit(self.environment, max_steps)
        if fitness == "auto":
            fitness = "furthest" if self.environment.id in _MOUNTAIN_CARS else "return"
        self.fitness: Literal["furthest", "return"] = fitness
        made = self.environment.make()
        try:
            self.decoding: Decoding = decoding(made, neurons_per_action)
            self.encoding: Encoding = encoding(made, neurons_per_dim, tuning_width, ranges)
        finally:
            made.close()
        inputs = neurons_per_dim * len(self.encoding.low)
        self.space = Space(
            {
                "input_weights": Real(-max_weight, max_weight, shape=(hidden, inputs)),
                "output_weights": Real(-max_weight, max_weight, shape=(self.decoding.neurons, hidden)),
            }
        )
        self.objectives = maximize("furthest" if self.fitness == "furthest" else "mean_return")

    def setup(self) -> None:
        """Import NEST and Gymnasium."""
        nest(EXTRA)
        gymnasium()

    def simulate(self, params: Params, seed: int) -> list[Episode]:
        """Let a network act in :attr:`episodes` episodes.

        Parameters
        ----------
        params
            ``input_weights``, (hidden, inputs) array, and ``output_weights``, (outputs, hidden) array, in mV.
        seed
            Of the starts, and of whatever else is random in the environment.
        """
        return self.play(params, starts(seed, self.episodes))

    def evaluate(self, params: Params, context: Context) -> float:
        episodes = self.simulate(params, context.seed)
        first = episodes[0]
        context.save("observations", first.observations)
        context.save("actions", first.actions)
        context.save("spikes", first.spikes.astype(np.uint16))
        return float(np.mean([self._worth(episode) for episode in episodes]))

    def held_out(self, params: Params, seed: int = 1, number: int = 20) -> dict[str, float]:
        """Try a parameter set from starts that no evaluation has, up to the environment's own limit of steps.

        Parameters
        ----------
        seed, number
            Which starts, and how many.

        Returns
        -------
        dict
            ``mean_return``, ``mean_steps``, and ``solved``, the number of starts from which it was solved: the goal was
            reached (fitness ``furthest``), or the return is at least the threshold that the environment's registration
            names. Without a threshold there is no ``solved``.
        """
        seed, number = check_integer("seed", seed, 0), check_integer("number", number, 1)
        threshold = self.environment.threshold
        episodes = self.play(params, starts(seed, number, unseen=True), self.environment.limit)
        found = {
            "mean_return": float(np.mean([episode.total for episode in episodes])),
            "mean_steps": float(np.mean([episode.steps for episode in episodes])),
        }
        if self.fitness == "furthest":
            found["solved"] = float(sum(episode.terminated for episode in episodes))
        elif threshold is not None:
            found["solved"] = float(sum(episode.total >= threshold for episode in episodes))
        return found

    def play(self, params: Params, starts: Sequence[int], max_steps: int | None = None) -> list[Episode]:
        """Let one network act from several starts.

        Parameters
        ----------
        params
            As :meth:`simulate` takes them.
        starts
            Seeds for the environment's ``reset``.
        max_steps
            Steps after which an episode ends; None for those of the evaluations.
        """
        environment = self.environment.make(max_steps or self.max_steps)
        episodes: list[Episode] = []
        try:
            with _network(params) as network:
                for start in starts:
                    if episodes:
                        network.rest()
                    episodes.append(self._episode(environment, network, start))
                return episodes
        finally:
            environment.close()

    def _worth(self, episode: Episode) -> float:
        if self.fitness == "return":
            return episode.total
        return episode.furthest + (1.0 - episode.steps / self.max_steps if episode.terminated else 0.0)

    def _episode(self, environment: Any, network: _Network, start: int) -> Episode:
        observation, _ = environment.reset(seed=start)
        observations, actions, spikes, rewards = [_kept(observation)], [], [], []
        over = False
        while not over:
            counts = network.run(self.encoding.activations(observation), self.step_ms)
            potentials = network.potentials() if self.decoding.needs_potentials(counts) else None
            action = self.decoding.action(counts, potentials)
            observation, reward, terminated, truncated, _ = environment.step(action)
            over = terminated or truncated
            observations.append(_kept(observation))
            actions.append(action)
            spikes.append(counts)
            rewards.append(float(reward))
        return Episode(
            np.array(observations),
            np.array(actions),
            np.array(spikes),
            np.array(rewards),
            bool(terminated),
        )


class _Network:
    """The three layers in NEST's kernel, prepared to be run piece by piece."""

    def __init__(self, kernel: Any, input_weights: Floats, output_weights: Floats) -> None:
        self._kernel = kernel
        hidden, inputs = input_weights.shape
        self._inputs = kernel.Create(_MODEL, inputs)
        hidden_neurons = kernel.Create(_MODEL, hidden)
        self._outputs = kernel.Create(_MODEL, len(output_weights))
        kernel.Connect(self._inputs, hidden_neurons, "all_to_all", {"weight": input_weights, "delay": _DELAY})
        kernel.Connect(hidden_neurons, self._outputs, "all_to_all", {"weight": output_weights, "delay": _DELAY})
        self._all = self._inputs + hidden_neurons + self._outputs
        self._recorders = kernel.Create("spike_recorder", len(output_weights))
        kernel.Connect(self._outputs, self._recorders, "one_to_one")
        self._driven = np.zeros(inputs)
        self._spikes: Counts = np.zeros(len(output_weights), dtype=np.int64)

    def run(self, activations: Floats, duration: float) -> Counts:
        """Run it for some ms and return the output neurons' spike counts."""
        changed = np.flatnonzero(activations != self._driven)
        if changed.size:  # setting is what costs most, so set no more than that
            currents = _CURRENT * activations[changed]
            self._inputs[changed.tolist()].set([{"I_e": current} for current in currents.tolist()])
            self._driven = activations
        self._kernel.Run(duration)
        # NEST does not reset its recorders between Prepare and Cleanup.
        spikes = np.atleast_1d(np.asarray(self._recorders.get("n_events"), dtype=np.int64))
        new, self._spikes = spikes - self._spikes, spikes
        return new

    def rest(self) -> None:
        """Bring it back to how it was built, so that an episode does not depend on the one before."""
        self.run(np.zeros_like(self._driven), _PAUSE)
        self._all.set([{"V_m": _REST}] * len(self._all))

    def potentials(self) -> Floats:
        """Membrane potentials of the output neurons, mV."""
        return np.atleast_1d(np.asarray(self._outputs.get("V_m"), dtype=float))


@contextmanager
def _network(params: Params) -> Iterator[_Network]:
    kernel = fresh_kernel(1, _RESOLUTION, EXTRA)  # nothing in it is random
    network = _Network(kernel, np.asarray(params["input_weights"]), np.asarray(params["output_weights"]))
    kernel.Prepare()
    try:
        yield network
    finally:
        kernel.Cleanup()


def _kept(observation: Any) -> NDArray[np.float32]:
    """Copy an observation, since an environment may go on using its array."""
    return np.array(observation, dtype=np.float32).ravel()


def _limit(environment: Environment, max_steps: int | None) -> int:
    if max_steps is None:
        max_steps = _PUBLISHED_STEPS.get(environment.id, environment.limit)
    if max_steps is None:
        raise PluginError(f"max_steps: expected a number, since {environment.name!r} has no limit of its own, got None")
    return check_integer("max_steps", max_steps, 1)
