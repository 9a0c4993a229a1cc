"""Learning to learn proper: a small network learns each new task from a few samples, and how is what is searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import PluginError
from l2l_dask.evaluation import minimize
from l2l_dask.optimizee import Context, Optimizee, Target
from l2l_dask.space import Floats, Parameter, Params, Real, Space
from optimizees._options import check_integer
from optimizees._small_network import TERMS, Descent, Learner, Network, Plasticity
from optimizees._tasks import FAMILIES, Family, Tasks

FamilyName = Literal["sinusoids", "reaching"]
Learned = Literal["rates", "initial-weights", "plasticity"]

_QUERY = 20  # samples of each task on which it is examined
_POINTS = 101  # of the example's response
_UNSEEN = 500  # tasks of held_out
_STANDARD_RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
_Start: TypeAlias = "Callable[[np.random.Generator], tuple[Learner, list[Floats]]]"
_SEARCHED, _HELD_OUT, _CHOSEN_ON, _EXAMPLE = range(4)  # what a seed is for: their tasks are never the same


@dataclass(frozen=True)
class Course:
    """How the learning of several tasks went.

    Attributes
    ----------
    losses : (1 + steps, tasks) array
        Each task's loss on its query samples, before the first step and after each.
    responses : (1 + steps, 101) array
        What the network answers in the example task (its first output), over the inputs of the family's grid.
    """

    losses: Floats
    responses: Floats

    @property
    def curve(self) -> Floats:
        """The mean loss over tasks, before the first step and after each."""
        return np.asarray(self.losses.mean(axis=1))


class FewShot(Optimizee):
    """Learn to learn: find with what a small network learns new tasks of a family from a few samples.

    The inner loop is a learning network: layers of tanh neurons below a linear one. It is given a task's ``shots``
    samples, takes ``steps`` steps of learning, and is then examined on other samples of that task; the fitness
    ``query_loss`` is the squared error there (summed over outputs), averaged over samples and over ``batch`` tasks,
    that are drawn for each individual anew. So no task can be memorised: the outer loop has to find what is good for
    the family, and the fitness is noisy. After each step the loss is reported, so that ``hyperband`` can stop early.
    A task's loss counts as 100 at most, or if it is not finite.

    What the outer loop learns is one of

    ``rates``
        the learning rates and the scales of the random initial weights, of each layer, momentum, weight decay and the
        length to which gradients are shortened;
    ``initial-weights``
        the weights from which gradient descent starts in each task, and its rate in each layer;
    ``plasticity``
        the coefficients of a local rule, and its rate in each layer: there are no gradients, each synapse changes by
        what its two neurons know.

    Each evaluation saves as ``response`` what the network answers in one example task that is the same for all, NaN
    where it has diverged beyond the numbers of single precision. It needs numpy only.

    Parameters
    ----------
    tasks
        The family: sinusoids (amplitude in [0.1, 5], phase in [0, pi]) or reaching (under a rotation of the seen cursor
        by up to 90 degrees either way).
    learn
        What is searched: rates, initial-weights or plasticity.
    shots
        Samples of a task to learn from.
    steps
        Of learning; for plasticity, presentations of one sample.
    batch
        Tasks in one evaluation: the more, the less noisy the fitness.
    width
        Neurons in each hidden layer.
    depth
        Hidden layers.
    """

    source: ClassVar[str] = (
        "Finn, Abbeel, Levine, ICML 2017 (tasks, initial weights); Bengio, Bengio, Cloutier, Gecsei, 1992 (local rules)"
    )

    def __init__(
        self,
        tasks: FamilyName = "sinusoids",
        learn: Learned = "rates",
        *,
        shots: int = 10,
        steps: int = 10,
        batch: int = 50,
        width: int = 20,
        depth: int = 2,
    ) -> None:
        _check_choice("tasks", tasks, get_args(FamilyName))
        _check_choice("learn", learn, get_args(Learned))
        self.tasks, self.learn = tasks, learn
        self.shots, self.steps = check_integer("shots", shots, 1), check_integer("steps", steps, 1)
        self.batch = check_integer("batch", batch, 1)
        width, depth = check_integer("width", width, 1), check_integer("depth", depth, 1)
        self.network = Network((self.family.inputs, *[width] * depth, self.family.outputs))
        self.space = Space(self._parameters())
        self.objectives = minimize("query_loss")

    @property
    def family(self) -> Family:
        return FAMILIES[self.tasks]

    def _parameters(self) -> dict[str, Parameter]:
        layers = len(self.network.shapes)
        if self.learn == "rates":
            return {
                "rates": Real(1e-4, 1, log=True, shape=(layers,)),
                "scales": Real(0.1, 10, log=True, shape=(layers,)),
                "momentum": Real(0, 0.99),
                "decay": Real(1e-6, 0.1, log=True),
                "clip": Real(0.1, 100, log=True),
            }
        if self.learn == "plasticity":
            return {
                "rule": Real(-1, 1, shape=(layers, len(TERMS))),
                "rates": Real(1e-3, 1, log=True, shape=(layers,)),
            }
        initial: dict[str, Parameter] = {"rates": Real(1e-3, 1, log=True, shape=(layers,))}
        for i, (rows, outputs) in enumerate(self.network.shapes, start=1):
            initial[f"biases_{i}"] = Real(loc=0.0, scale=1.0, shape=(outputs,))
            initial[f"weights_{i}"] = Real(loc=0.0, scale=(rows - 1) ** -0.5, shape=(rows - 1, outputs))
        return initial

    def simulate(self, params: Params, seed: int, report: Callable[[int, float], None] | None = None) -> Course:
        """Draw ``batch`` tasks and learn them.

        Parameters
        ----------
        params
            As of the space.
        seed
            Of the tasks, and of what else is random.
        report
            Called before the first step and after each, with its number and the mean loss.
        """
        rng = _rng(seed, _SEARCHED)
        tasks = self.family.draw(rng, self.batch, self.shots, _QUERY) + self.example
        learner, weights = self._learner(params, rng, len(tasks))
        return self._learned(learner, weights, tasks, report)

    @property
    def example(self) -> Tasks:
        """The one task that is learned beside all others, and does not count."""
        return self.family.sampled(_rng(0, _EXAMPLE), np.array([self.family.example]), self.shots, _QUERY)

    def _learner(self, params: Params, rng: np.random.Generator, n: int) -> tuple[Learner, list[Floats]]:
        """Make what learns ``n`` tasks, and the weights that it starts with in each."""
        layers = len(self.network.shapes)
        if self.learn == "initial-weights":
            given = [np.vstack([params[f"biases_{i}"], params[f"weights_{i}"]]) for i in range(1, layers + 1)]
            return Descent(params["rates"]), [np.repeat(w[None], n, axis=0) for w in given]
        if self.learn == "rates":
            weights = self.network.random(rng, n, params["scales"])
            return Descent(params["rates"], params["momentum"], params["decay"], params["clip"]), weights
        weights = self.network.random(rng, n, [1.0] * layers)
        return Plasticity(params["rule"], params["rates"], self.network.feedback(rng, n)), weights

    def _learned(
        self,
        learner: Learner,
        weights: Sequence[Floats],
        tasks: Tasks,
        report: Callable[[int, float], None] | None = None,
    ) -> Course:
        losses, responses = np.empty((1 + self.steps, len(tasks) - 1)), np.empty((1 + self.steps, _POINTS))
        grid = self.family.grid(_POINTS)[1][None]
        with np.errstate(over="ignore", invalid="ignore"):  # of those that diverge
            states = learner.steps(self.network, weights, tasks)
            for step in range(1 + self.steps):
                if step:
                    weights = next(states)
                found = self.network.losses(weights, tasks.query_x, tasks.query_y)[:-1]
                losses[step] = np.fmin(found, self.family.worst)  # also of those that are not finite
                responses[step] = self.network.activities([w[-1:] for w in weights], grid)[-1][0, :, 0]
                if report is not None:
                    report(step, float(losses[step].mean()))
        return Course(losses, responses)

    def evaluate(self, params: Params, context: Context) -> float:
        course = self.simulate(params, context.seed, context.report)
        context.save("response", _single(course.responses[-1]))
        return float(course.curve[-1])

    def examine(self, params: Params, seed: int = 1) -> Course:
        """Let a parameter set learn 500 tasks that no evaluation draws."""
        return self._examined(lambda rng: self._learner(params, rng, _UNSEEN + 1), seed, _HELD_OUT)

    def standard(self, seed: int = 1) -> Course:
        """Let a standard learner learn the tasks of :meth:`examine`.

        It has random initial weights of scale 1 and plain gradient descent (for ``plasticity``: the delta rule, with
        random feedback to the hidden layers) with one rate for all layers: the best of 0.003, 0.01, 0.03, 0.1 and 0.3
        on other tasks.
        """
        rate = min(_STANDARD_RATES, key=lambda rate: self._textbook(rate, seed, _CHOSEN_ON).curve[-1])
        return self._textbook(rate, seed, _HELD_OUT)

    def held_out(self, params: Params, seed: int = 1) -> dict[str, float]:
        """Return ``loss_before`` and ``loss_after`` learning unseen tasks, and both of the :meth:`standard` learner."""
        mine, standard = self.examine(params, seed).curve, self.standard(seed).curve
        return {
            "loss_before": float(mine[0]),
            "loss_after": float(mine[-1]),
            "standard_before": float(standard[0]),
            "standard_after": float(standard[-1]),
        }

    def _examined(self, start: _Start, seed: int, purpose: int) -> Course:
        rng = _rng(seed, purpose)
        tasks = self.family.draw(rng, _UNSEEN, self.shots, _QUERY) + self.example
        learner, weights = start(rng)
        return self._learned(learner, weights, tasks)

    def _textbook(self, rate: float, seed: int, purpose: int) -> Course:
        layers, n = len(self.network.shapes), _UNSEEN + 1

        def start(rng: np.random.Generator) -> tuple[Learner, list[Floats]]:
            weights = self.network.random(rng, n, [1.0] * layers)
            if self.learn != "plasticity":
                return Descent([rate] * layers), weights
            delta_rule = np.tile([float(term == "pre * error") for term in TERMS], (layers, 1))
            return Plasticity(delta_rule, [rate] * layers, self.network.feedback(rng, n)), weights

        return self._examined(start, seed, purpose)

    def targets(self) -> dict[str, Target]:
        axis, grid = self.family.grid(_POINTS)
        answers = self.family.answers(np.array([self.family.example]), grid[None])[0, :, 0]
        return {
            "response": Target(
                answers.astype(np.float32),
                step=float(axis[1] - axis[0]),
                label=f"{self.family.value_label}, after {self.steps} steps",
                step_label=f"{self.family.axis_label}, from {axis[0]:g}",
            )
        }


def _rng(seed: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose,)))


def _single(values: Floats) -> NDArray[np.float32]:
    """Round to single precision; what is not finite there becomes NaN, which a plot leaves out."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    return np.where(np.isfinite(single), single, np.float32(np.nan))


def _check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise PluginError(f"{option}: expected one of {', '.join(choices)}, got {value!r}")
