"""Families of small supervised tasks that are alike, so that one can learn to learn them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from l2l_dask.space import Floats


@dataclass(frozen=True)
class Tasks:
    """Several tasks of one family, each with samples to learn from and samples to be examined on.

    Attributes
    ----------
    support_x : (tasks, shots, inputs) array
    support_y : (tasks, shots, outputs) array
    query_x : (tasks, query, inputs) array
    query_y : (tasks, query, outputs) array
    """

    support_x: Floats
    support_y: Floats
    query_x: Floats
    query_y: Floats

    def __len__(self) -> int:
        return len(self.support_x)

    def __add__(self, other: Tasks) -> Tasks:
        mine, its = vars(self).values(), vars(other).values()
        return Tasks(*(np.concatenate(pair) for pair in zip(mine, its, strict=True)))


class Family(ABC):
    """Tasks that differ in two numbers or fewer, and what to draw of one of them.

    Attributes
    ----------
    inputs, outputs
        Numbers that the learner is given and has to answer with.
    ranges
        From where to where each of a task's own numbers is drawn, uniformly.
    worst
        Squared error where the largest right answer is met by its opposite.
    example
        These numbers for the task that is drawn.
    """

    inputs: ClassVar[int]
    outputs: ClassVar[int]
    ranges: ClassVar[tuple[tuple[float, float], ...]]
    worst: ClassVar[float]
    example: ClassVar[tuple[float, ...]]
    axis_label: ClassVar[str]
    value_label: ClassVar[str]

    def draw(self, rng: np.random.Generator, n: int, shots: int, query: int) -> Tasks:
        """Draw ``n`` tasks, and of each ``shots`` samples to learn from and ``query`` others.

        Each of a task's own numbers falls once into each n-th of its range (a Latin hypercube): the mean over tasks is
        as right as with independent draws, and much less noisy.
        """
        low, high = np.array(self.ranges).T
        which = np.stack([rng.permutation(n) for _ in low], axis=-1)
        return self.sampled(rng, low + (which + rng.random(which.shape)) / n * (high - low), shots, query)

    def sampled(self, rng: np.random.Generator, numbers: Floats, shots: int, query: int) -> Tasks:
        """Draw samples of the tasks that have these numbers, a (tasks, numbers) array."""
        support, asked = self._inputs(rng, len(numbers), shots), self._inputs(rng, len(numbers), query)
        return Tasks(support, self.answers(numbers, support), asked, self.answers(numbers, asked))

    @abstractmethod
    def _inputs(self, rng: np.random.Generator, n: int, samples: int) -> Floats: ...

    @abstractmethod
    def answers(self, numbers: Floats, x: Floats) -> Floats:
        """Return the right answers.

        Parameters
        ----------
        numbers : (tasks, numbers) array
        x : (tasks, samples, inputs) array

        Returns
        -------
        (tasks, samples, outputs) array
        """

    @abstractmethod
    def grid(self, points: int) -> tuple[Floats, Floats]:
        """Return inputs at which to draw what was learned: where they are on the axis, and a (points, inputs) array."""


class Sinusoids(Family):
    r"""Regression of :math:`y = a \sin(x - \varphi)` for :math:`x` from -5 to 5.

    Tasks differ in the amplitude :math:`a \in [0.1, 5]` and the phase :math:`\varphi \in [0, \pi]`. The family of
    C. Finn, P. Abbeel, S. Levine, "Model-agnostic meta-learning for fast adaptation of deep networks", ICML 2017,
    section 5.1.
    """

    inputs, outputs = 1, 1
    ranges = ((0.1, 5.0), (0.0, math.pi))
    worst = 100.0
    example = (3.0, 1.0)
    axis_label, value_label = "input", "output"

    def _inputs(self, rng: np.random.Generator, n: int, samples: int) -> Floats:
        return rng.uniform(-5, 5, (n, samples, 1))

    def answers(self, numbers: Floats, x: Floats) -> Floats:
        amplitude, phase = numbers.T[:, :, None, None]
        return np.asarray(amplitude * np.sin(x - phase))

    def grid(self, points: int) -> tuple[Floats, Floats]:
        x = np.linspace(-5, 5, points)
        return x, x[:, None]


class Reaching(Family):
    r"""Reaching for targets while the seen cursor is turned about the start by up to 90 degrees either way.

    A target at :math:`t` is hit by the hand at :math:`R(-\theta)\,t`. The learner is given the target and answers with
    the hand's position, both in the plane; the squared error is the cursor's squared distance from the target. Targets
    lie in any direction, at distances from 0.5 to 1. Adapting to one such rotation is the classic visuomotor
    adaptation (J. W. Krakauer, Z. M. Pine, M.-F. Ghilardi, C. Ghez, "Learning of visuomotor transformations for
    vectorial planning of reaching trajectories", Journal of Neuroscience 20, 2000); that people who met many random
    rotations adapt faster to a new one is learning to learn (D. A. Braun, A. Aertsen, D. M. Wolpert, C. Mehring, "Motor
    task variation induces structural learning", Current Biology 19, 2009).
    """

    inputs, outputs = 2, 2
    ranges = ((-math.pi / 2, math.pi / 2),)
    worst = 4.0
    example = (math.pi / 3,)
    axis_label, value_label = "direction of the target (deg)", "x of the hand"

    def _inputs(self, rng: np.random.Generator, n: int, samples: int) -> Floats:
        direction, distance = rng.uniform(-math.pi, math.pi, (n, samples)), rng.uniform(0.5, 1, (n, samples))
        return np.stack([distance * np.cos(direction), distance * np.sin(direction)], axis=-1)

    def answers(self, numbers: Floats, x: Floats) -> Floats:
        cos, sin = np.cos(numbers), np.sin(numbers)
        return np.stack([cos * x[..., 0] + sin * x[..., 1], cos * x[..., 1] - sin * x[..., 0]], axis=-1)

    def grid(self, points: int) -> tuple[Floats, Floats]:
        degrees = np.linspace(-180, 180, points)
        return degrees, np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=-1)


FAMILIES: dict[str, Family] = {"sinusoids": Sinusoids(), "reaching": Reaching()}
