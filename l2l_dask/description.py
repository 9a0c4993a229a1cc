"""From an experiment's description to the objects that it names, and back; what the store records of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import chdir
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from l2l_dask import registry, shipping, sources
from l2l_dask.command import CommandOptimizee
from l2l_dask.config import Config, RunSection, parse
from l2l_dask.errors import ConfigError, PluginError, SpaceError
from l2l_dask.evaluation import FAILURES, Goal, Objectives, Sampling
from l2l_dask.loop import Policy
from l2l_dask.optimizee import FunctionOptimizee, Optimizee
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space

_CONSEQUENCE = {
    "optimizee": "and keeps the results of the old",
    "optimizer": "if that asks for the same again",
}
PICKLED = "pickled"  # the name of what has none, and is kept in pickled form


@dataclass(frozen=True)
class Problem:
    """What is searched: an optimizee with its space and objectives, which are checked here."""

    optimizee: Optimizee
    space: Space
    objectives: Objectives


@dataclass(frozen=True)
class Plan:
    """All that it takes to run an experiment.

    Attributes
    ----------
    config
        The sections of an experiment file.
    problem
        What is searched.
    optimizer
        A name, a class, or an instance that is as new.
    folder
        Where relative paths start.
    store
        The folder that holds the trajectory.
    """

    config: Config
    problem: Problem
    optimizer: Any
    folder: Path
    store: Path

    def check(self) -> None:
        """Refuse what cannot be, before anything is written.

        Raises
        ------
        L2LError
            Saying what.
        """
        policy(self.config.run, self.problem.objectives)
        self.initial_x()
        self.build_optimizer()

    def informed(self, slots: int | None) -> Plan:
        """Let the optimizer know the budget and the number of slots, where it asks for them and the user says nothing.

        They become options like any other: recorded, and the same when the search is resumed.
        """
        found = _found(self.optimizer, self.folder)
        if isinstance(found, Optimizer):
            return self
        section, facts = self.config.optimizer, {"evaluations": self.config.run.evaluations, "workers": slots}
        unset = {name for name, option in registry.options(found).items() if option.default in (None, ...)}
        wanted = unset - section.options.keys()
        told = {name: value for name, value in facts.items() if name in wanted and value is not None}
        informed = section.model_copy(update={"options": section.options | told})
        return replace(self, config=self.config.model_copy(update={"optimizer": informed}))

    def build_optimizer(self) -> Optimizer:
        """Make the optimizer as new."""
        options, seed = self.config.optimizer.options, self.config.run.seed
        return optimizer(self.optimizer, self.problem, options, seed, self.folder)

    def initial_x(self) -> list[Floats]:
        """Encode the parameter sets that the user wants tried first.

        Raises
        ------
        SpaceError
            Naming the set that does not fit.
        """
        encoded = []
        for number, params in enumerate(self.config.run.initial):
            try:
                encoded.append(self.problem.space.encode(params))
            except SpaceError as error:
                raise SpaceError(f"initial[{number}]: {error}") from None
        return encoded

    def described(self) -> dict[str, Any]:
        """Describe it for its store: the file's sections, with what is needed to find everything again."""
        sections = self.config.model_dump(exclude={"run": {"store"}})
        packages = ("l2l-dask", "numpy", "scipy", "dask", "zarr")
        return sections | {
            "space": self.problem.space.to_dict(),
            "objectives": self.problem.objectives.to_dict(),
            "folder": str(self.folder),
            "folder_from_store": os.path.relpath(self.folder, self.store),
            "labels": {
                "optimizee": _label(
                    self.config.optimizee.command or self.config.optimizee.name, self.problem.optimizee
                ),
                "optimizer": _label(self.config.optimizer.name, self.optimizer),
            },
            "explanation": self.build_optimizer().explanation,
            "sources": self._sources(),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        }

    def _sources(self) -> dict[str, dict[str, str]]:
        """Digest the user's files that are read again when the search is resumed."""
        found, optimizee, name = {}, self.problem.optimizee, self.config.optimizer.name
        if isinstance(optimizee, CommandOptimizee):
            words = [*optimizee.command, *map(str, optimizee.template_files)]
            found["optimizee"] = sources.digests_of_command(words, self.folder)
        elif self.config.optimizee.name != PICKLED:
            file = str(self.config.optimizee.name).rpartition(":")[0]  # which may only make what another one defines
            files = [*([file] if file.endswith(".py") else []), *_texts(self.config.optimizee.options)]
            named = sources.digests_of_command(files, self.folder)
            found["optimizee"] = named | sources.digests(optimizee, self.folder)
        if name != PICKLED:
            found["optimizer"] = sources.digests(registry.find("optimizers", name, self.folder), self.folder)
        return found


def _texts(value: Any) -> list[str]:
    """List the texts among options, however deep: some are names of files."""
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [value] if isinstance(value, str) else [text for part in parts for text in _texts(part)]


def _label(name: str | list[str] | None, thing: Any) -> str:
    """Name something for a reader: as the user did, or as its code does."""
    return shipping.named(thing) if name in (None, PICKLED) else str(name)


def problem(
    optimizee: Any, space: Any = None, objectives: Any = None, options: Mapping[str, Any] | None = None
) -> Problem:
    """Make an optimizee of whatever the user gave: an instance, a class, or a function with space and objectives.

    Raises
    ------
    PluginError
        If it is neither, or lacks what it needs.
    """
    if isinstance(optimizee, type) and issubclass(optimizee, Optimizee):
        optimizee = registry.build(optimizee, optimizee.__name__, options or {})
    elif options:
        raise PluginError("options are for an optimizee's class, not for a function or an instance")
    if not isinstance(optimizee, Optimizee):
        if not callable(optimizee):
            raise PluginError(f"expected an Optimizee or a function, got {optimizee!r}")
        if space is None or objectives is None:
            raise PluginError("a function needs space=Space(...) and objectives=minimize('loss')")
        optimizee = FunctionOptimizee(optimizee, as_space(space), Objectives(objectives))
    if not isinstance(optimizee.batch_size, int) or optimizee.batch_size < 1:
        raise PluginError(f"batch_size must be a positive integer, got {optimizee.batch_size!r}")
    own_space, own_objectives = getattr(optimizee, "space", None), getattr(optimizee, "objectives", None)
    if (own_space is None and space is None) or (own_objectives is None and objectives is None):
        raise PluginError(
            f"{type(optimizee).__name__} must set self.space and self.objectives, or the experiment give them"
        )
    if space is not None:
        optimizee.space = as_space(space)
    if objectives is not None:
        optimizee.objectives = Objectives(objectives)
    return Problem(optimizee, as_space(optimizee.space), Objectives(optimizee.objectives))


def as_space(space: Any) -> Space:
    return space if isinstance(space, Space) else Space.from_dict(space)


def optimizer(reference: Any, problem: Problem, options: Mapping[str, Any], seed: int, folder: Path) -> Optimizer:
    """Build an optimizer from a class, a name, or an instance that is as new.

    Raises
    ------
    L2LError
        If there is none of that name, or it refuses the options, the space or the objectives.
    """
    found = _found(reference, folder)
    if isinstance(found, Optimizer):
        return _fitting(found, problem, options, seed)
    name = f"optimizer {reference!r}" if isinstance(reference, str) else found.__name__
    made: Optimizer = registry.build(
        found, name, options, space=problem.space, objectives=problem.objectives, seed=seed
    )
    return made


def _found(reference: Any, folder: Path) -> Any:
    """Find an optimizer's class by its name; a class and an instance are what they are."""
    found = registry.find("optimizers", reference, folder) if isinstance(reference, str) else reference
    if not isinstance(found, Optimizer) and not (isinstance(found, type) and issubclass(found, Optimizer)):
        raise PluginError(f"expected the name or the class of an optimizer, got {reference!r}")
    return found


def _fitting(given: Optimizer, problem: Problem, options: Mapping[str, Any], seed: int) -> Optimizer:
    """Take an instance that was made for this very experiment, and leave it as it is: it is needed again."""
    if given.n_asked or options:
        raise PluginError("an optimizer instance must be new, and takes no further options")
    for name, its, ours in (
        ("space", given.space.to_dict(), problem.space.to_dict()),
        ("objectives", given.objectives.to_dict(), problem.objectives.to_dict()),
        ("seed", given.seed, seed),
    ):
        if its != ours:
            raise PluginError(f"the optimizer instance has another {name} than the experiment: {its}, expected {ours}")
    try:
        return deepcopy(given)
    except Exception as error:  # it holds a lock, an open file, ..
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(f"the optimizer instance {type(given).__name__} cannot be copied and kept: {what}") from error


def problem_of(config: Config, folder: Path) -> Problem:
    """Build the problem that an experiment file describes."""
    section = config.optimizee
    space = None if config.space is None else Space.from_dict(config.space)
    if section.command is not None:
        objectives: Any = config.objectives
        fixed = {"command": section.command, "space": space, "objectives": Objectives(objectives), "cwd": folder}
        return problem(registry.build(CommandOptimizee, "a command", section.options, **fixed))
    with chdir(folder if folder.is_dir() else "."):  # paths in it and among its options start there, as all do
        found = registry.find("optimizees", str(section.name), folder)
        if isinstance(found, type) and issubclass(found, Optimizee):
            made = registry.build(found, f"optimizee {section.name!r}", section.options)
            return problem(made, space, config.objectives)
    if isinstance(found, Optimizee):  # a copy: a [space] of this file is not for the next that names the same object
        return problem(copy(found), space, config.objectives, section.options)
    if not callable(found):
        raise PluginError(f"{section.name!r} must be a function or an Optimizee, got {type(found).__name__}")
    if space is None or config.objectives is None:
        raise ConfigError(f"{section.name!r} is a function: it needs a [space] and [objectives]")
    return problem(found, space, config.objectives, section.options)


def policy(run: RunSection, objectives: Objectives) -> Policy:
    """Read the policy off a ``[run]`` section."""
    labels = {status.label: status for status in FAILURES}
    unknown = [label for label in run.retry_on if label not in labels]
    if unknown:
        raise ConfigError(f"[run] retry_on: expected some of {list(labels)}, got {unknown[0]!r}")
    again = frozenset(labels[label] for label in run.retry_on)
    return Policy(
        run.evaluations, run.retries, again, run.max_failures_in_a_row, _goal(run.target, objectives), run.final
    )


def _goal(target: float | Mapping[str, float] | None, objectives: Objectives) -> Goal | None:
    if target is None:
        return None
    if isinstance(target, Mapping):
        unknown = [name for name in target if name not in objectives.names]
        if unknown or not target:
            raise ConfigError(f"[run] target: expected some of {list(objectives.names)}, got {unknown or target}")
        return Goal(objectives, target)
    if len(objectives) > 1:
        raise ConfigError(f"[run] target: expected {{{objectives.names[0]} = {target:g}, ...}}, got {target:g}")
    return Goal(objectives, {objectives.names[0]: target})


def sampling(run: RunSection) -> Sampling:
    """Read off a ``[run]`` section how often individuals are evaluated."""
    return Sampling(run.repeats, run.seeds, run.final, run.final_repeats)


def restored(experiment: Mapping[str, Any], store: Path) -> tuple[Config, Path]:
    """Read a store's description back."""
    sections = {name: experiment[name] for name in Config.model_fields if name in experiment}
    folder = Path(experiment["folder"])
    if not folder.is_dir():  # the whole project was moved
        folder = (store / experiment["folder_from_store"]).resolve()
    return parse(sections), folder


def reference(thing: Any) -> str | None:
    """Return the name by which a user's class can be found again, None if it must be pickled."""
    return thing if isinstance(thing, str) else (shipping.importable(thing) or None)


def changes(experiment: Mapping[str, Any], folder: Path, *, optimizee: Any, optimizer: Any) -> list[str]:
    """Say which of the user's files are not what they were when a store was created.

    Parameters
    ----------
    optimizee, optimizer
        What takes the recorded one's place, of which nothing is said; or None.
    """
    said, instead = [], {"optimizee": optimizee, "optimizer": optimizer}
    for what, digests in experiment.get("sources", {}).items():
        changed = [] if instead.get(what) is not None else sources.changed(digests, folder)
        if changed:
            said.append(
                f"{', '.join(changed)} of the {what} changed since this search began: it goes on with the new code "
                f"{_CONSEQUENCE[what]}; to go on with the old, put the file back"
            )
    return said
