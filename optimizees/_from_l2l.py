"""Optimizees of the original L2L, as they are: with every optimizer, and with what this framework guarantees."""

from __future__ import annotations

import copy
import inspect
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import numpy as np

from l2l_dask.errors import EvaluationError, L2LError, PluginError
from l2l_dask.evaluation import Objective, Objectives, maximize
from l2l_dask.optimizee import Context, Optimizee
from l2l_dask.space import Floats, Params, Space
from optimizees._l2l_space import Bounding, Bounds, Part, created, element_names, given, spaced
from optimizees._l2l_trajectory import Individual, L2LTrajectory
from optimizees._options import check_integer

_INDIVIDUAL = "individual."
_OUTPUT = "model_out"  # how the original's ensemble Kalman filter calls what it observes


class FromL2L(Optimizee):
    """An optimizee of the original L2L, as it is: :func:`from_l2l` is this class.

    The original's constructor wants a trajectory: ``from_l2l(MyOptimizee(L2LTrajectory(), parameters))``. What
    ``simulate`` prints, and the files that it writes in the current folder, are its own affair. The global random
    generators of Python and numpy are seeded with the evaluation's seed for its duration, and put back, as is the
    current folder.

    Parameters
    ----------
    optimizee
        The object, with ``simulate(traj)``, and ``create_individual()`` unless ``space`` is given;
        ``bounding_func(individual)`` is applied to each individual before it is simulated. As in the original, each
        evaluation starts from a copy of it as it is now: nothing that ``simulate`` leaves in it lasts.
    space
        What to search. By default it is found out: ``create_individual`` is asked for ``samples`` individuals, which
        tell names and shapes. Bounds are where ``bounding_func`` puts values that are far too large or small, whatever
        the other entries are, if it lets those between pass (but for rounding, to a hundredth of the way between
        them); each element of an array has its own, and where these differ it becomes several parameters, ``x_0``,
        ``x_1``. What is created as Python's or numpy's integers, or rounded to these by ``bounding_func``, is an
        integer, if it has bounds. Where nothing tells the bounds there are none, and mean and standard deviation of the
        individuals are location and scale of the search; if there is a ``bounding_func``, a warning is logged.
    bounds
        ``{name: (low, high)}``, or ``{name: Real(1, 100, log=True)}``, for some or all entries, in place of what would
        be found out.
    samples
        How many individuals to ask for.
    weights
        The fitness is ``dot(fitness, weights)``, and maximised: the original's ``optimizee_fitness_weights``.
    objectives
        Without weights each component of the fitness is an objective; by default there is one, which is maximised.
    n_inner_params
        How many parameter sets ``simulate_`` (or else ``simulate``) takes at once: ``traj.inner_params`` says so, each
        parameter is a list of as many values, and it returns as many fitnesses. Fewer are filled up with the last. The
        global generators are seeded once for all of them, with the first one's seed, so that the noise of a set depends
        on its neighbours, unless ``simulate_`` makes each one's from ``traj.seeds``, a list of one seed for each.
    observation
        Whether ``simulate`` returns (fitness, observation), as for the original's inference. From a dict,
        ``fitness`` is taken, ``model_out`` is the observation, and other arrays are saved by their names.
    reseed
        Whether random generators that the optimizee holds, wherever in it, are seeded for each evaluation, each with a
        seed of its own. In the original each begins where it was when the search began, so that noise is the same in
        all evaluations.
    trajectory
        What else optimizees read off the trajectory, ``{"n_batches": 10}``, or off the individual,
        ``{"individual.targets": [1, 0]}``.

    Attributes
    ----------
    function
        The original object. By this name its code is found, to be sent to workers.

    Raises
    ------
    PluginError
        If the object is no such optimizee, or its space cannot be found out; the message says what to give.
    """

    source: ClassVar[str] = "Yegenoglu et al., Frontiers in Computational Neuroscience 16, 2022"

    def __init__(
        self,
        optimizee: Any,
        *,
        space: Space | None = None,
        bounds: Bounds | None = None,
        samples: int = 32,
        weights: Sequence[float] | None = None,
        objectives: Objectives | Objective | Sequence[Objective] | Mapping[str, Any] | None = None,
        n_inner_params: int = 1,
        observation: bool = False,
        reseed: bool = False,
        trajectory: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(optimizee, type) or not callable(getattr(optimizee, "simulate", None)):
            raise PluginError(f"expected an object with simulate(traj), an optimizee of L2L; got {optimizee!r:.80}")
        samples = check_integer("samples", samples, 1)
        self.batch_size = check_integer("n_inner_params", n_inner_params, 1)
        if weights is not None and objectives is not None:
            raise PluginError("give weights, for one objective, or objectives, one for each component of the fitness")
        if space is not None and bounds is not None:
            raise PluginError("give space or bounds, not both")
        self.function, self.reseed, self.observation = optimizee, reseed, observation
        self.weights = None if weights is None else _checked(weights)
        self.objectives = Objectives(maximize("fitness") if objectives is None else objectives)
        self._given = dict(trajectory or {})
        self._parts: list[Part] = []
        self.space = self._found(samples, bounds or {}) if space is None else self._fitting(space)

    def _found(self, samples: int, bounds: Bounds) -> Space:
        """Find out what it creates and how it bounds it; the same whenever it is asked."""
        with self._original(seed=0) as original:
            made = created(_creating(original), samples)
            made = {key: entry for key, entry in made.items() if _INDIVIDUAL + key not in self._given}
            if not made:
                raise PluginError(f"there is nothing to search: trajectory gives all of {list(self._given)}")
            parameters, self._parts = spaced(made, self._bounding(original), bounds)
        return Space(parameters)

    def _fitting(self, space: Space) -> Space:
        """Refuse a space that lacks what individuals are created with, if it can be asked what that is."""
        with self._original(seed=0) as original:
            try:
                made = created(_creating(original), 1)
            except Exception:  # it may want arguments, of the optimizer that it was written for
                return space
        names = {key: (key,) if key in space else element_names(key, entry.shape) for key, entry in made.items()}
        missing = [k for k, n in names.items() if not set(n) <= set(space) and _INDIVIDUAL + k not in self._given]
        if missing:
            raise PluginError(f"space: expected {list(made)}, as create_individual has, {missing[0]!r} is missing")
        self._parts = [
            Part(key, made[key].shape, False, names[key]) for key in made if _INDIVIDUAL + key not in self._given
        ]
        return space

    @contextmanager
    def _original(self, seed: int) -> Iterator[Any]:
        """Lend a fresh copy of the original object, with random generators that are seeded."""
        with _left_alone(seed):
            yield self._copied(seed)

    def _copied(self, seed: int) -> Any:
        copied: dict[int, Any] = {}  # all objects in it
        try:
            original = copy.deepcopy(self.function, copied)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise PluginError(f"{type(self.function).__name__} cannot be copied for each evaluation: {what}") from error
        if self.reseed:
            _reseed(copied.values(), seed)
        return original

    def _bounding(self, original: Any) -> Bounding | None:
        """Return its ``bounding_func``, which is given all of an individual, if it has one."""
        bounding = getattr(original, "bounding_func", None)
        if not callable(bounding):
            return None
        fixed = self._fixed()

        def bounded(individual: dict[str, Any]) -> dict[str, Any]:
            answer = bounding(fixed | individual)
            if not isinstance(answer, Mapping):
                raise EvaluationError(f"bounding_func: expected a dict, got {answer!r:.80}")
            return fixed | individual | dict(answer)

        return bounded

    def _fixed(self) -> dict[str, Any]:
        """Return what individuals have beside what is searched, as it was given."""
        fixed = {n.removeprefix(_INDIVIDUAL): v for n, v in self._given.items() if n.startswith(_INDIVIDUAL)}
        return copy.deepcopy(fixed)

    def individual(self, params: Params, seed: int = 1) -> dict[str, Any]:
        """Return what is simulated for a parameter set: arrays in one piece, and ``bounding_func`` applied."""
        with self._original(seed) as original:
            return self._individual(original, params)

    def _individual(self, original: Any, params: Params) -> dict[str, Any]:
        left = dict(params)
        taken = {part.key: part.taken(left) for part in self._parts}
        individual = {key: value for key, value in taken.items() if value is not None}
        individual |= {key: given(value) for key, value in left.items()}
        bounding = self._bounding(original)
        return self._fixed() | individual if bounding is None else dict(bounding(individual))

    def evaluate(self, params: Params, context: Context) -> Any:
        if self.batch_size > 1:
            return self.evaluate_batch([params], [context])[0]
        with self._original(context.seed) as original:
            individual = self._individual(original, params)
            returned = original.simulate(self._trajectory(individual, context, [context.seed]))
        return self._fitness(returned, context)

    def evaluate_batch(self, params: Sequence[Params], contexts: Sequence[Context]) -> Sequence[Any]:
        if self.batch_size == 1:
            return super().evaluate_batch(params, contexts)
        n, filled = self.batch_size, [*params, *[params[-1]] * (self.batch_size - len(params))]
        with self._original(contexts[0].seed) as original:
            each = [self._individual(original, p) for p in filled]
            individual = {key: [one[key] for one in each] for key in each[0]}
            seeds = [context.seed for context in [*contexts, *[contexts[-1]] * (n - len(contexts))]]
            returned = _simulating(original)(self._trajectory(individual, contexts[0], seeds))
        if not isinstance(returned, Sequence | np.ndarray) or isinstance(returned, str) or len(returned) != n:
            raise EvaluationError(f"simulate: expected {n} fitnesses, n_inner_params, got {returned!r:.80}")
        return [self._fitness(one, context) for one, context in zip(returned, contexts, strict=False)]

    def _trajectory(self, individual: Mapping[str, Any], context: Context, seeds: list[int]) -> L2LTrajectory:
        generation = np.asarray(context.info.get("generation", 0))
        return L2LTrajectory(
            {"seeds": seeds}
            | {name: copy.deepcopy(v) for name, v in self._given.items() if not name.startswith(_INDIVIDUAL)},
            Individual(individual, int(generation) if generation.ndim == 0 else 0, context.id),
            retry=context.attempt - 1,
            inner_params=self.batch_size,
        )

    def _fitness(self, returned: Any, context: Context) -> float | tuple[float, ...]:
        """Save what came with the fitness, and turn that into the objectives."""
        if isinstance(returned, Mapping):
            if "fitness" not in returned:
                raise EvaluationError(f"simulate: expected a fitness, got a dict of {list(returned)}")
            for name, value in returned.items():
                if name == _OUTPUT:
                    context.save("observation", _observation(value))
                elif name != "fitness":
                    with suppress(EvaluationError, TypeError, ValueError):  # what is no array
                        context.save(str(name), value)
            returned = returned["fitness"]
        elif self.observation:
            if not isinstance(returned, tuple | list) or len(returned) != 2:
                raise EvaluationError(f"simulate: expected (fitness, observation), got {returned!r:.80}")
            returned, observed = returned
            context.save("observation", _observation(observed))
        fitness = _numbers(returned)
        n = len(Objectives(self.objectives)) if self.weights is None else len(self.weights)
        if len(fitness) != n:
            what = "objective(s)" if self.weights is None else "weight(s)"
            hint = "give weights=, or objectives=[...], one for each, or observation=True if the second is none"
            raise EvaluationError(f"simulate returned a fitness of {len(fitness)} number(s), for {n} {what}: {hint}")
        return tuple(fitness.tolist()) if self.weights is None else float(fitness @ self.weights)


def _checked(weights: Sequence[float]) -> Floats:
    try:
        array = np.atleast_1d(np.asarray(weights, dtype=float))
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all() or not array.any():
        raise PluginError(f"weights: expected one number for each component of the fitness, got {weights!r:.80}")
    return array


def _creating(original: Any) -> Callable[[], Any]:
    create = getattr(original, "create_individual", None)
    if not callable(create):
        raise PluginError(f"{type(original).__name__} has no create_individual(): give space=")

    def asked() -> Any:
        try:
            return create()
        except L2LError:
            raise
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise PluginError(f"create_individual() raised {what}: give space=Space(...)") from error

    return asked


def _simulating(original: Any) -> Callable[[L2LTrajectory], Any]:
    """Return the method that takes several parameter sets: ``simulate_``, unless that name is of something else."""
    multiple = getattr(original, "simulate_", None)
    if callable(multiple) and len(inspect.signature(multiple).parameters) == 1:
        return multiple  # type: ignore[no-any-return]
    return original.simulate  # type: ignore[no-any-return]


def _numbers(fitness: Any) -> Floats:
    try:
        if fitness is not None:
            return np.asarray(fitness, dtype=float).ravel()
    except (TypeError, ValueError):
        pass
    hint = ", or observation=True if it returns (fitness, observation)" if isinstance(fitness, tuple | list) else ""
    raise EvaluationError(f"simulate: expected a number or a tuple of numbers, got {fitness!r:.80}{hint}")


def _observation(value: Any) -> Floats:
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise EvaluationError(f"simulate: expected an array of numbers as observation, got {value!r:.80}") from None


def _reseed(copied: Iterable[Any], seed: int) -> None:
    """Seed each random generator among the objects that were copied, where it is: all that hold it have the same.

    They are told apart by the order in which they were copied, which is the same in each copy.
    """
    found: dict[int, Any] = {}
    for each in copied:
        inner = each
        if isinstance(each, np.random.RandomState):
            each.set_state({**each.get_state(legacy=False), "has_gauss": 0})  # it draws two at a time
            inner = each._bit_generator
        elif isinstance(each, np.random.Generator):
            inner = each.bit_generator
        if isinstance(inner, np.random.BitGenerator | random.Random):
            found[id(inner)] = inner
    for generator, own in zip(found.values(), np.random.SeedSequence(seed).spawn(len(found)), strict=True):
        if isinstance(generator, random.Random):
            generator.seed(int.from_bytes(own.generate_state(4).tobytes(), "little"))
        else:
            generator.state = type(generator)(own).state


@contextmanager
def _left_alone(seed: int) -> Iterator[None]:
    """Seed the global random generators, and leave them and the current folder as they were."""
    states, folder = (random.getstate(), np.random.get_state()), _folder()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if folder is not None and _folder() != folder:
            os.chdir(folder)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


from_l2l = FromL2L
