"""Gymnasium's environments as a network sees them: observations become input currents, spike counts become actions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import EvaluationError, PluginError
from l2l_dask.space import Floats
from optimizees._simulators import imported

EXTRA = "gymnasium"
Counts: TypeAlias = NDArray[np.int64]

_WHAT = "Gymnasium"
_ID = "the id of an environment of Gymnasium, or 'module:id' of another package's"
_UNBOUNDED = 1e30  # some environments write the largest float where they mean infinity
_RANDOM_STEPS, _RANDOM_SEED = 1000, 0
_FAINT = 0.35  # a neuron that is driven less would not spike: it gets nothing, and need not be set


def gymnasium() -> Any:
    """Import Gymnasium; PluginError if it cannot be."""
    return imported("gymnasium", _WHAT, EXTRA)


@dataclass(frozen=True)
class Environment:
    """Which environment, and what its registration says of it.

    Attributes
    ----------
    name, options
        As ``gymnasium.make`` takes them.
    id : str
        The name with version and without module.
    limit : int or None
        Steps after which its episodes are cut off.
    threshold : float or None
        Mean return from which it counts as solved.
    """

    name: str
    options: Mapping[str, Any]
    id: str
    limit: int | None
    threshold: float | None

    @classmethod
    def find(cls, name: str, options: Mapping[str, Any]) -> Environment:
        """Look it up; PluginError if it is not registered."""
        if not isinstance(name, str):
            raise PluginError(f"environment: expected {_ID}, got {name!r}")
        if not isinstance(options, Mapping):
            raise PluginError(
                f"environment_options: expected arguments of gymnasium.make by their names, got {options!r}"
            )
        module, _, its_id = name.rpartition(":")
        try:
            if module:
                import_module(module)
            spec = gymnasium().spec(its_id)
        except (gymnasium().error.Error, ImportError) as failure:
            raise PluginError(f"environment: expected {_ID}, got {name!r}: {failure}") from failure
        return cls(name, dict(options), spec.id, spec.max_episode_steps, spec.reward_threshold)

    def make(self, limit: int | None = None) -> Any:
        """Make a new one, with its own limit of steps or another; PluginError if its options are not right."""
        try:
            return gymnasium().make(self.name, max_episode_steps=limit, disable_env_checker=True, **self.options)
        except (gymnasium().error.Error, TypeError, ValueError, AssertionError) as failure:
            raise PluginError(
                f"environment {self.name!r} cannot be made with environment_options {dict(self.options)!r}: {failure}"
            ) from failure


@dataclass(frozen=True)
class Encoding:
    """A population code: each dimension of the observation has neurons whose tuning curves cover its range.

    The n-th neuron of a dimension is tuned to the n-th of evenly spaced values, from the low end to the high, with a
    Gaussian tuning curve. What lies outside the range is as its nearest end.

    Attributes
    ----------
    low, high : (dims,) arrays
        Range of each dimension.
    neurons : int
        Per dimension, at least 2.
    width : float
        Standard deviation of the tuning curves, as a fraction of the range.
    """

    low: Floats
    high: Floats
    neurons: int
    width: float

    def activations(self, observation: Any) -> Floats:
        """Return how strongly each input neuron is driven, from 0 to 1: (dims * neurons,) array.

        Raises
        ------
        EvaluationError
            If the observation is not finite.
        """
        values = np.asarray(observation, dtype=float).ravel()
        if not np.isfinite(values).all():
            raise EvaluationError(f"the environment's observation is not finite: {values}")
        position = np.minimum(np.maximum((values - self.low) / (self.high - self.low), 0.0), 1.0)
        preferred = np.arange(self.neurons) / (self.neurons - 1)
        active: Floats = np.exp(-0.5 * ((preferred - position[:, np.newaxis]) / self.width) ** 2).ravel()
        active[active < _FAINT] = 0.0
        return active


class Decoding(Protocol):
    """From the output neurons' spikes to an action."""

    @property
    def neurons(self) -> int:
        """Number of output neurons."""

    def needs_potentials(self, counts: Counts) -> bool:
        """Whether these spike counts decide only together with the membrane potentials."""

    def action(self, counts: Counts, potentials: Floats | None) -> Any:
        """Return the action as the environment takes it."""


@dataclass(frozen=True)
class MostActive:
    """One output neuron for each of the discrete actions: the most active wins.

    Of several that are equally active it is the one with the highest membrane potential, which is nearest to its next
    spike.
    """

    neurons: int
    first: int = 0

    def needs_potentials(self, counts: Counts) -> bool:
        return int(np.count_nonzero(counts == counts.max())) > 1

    def action(self, counts: Counts, potentials: Floats | None) -> int:
        best = np.flatnonzero(counts == counts.max())
        if potentials is not None:
            best = best[[np.argmax(potentials[best])]]
        return self.first + int(best[0])


@dataclass(frozen=True)
class PopulationMean:
    """A population for each dimension of a continuous action: the mean of its neurons' preferred values.

    Preferred values are spaced evenly over the range of the action, and weighted with the spike counts. Without a spike
    the action is the middle of its range.
    """

    low: Floats
    high: Floats
    neurons_per_dim: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def neurons(self) -> int:
        return len(self.low) * self.neurons_per_dim

    def needs_potentials(self, counts: Counts) -> bool:  # noqa: ARG002
        return False

    def action(self, counts: Counts, potentials: Floats | None) -> NDArray[Any]:  # noqa: ARG002
        each = counts.reshape(len(self.low), self.neurons_per_dim)
        preferred = np.linspace(0.0, 1.0, self.neurons_per_dim)
        total = each.sum(axis=1)
        fraction = np.where(total > 0, each @ preferred / np.maximum(total, 1), 0.5)
        return (self.low + fraction * (self.high - self.low)).reshape(self.shape).astype(self.dtype)


def decoding(environment: Any, neurons_per_action: int) -> Decoding:
    """Find the decoding for an environment's actions.

    Parameters
    ----------
    environment
        As :meth:`Environment.make` makes it.
    neurons_per_action
        Output neurons for each dimension of a continuous action.

    Raises
    ------
    PluginError
        If its actions are neither discrete nor continuous within bounds.
    """
    spaces, space = gymnasium().spaces, environment.action_space
    if isinstance(space, spaces.Discrete):
        return MostActive(int(space.n), int(space.start))
    if not isinstance(space, spaces.Box):
        raise PluginError(f"environment: expected discrete (Discrete) or continuous (Box) actions, got {space}")
    low, high = _bounds(space)
    if not np.isfinite([low, high]).all():
        raise PluginError(f"environment: expected actions within bounds, got {space}: rescale them with a wrapper")
    return PopulationMean(low, high, neurons_per_action, space.shape, str(space.dtype))


def encoding(
    environment: Any, neurons_per_dim: int, tuning_width: float, ranges: Sequence[Sequence[float]] | None
) -> Encoding:
    """Find the ranges of an environment's observations: those given, else its bounds, else from random play.

    Parameters
    ----------
    environment
        As :meth:`Environment.make` makes it.
    neurons_per_dim, tuning_width
        Of the :class:`Encoding`.
    ranges
        ``(low, high)`` for each dimension, or None.

    Raises
    ------
    PluginError
        If its observations are not a Box, or the ranges do not fit them.
    """
    space = environment.observation_space
    if not isinstance(space, gymnasium().spaces.Box):
        raise PluginError(f"environment: expected observations that are an array of numbers (Box), got {space}")
    if ranges is not None:
        low, high = _checked(ranges, math.prod(space.shape))
    else:
        low, high = _bounds(space)
        unbounded = ~np.isfinite(low) | ~np.isfinite(high)
        if unbounded.any():
            seen = _random_play(environment)
            low[unbounded], high[unbounded] = seen.min(axis=0)[unbounded], seen.max(axis=0)[unbounded]
    constant = high <= low
    low[constant], high[constant] = low[constant] - 0.5, high[constant] + 0.5
    return Encoding(low, high, neurons_per_dim, tuning_width)


def _bounds(space: Any) -> tuple[Floats, Floats]:
    low, high = (np.array(bound, dtype=float).ravel() for bound in (space.low, space.high))
    low[low < -_UNBOUNDED], high[high > _UNBOUNDED] = -np.inf, np.inf
    return low, high


def _checked(ranges: Sequence[Sequence[float]], dims: int) -> tuple[Floats, Floats]:
    refused = PluginError(
        f"ranges: expected [low, high] with low < high for each of the {dims} dimensions of the observation, "
        f"got {ranges!r}"
    )
    try:
        given = np.array(ranges)
    except ValueError:  # rows of different lengths
        raise refused from None
    if given.shape != (dims, 2) or given.dtype.kind not in "iuf" or not np.isfinite(given).all():
        raise refused
    low, high = given.T.astype(float)
    if not (low < high).all():
        raise refused
    return low, high


def _random_play(environment: Any) -> Floats:
    """Observe random actions for a fixed number of steps, always the same: (steps, dims) array."""
    environment.action_space.seed(_RANDOM_SEED)
    seen = [environment.reset(seed=_RANDOM_SEED)[0]]
    for _ in range(_RANDOM_STEPS):
        observation, _, terminated, truncated, _ = environment.step(environment.action_space.sample())
        seen.append(observation)
        if terminated or truncated:
            seen.append(environment.reset()[0])
    return np.reshape(np.array(seen, dtype=float), (len(seen), -1))
