"""The contract of an optimizee, as checks that its author runs in a test."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import L2LError
from l2l_dask.evaluation import Candidate, Objectives
from l2l_dask.optimizee import Context, FunctionOptimizee, Optimizee, Target
from l2l_dask.registry import load_file
from l2l_dask.shipping import pack, unpack
from l2l_dask.space import Params, Space

Process: TypeAlias = Literal["cwd", "random"]

_SEED = 20
_CHILD = "import sys; sys.path[:] = {path!r}; from {module} import {name}; {name}({arguments})"


@dataclass(frozen=True)
class Outcome:
    """What came of one evaluation: everything that must be the same whenever it is repeated."""

    fitness: tuple[float, ...]
    arrays: dict[str, NDArray[Any]]

    def differs(self, other: Outcome) -> str:
        """Say in what it differs, or nothing."""
        if self.fitness != other.fitness:
            return f"fitness {self.fitness} and {other.fitness}"
        if self.arrays.keys() != other.arrays.keys():
            return f"saved arrays {sorted(self.arrays)} and {sorted(other.arrays)}"
        unequal = [name for name, a in self.arrays.items() if not _equal(a, other.arrays[name])]
        return f"different values in the saved array {unequal[0]!r}" if unequal else ""


def check_optimizee(
    optimizee: Optimizee,
    *,
    samples: int | Sequence[Params] = 3,
    simulator: str | None = None,
    changes: Collection[Process] = (),
) -> None:
    """Check that an optimizee can be evaluated anywhere, in any order, and be reproduced.

    Each parameter set is evaluated about five times, once of these in a fresh process.

    Parameters
    ----------
    optimizee
        As an experiment would get it, not set up.
    samples
        How many random parameter sets to try, or the parameter sets themselves.
    simulator
        Name of the module that must not be imported together with the optimizee's (``"arbor"``).
    changes
        What of the process an evaluation may change, out of ``"cwd"`` and ``"random"`` (the global generators of
        ``random`` and ``numpy.random``).

    Raises
    ------
    AssertionError
        Naming the rule that is broken and what to do.
    """
    _check_description(optimizee)
    if simulator is not None:
        _check_import(optimizee, simulator)
    packed = _check_pickles(optimizee, "before setup()")
    params = _parameter_sets(optimizee, samples)
    with _unchanged_process(optimizee, changes, "setup()"):
        optimizee.setup()
    _check_pickles(optimizee, "after setup()")
    first = []
    for i in range(len(params)):
        with _unchanged_process(optimizee, changes, "evaluate()"):
            first.append(_evaluated(optimizee, params, i))
    _check_order(optimizee, params, first)
    _check_copy(optimizee, params, first)
    _check_fresh_process(optimizee, packed, params, first)
    _check_batch(optimizee, params, first)
    _check_targets(optimizee, first)


def _broken(optimizee: Optimizee, rule: str, what: str) -> NoReturn:
    raise AssertionError(f"{type(optimizee).__name__} breaks the rule '{rule}': {what}")


def _check_description(optimizee: Optimizee) -> None:
    rule = "an optimizee describes itself"
    if not isinstance(optimizee, Optimizee):
        _broken(optimizee, rule, "expected an instance of a subclass of l2l_dask.Optimizee")
    if not isinstance(getattr(optimizee, "space", None), Space):
        _broken(optimizee, rule, "self.space must be a Space")
    try:
        Objectives(getattr(optimizee, "objectives", None))  # type: ignore[arg-type]
    except L2LError as error:
        _broken(optimizee, rule, f"self.objectives: {error}")
    size = optimizee.batch_size
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        _broken(optimizee, rule, f"batch_size must be a positive integer, got {size!r}")


def _parameter_sets(optimizee: Optimizee, samples: int | Sequence[Params]) -> list[Params]:
    if not samples:
        raise ValueError("check_optimizee needs at least one sample")
    if not isinstance(samples, int):
        return [copy.deepcopy(dict(params)) for params in samples]
    x = optimizee.space.sample(np.random.default_rng(_SEED), samples)
    return [optimizee.space.decode(row) for row in x]


def _check_import(optimizee: Optimizee, simulator: str) -> None:
    """Import the module in a fresh process and look what else came."""
    rule = "the simulator is imported when it is used, not with the optimizee"
    defined = optimizee.function if isinstance(optimizee, FunctionOptimizee) else type(optimizee)
    module, file = defined.__module__, Path(inspect.getfile(defined))
    answer = _in_a_fresh_process(_imports, (module, file, simulator))
    if isinstance(answer, str):
        _broken(optimizee, rule, f"its module cannot be imported in a fresh process: {answer}")
    if answer:
        _broken(optimizee, rule, f"importing {module} imports {simulator}: do so in setup() or evaluate()")


def _imports(question: tuple[str, Path, str]) -> bool:
    module, file, simulator = question
    if module != "__main__" and find_spec(module.partition(".")[0]) is not None:
        import_module(module)
    else:
        load_file(file)
    return simulator in sys.modules


def _check_pickles(optimizee: Optimizee, when: str) -> bytes:
    try:
        packed = pack(optimizee)
        unpack(packed)
    except Exception as error:
        _broken(
            optimizee,
            "an optimizee can be pickled at any time",
            f"{when} it cannot ({error}); make such state in setup(), and drop it in __getstate__",
        )
    return packed


def _evaluated(optimizee: Optimizee, params: Sequence[Params], i: int) -> Outcome:
    """Evaluate the i-th parameter set as individual i, which must give a fitness and leave its arguments alone."""
    given, context = copy.deepcopy(params[i]), _context(params, i)
    try:
        with _removed(context):
            returned = optimizee.evaluate(given, context)
    except Exception as error:
        _broken(
            optimizee,
            "every parameter set of the space can be evaluated",
            f"{type(error).__name__}: {error} with {params[i]}; narrow the space, or pass samples that work",
        )
    _check_unmodified(optimizee, given, params[i])
    return _outcome(optimizee, returned, context)


def _outcome(optimizee: Optimizee, returned: Any, context: Context) -> Outcome:
    try:
        fitness = Objectives(optimizee.objectives).parse(returned)
    except L2LError as error:
        _broken(optimizee, "evaluate() returns one finite number per objective", str(error))
    return Outcome(fitness, dict(context.saved))


def _context(params: Sequence[Params], i: int) -> Context:
    return Context(Candidate(i, copy.deepcopy(params[i]), _SEED))


@contextmanager
def _removed(*contexts: Context) -> Iterator[None]:
    """Remove the working folders afterwards, as a worker does."""
    try:
        yield
    finally:
        for context in contexts:
            if context._workdir is not None:
                shutil.rmtree(context._workdir, ignore_errors=True)


def _check_unmodified(optimizee: Optimizee, given: Params, original: Params) -> None:
    if given.keys() != original.keys() or not all(_equal(given[name], original[name]) for name in original):
        _broken(
            optimizee,
            "evaluate() does not modify its parameters",
            f"{original} became {given}; work on a copy",
        )


@contextmanager
def _unchanged_process(optimizee: Optimizee, changes: Collection[Process], where: str) -> Iterator[None]:
    before = _process_state()
    yield
    changed = [what for what, state in _process_state().items() if what not in changes and state != before[what]]
    if changed:
        advice = {
            "cwd": "work in context.workdir, or return to the folder in a finally clause",
            "random": "draw from context.rng, or seed the simulator with context.seed",
        }[changed[0]]
        _broken(
            optimizee,
            "an evaluation leaves its process as it was",
            f"{where} changed {changed[0]}: {advice}; or declare it: changes=({changed[0]!r},)",
        )


def _process_state() -> dict[Process, Any]:
    return {"cwd": os.getcwd(), "random": pickle.dumps((random.getstate(), np.random.get_state(legacy=False)))}


_REPRODUCIBLE = "the same parameters and seed give the same outcome"


def _check_order(optimizee: Optimizee, params: Sequence[Params], first: Sequence[Outcome]) -> None:
    for i in reversed(range(len(params))):
        difference = first[i].differs(_evaluated(optimizee, params, i))
        if difference:
            _broken(
                optimizee,
                _REPRODUCIBLE,
                f"evaluated twice in other orders, {params[i]} gave {difference}; draw from context.rng alone, and "
                "keep nothing from one evaluation to the next",
            )


def _check_copy(optimizee: Optimizee, params: Sequence[Params], first: Sequence[Outcome]) -> None:
    """Evaluate a copy made after setup() and evaluations, which must work like a new one."""
    restored = unpack(_check_pickles(optimizee, "after evaluate()"))
    restored.setup()
    for i in range(min(1, len(params))):
        difference = first[i].differs(_evaluated(restored, params, i))
        if difference:
            _broken(optimizee, _REPRODUCIBLE, f"original and pickled copy gave {difference} for {params[i]}")


def _check_fresh_process(optimizee: Optimizee, packed: bytes, params: list[Params], first: Sequence[Outcome]) -> None:
    answer = _in_a_fresh_process(_evaluate_packed, (packed, params))
    if isinstance(answer, str):
        _broken(optimizee, "an optimizee works in a fresh process", answer)
    for i, outcome in enumerate(answer):
        difference = first[i].differs(outcome)
        if difference:
            _broken(
                optimizee,
                _REPRODUCIBLE,
                f"here and in a fresh process {params[i]} gave {difference}; look for the order of a set, a global "
                "variable, the time or the process id",
            )


def _evaluate_packed(question: tuple[bytes, list[Params]]) -> list[Outcome]:
    packed, params = question
    optimizee = unpack(packed)
    optimizee.setup()
    return [_evaluated(optimizee, params, i) for i in range(len(params))]


def _check_batch(optimizee: Optimizee, params: Sequence[Params], first: Sequence[Outcome]) -> None:
    rule = "evaluate_batch() equals evaluate()"
    for start in range(0, len(params), optimizee.batch_size):
        ids = range(start, min(start + optimizee.batch_size, len(params)))
        given, contexts = [copy.deepcopy(params[i]) for i in ids], [_context(params, i) for i in ids]
        with _removed(*contexts):
            returned = optimizee.evaluate_batch(given, contexts)
        if len(returned) != len(ids):
            _broken(optimizee, rule, f"it returned {len(returned)} values for {len(ids)} parameter sets")
        for i, value, context, used in zip(ids, returned, contexts, given, strict=True):
            _check_unmodified(optimizee, used, params[i])
            difference = first[i].differs(_outcome(optimizee, value, context))
            if difference:
                _broken(optimizee, rule, f"alone and in a batch {params[i]} gave {difference}")


def _check_targets(optimizee: Optimizee, outcomes: Sequence[Outcome]) -> None:
    rule = "targets() are what saved arrays should look like"
    targets = optimizee.targets()
    if not isinstance(targets, Mapping) or not all(isinstance(target, Target) for target in targets.values()):
        _broken(optimizee, rule, f"expected {{name: Target(values, ..)}}, got {targets!r}")
    for name, target in targets.items():
        values = np.asarray(target.values)
        if values.ndim != 1 or not values.size or not np.isfinite(values).all():
            _broken(optimizee, rule, f"{name!r} must be a one-dimensional, finite array, got shape {values.shape}")
        if not target.step > 0:
            _broken(optimizee, rule, f"{name!r} needs step > 0, got {target.step!r}")
        for outcome in outcomes:
            saved = outcome.arrays.get(name)
            if saved is None:
                _broken(optimizee, rule, f"no array {name!r} is saved: call context.save({name!r}, ..) in evaluate()")
            if saved.shape != values.shape:
                _broken(optimizee, rule, f"{name!r} has shape {values.shape}, the saved array {saved.shape}")


def _equal(a: Any, b: Any) -> bool:
    a, b = np.asarray(a), np.asarray(b)
    if a.dtype.kind not in "fc" or b.dtype.kind not in "fc":
        return bool(np.array_equal(a, b))
    return bool(np.array_equal(a, b, equal_nan=True))


def _in_a_fresh_process(function: Callable[[Any], Any], question: Any) -> Any:
    """Call a function of this module in a new interpreter; a str is the reason why that failed."""
    with tempfile.TemporaryDirectory(prefix="l2l-check-") as folder:
        asked, answered = Path(folder, "question"), Path(folder, "answer")
        asked.write_bytes(pickle.dumps(question))
        code = _CHILD.format(
            path=sys.path,
            module=__name__,
            name="_answer",
            arguments=f"{function.__name__!r}, {str(asked)!r}, {str(answered)!r}",
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONHASHSEED": "random"},
        )
        if not answered.is_file():
            return "\n".join(done.stderr.splitlines()[-10:]) or f"the process ended with {done.returncode}"
        return pickle.loads(answered.read_bytes())


def _answer(name: str, asked: str, answered: str) -> None:
    answer = globals()[name](pickle.loads(Path(asked).read_bytes()))
    Path(answered).write_bytes(pickle.dumps(answer))
