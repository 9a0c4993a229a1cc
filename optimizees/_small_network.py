"""Many copies of one small network at once, one for each task, and the ways in which they learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from l2l_dask.space import Floats
from optimizees._tasks import Tasks

TERMS = ("pre * post", "pre", "post", "1", "pre * error", "weight")


@dataclass(frozen=True)
class Network:
    """Layers of tanh neurons below a linear one.

    Its weights are one (tasks, 1 + inputs, outputs) array for each layer; the first row is the bias, the weight of an
    input that is always 1.

    Attributes
    ----------
    sizes
        Numbers of neurons, from the input to the output.
    """

    sizes: tuple[int, ...]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shape of each layer's weights, for one task."""
        return [(1 + above, below) for above, below in zip(self.sizes[:-1], self.sizes[1:], strict=True)]

    def random(self, rng: np.random.Generator, n: int, scales: Sequence[float]) -> list[Floats]:
        """Draw weights for ``n`` tasks: normal, with the standard deviation scale / sqrt(inputs)."""
        weights = []
        for (rows, outputs), scale in zip(self.shapes, scales, strict=True):
            weights.append(rng.standard_normal((n, rows, outputs)) * (scale / np.sqrt(rows - 1)))
        return weights

    def feedback(self, rng: np.random.Generator, n: int) -> list[Floats]:
        """Draw what carries errors back to each hidden layer: normal (tasks, outputs, neurons) arrays."""
        outputs = self.sizes[-1]
        return [rng.standard_normal((n, outputs, hidden)) / np.sqrt(outputs) for hidden in self.sizes[1:-1]]

    def activities(self, weights: Sequence[Floats], x: Floats) -> list[Floats]:
        """Return the input, what each hidden layer makes of it, and the output: (tasks, samples, neurons) arrays."""
        layers = [x]
        for i, w in enumerate(weights, start=1):
            above = layers[-1] @ w[:, 1:]
            above += w[:, :1]
            layers.append(above if i == len(weights) else np.tanh(above))
        return layers

    def losses(self, weights: Sequence[Floats], x: Floats, y: Floats) -> Floats:
        """Return the squared error, summed over outputs and averaged over samples: a (tasks,) array."""
        error = self.activities(weights, x)[-1] - y
        return np.asarray(np.einsum("tso,tso->t", error, error) / error.shape[1])

    def gradients(self, weights: Sequence[Floats], x: Floats, y: Floats) -> list[Floats]:
        """Return the gradient of each task's :meth:`losses` by its own weights (backpropagation)."""
        layers = self.activities(weights, x)
        delta = (layers[-1] - y) * (2 / x.shape[1])
        gradients = []
        for w, below in zip(reversed(weights), reversed(layers[:-1]), strict=True):
            gradient = np.empty_like(w)
            np.matmul(below.transpose(0, 2, 1), delta, out=gradient[:, 1:])
            delta.sum(axis=1, out=gradient[:, 0])
            gradients.append(gradient)
            if len(gradients) < len(weights):
                delta = delta @ w[:, 1:].transpose(0, 2, 1)
                delta *= 1 - below**2
        return gradients[::-1]


class Learner(Protocol):
    """A way to learn."""

    def steps(self, network: Network, weights: Sequence[Floats], tasks: Tasks) -> Iterator[Sequence[Floats]]:
        """Go on learning from each task's support samples, and yield the weights after each step."""
        ...


@dataclass(frozen=True)
class Descent:
    """Gradient descent on all support samples of a task, with a rate for each layer.

    Attributes
    ----------
    rates
        One per layer.
    momentum
        How much of the last step is made again (heavy ball).
    decay
        Rate at which weights shrink, by the step and in units of the layer's rate.
    clip
        Longest gradient of a task (all layers together); a longer one is shortened to it.
    """

    rates: Sequence[float]
    momentum: float = 0.0
    decay: float = 0.0
    clip: float = np.inf

    def steps(self, network: Network, weights: Sequence[Floats], tasks: Tasks) -> Iterator[Sequence[Floats]]:
        weights = [w.copy() for w in weights]
        last = [np.zeros_like(w) for w in weights]
        while True:
            gradients = network.gradients(weights, tasks.support_x, tasks.support_y)
            if np.isfinite(self.clip):
                self._shorten(gradients)
            for i, rate in enumerate(self.rates):
                last[i] *= self.momentum
                last[i] -= rate * (gradients[i] + self.decay * weights[i])
                weights[i] += last[i]
            yield weights

    def _shorten(self, gradients: list[Floats]) -> None:
        squares = np.sum([np.einsum("tij,tij->t", gradient, gradient) for gradient in gradients], axis=0)
        factor = self.clip / np.maximum(np.sqrt(squares), self.clip)
        for i in range(len(gradients)):
            gradients[i] *= factor[:, None, None]


@dataclass(frozen=True)
class Plasticity:
    """A local rule: each weight changes by what its two neurons and itself know.

    One support sample is presented after the other, again from the first when all have been. The change is the layer's
    rate times a sum of :data:`TERMS`, each with the layer's coefficient. ``pre`` and ``post`` are activities (a bias
    has ``pre`` 1); ``error`` is the output neuron's own error, right answer minus output, and at hidden neurons that
    error as it comes back through fixed random weights, times the slope of their tanh (feedback alignment).

    Attributes
    ----------
    rule : (layers, 6) array
        Coefficients of :data:`TERMS`.
    rates
        One per layer.
    feedback
        Of each hidden layer: a (tasks, outputs, neurons) array.
    """

    rule: Floats
    rates: Sequence[float]
    feedback: Sequence[Floats]

    def steps(self, network: Network, weights: Sequence[Floats], tasks: Tasks) -> Iterator[Sequence[Floats]]:
        weights, t = [w.copy() for w in weights], 0
        while True:
            sample = slice(t, t + 1)
            self._present(network, weights, tasks.support_x[:, sample], tasks.support_y[:, sample])
            yield weights
            t = (t + 1) % tasks.support_x.shape[1]

    def _present(self, network: Network, weights: list[Floats], x: Floats, y: Floats) -> None:
        layers = network.activities(weights, x)
        missed = y - layers[-1]
        errors = [(missed @ b) * (1 - h**2) for b, h in zip(self.feedback, layers[1:-1], strict=True)] + [missed]
        for i, (post, error) in enumerate(zip(layers[1:], errors, strict=True)):
            pre_post, pre, only_post, constant, pre_error, weight = self.rates[i] * self.rule[i]
            with_bias = np.concatenate([np.ones_like(layers[i][..., :1]), layers[i]], axis=-1).transpose(0, 2, 1)
            change = with_bias @ (pre_post * post + pre + pre_error * error)
            weights[i] += weight * weights[i] + change + (only_post * post + constant)
