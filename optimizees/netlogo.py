"""Agent-based models in NetLogo: the foraging ants that come with this package, or any model of the user's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import EvaluationError, PluginError
from l2l_dask.evaluation import Objective, Objectives
from l2l_dask.optimizee import Context, Optimizee
from l2l_dask.space import Floats, Params, Real, Space
from optimizees._netlogo_files import home, jars, literal, searched, widgets
from optimizees._netlogo_options import checked_seeds, derived, listed, record_of, reporters_of, templates, text
from optimizees._netlogo_workspace import Model, Workspace, opened
from optimizees._options import check_integer
from optimizees._simulators import require

_OWN = Path(__file__).with_name("models")
_ANTS = {
    "evaporation": Real(0.001, 0.5, log=True),
    "diffusion": Real(0.0, 1.0),
    "drop": Real(0.1, 100.0, log=True),
    "persistence": Real(0.5, 1.0),
    "sensitivity": Real(0.001, 10.0, log=True),
    "wiggle": Real(0.0, 90.0),
    "sniff-angle": Real(5.0, 90.0),
    "outward-bias": Real(0.0, 1.0),
}
_HELD_OUT_RUNS = 10
_HELD_OUT = 0x48454C44  # keeps the seeds of the check apart from those of the search


@dataclass(frozen=True)
class Runs:
    """What came of running a model several times with the same parameters.

    Attributes
    ----------
    fitness : (runs, n_objectives) array
    ticks : (looks,) array
        After how many calls of ``go`` the reporters were looked at.
    courses
        For each reporter a (runs, looks) array, or (runs, looks, n) where it gives lists; NaN where it failed.
    """

    fitness: Floats
    ticks: NDArray[np.int64]
    courses: Mapping[str, Floats]


class NetLogo(Optimizee):
    """Search the parameters of an agent-based model in NetLogo: foraging ants, or a model of your own.

    The colony ``ants`` comes with this package. Its ants lay and follow trails of pheromone; eight parameters of the
    pheromone and of how they move are searched, and the fitness is how many units of food reach the nest. Where the
    food lies is drawn anew for each seed.

    For another model, ``model`` is the path of its file and ``fitness`` says what is measured. What is searched are its
    sliders, or those that ``parameters`` lists, or what the experiment's ``[space]`` says: each is the name of a global
    variable, unless ``commands`` says how it is set. A parameter with a shape becomes a list.

    Each run begins with ``file-close-all``, the world's size as in the file, ``clear-all``, all widgets as they are in
    the file, and a seed of its own. Nothing else is reset: not default shapes, the current directory, what an extension
    keeps, and files that the model writes. The course of each fitness and of ``record`` is saved under its name, as the
    mean over the runs. The learning curve is that of the first fitness in the first run, and then after each further
    run the mean of the runs so far; it ends at the fitness.

    Needs the extra ``l2l-dask[netlogo]`` and NetLogo itself (4.1 or later, with its Java), to whose folder the
    environment variable ``NETLOGO_HOME`` points on every machine that evaluates. NetLogo 4.1.3 was tested.

    Parameters
    ----------
    model
        ``ants``, or the path of a ``.nlogo`` (from NetLogo 7 on ``.nlogox``) file. What it reads or includes is found
        beside it.
    fitness
        Reporters by the names of the objectives, ``{food = "sum [food] of ants"}``, or one reporter. Each must give a
        number; each is maximised unless ``minimize`` names it or ``[objectives]`` says otherwise.
    minimize
        Names of those that are better the smaller they are.
    parameters
        Names of sliders, switches and choosers to search, in the ranges that they have in the file; or ranges by
        name, ``{population = [10, 200], spread = {low = 0.01, high = 1.0, log = true}}``.
    commands
        How to set parameters that are no global variables, with ``{}`` for the value:
        ``{weights = "ask patches [set-up-weights {}]"}``.
    after_setup
        Names of parameters to set after ``setup`` and not before, because ``setup`` would overwrite them. During
        ``setup`` they have the values of the file.
    setup, go
        Commands that prepare a run, and that make one step of it.
    ticks
        How often ``go`` is called.
    stop
        A reporter; the run ends as soon as it gives true.
    measure
        ``end``: the fitness is that at the end of a run; ``mean``: the mean over all looks at it during the run.
    interval
        Calls of ``go`` between two looks at the reporters.
    record
        Further reporters by name, of numbers or lists of numbers, whose courses are saved. Reporters that draw random
        numbers, as ``one-of`` does, change the run.
    repeats
        Runs with different seeds in each evaluation, over which the fitness is the mean.
    seeds
        The seeds of these runs, the same for all individuals; by default they derive from the individual's own.
    netlogo_home
        The folder of NetLogo, instead of ``NETLOGO_HOME``.
    jvm_options
        Options for Java, such as how much memory it may use.
    """

    source: ClassVar[str] = "Wilensky (1999), NetLogo, Northwestern University"

    def __init__(
        self,
        model: str = "ants",
        *,
        fitness: dict[str, str] | str | None = None,
        minimize: str | Sequence[str] = (),
        parameters: list[str] | dict[str, Any] | None = None,
        commands: dict[str, str] | None = None,
        after_setup: str | Sequence[str] = (),
        setup: str = "setup",
        go: str = "go",
        ticks: int = 400,
        stop: str = "",
        measure: Literal["end", "mean"] = "end",
        interval: int = 10,
        record: dict[str, str] | None = None,
        repeats: int = 2,
        seeds: list[int] | None = None,
        netlogo_home: str = "",
        jvm_options: str | Sequence[str] = ("-Xmx1g",),
    ) -> None:
        require("netlogo", jpype="JPype, which runs NetLogo,")
        own = model == "ants"
        self.ticks, self.interval = check_integer("ticks", ticks, 1), check_integer("interval", interval, 1)
        self.repeats = check_integer("repeats", repeats, 1)
        if measure not in ("end", "mean"):
            raise PluginError(f"measure: expected 'end' or 'mean', got {measure!r}")
        self.setup_commands, self.go_commands, self.stop = text("setup", setup), text("go", go), stop.strip()
        self.measure = measure
        self.seeds = checked_seeds(seeds)
        self.netlogo_home, self.jvm_options = netlogo_home, listed(jvm_options)
        jars(home(netlogo_home))
        self.model = Model.read(_OWN / "ants.nlogo" if own else Path.cwd() / Path(model).expanduser())
        self.reporters = reporters_of(fitness, own)
        self.record = record_of(record or {}, self.reporters)
        self.commands = templates(commands or {})
        self.after_setup = frozenset(name.lower() for name in listed(after_setup))
        self._widgets = widgets(self.model.text)
        smaller = listed(minimize)
        unknown = sorted(set(smaller) - set(self.reporters))
        if unknown:
            raise PluginError(f"minimize: expected some of {list(self.reporters)}, got {unknown[0]!r}")
        self.objectives = Objectives(
            [Objective(name, "minimize" if name in smaller else "maximize") for name in self.reporters]
        )
        space = _ANTS if own and parameters is None else searched(parameters, self._widgets, self.model.name)
        if space:  # else the experiment's [space] is what is searched
            self.space = Space(space)

    def setup(self) -> None:
        """Start Java and open the model. If that fails, the first evaluation tells why."""
        try:
            with self._opened():
                pass
        except EvaluationError:
            pass

    def simulate(self, params: Params, seed: int) -> Runs:
        """Run the model, once for each of the seeds that derive from ``seed`` (or were given as option).

        Raises
        ------
        EvaluationError
            With NetLogo's words, if anything in it fails.
        """
        return self._runs(params, self._seeds(seed))

    def evaluate(self, params: Params, context: Context) -> dict[str, float]:
        self._check_names(params)
        runs = self._runs(params, self._seeds(context.seed), context.report)
        for name, course in runs.courses.items():
            context.save(re.sub(r"[^\w.-]+", "_", name).lstrip("."), course.mean(axis=0))
        return dict(zip(self.reporters, runs.fitness.mean(axis=0).tolist(), strict=True))

    def held_out(self, params: Params, seed: int = 1) -> dict[str, float]:
        """Run the model ten times with seeds that no search uses: the mean of each fitness, and its deviation.

        Returns
        -------
        dict
            ``{"food": .., "food_sd": ..}``
        """
        used = set(self.seeds or ())
        drawn = (s for s in derived(4 * _HELD_OUT_RUNS + len(used), seed, _HELD_OUT) if s not in used)
        fitness = self._runs(params, list(dict.fromkeys(drawn))[:_HELD_OUT_RUNS]).fitness
        found: dict[str, float] = {}
        for name, values in zip(self.reporters, fitness.T, strict=True):
            found |= {name: float(values.mean()), f"{name}_sd": float(values.std(ddof=1))}
        return found

    def _seeds(self, seed: int) -> list[int]:
        return list(self.seeds) if self.seeds else derived(self.repeats, seed)

    def _opened(self) -> Any:
        return opened(self.model, home(self.netlogo_home), self.jvm_options)

    def _runs(self, params: Params, seeds: Sequence[int], report: Callable[[float, float], None] | None = None) -> Runs:
        fitness: list[list[float]] = []
        courses: list[dict[str, list[Any]]] = []
        with self._opened() as workspace:
            for number, seed in enumerate(seeds):
                self._begin(workspace, params, seed)
                course: dict[str, list[Any]] = {name: [] for name in (*self.reporters, *self.record)}
                for tick in self._looks(workspace):
                    self._look(workspace, course)
                    value = self._so_far(course[next(iter(self.reporters))])
                    if report is not None and number == 0 and np.isfinite(value):
                        report(tick, value)
                fitness.append([self._fitness(workspace, name, course[name]) for name in self.reporters])
                courses.append(course)
                if report is not None and number:
                    report((number + 1) * self.ticks, float(np.mean(fitness, axis=0)[0]))
        return Runs(np.array(fitness), self._times(), {name: self._stacked(name, courses) for name in courses[0]})

    def _begin(self, workspace: Workspace, params: Params, seed: int) -> None:
        """Set everything that a run depends on, and set it up."""
        early = {name: literal(value) for name, value in params.items() if name.lower() not in self.after_setup}
        late = {name: literal(value) for name, value in params.items() if name.lower() in self.after_setup}
        workspace.reset()
        workspace.once(f"random-seed {seed}")
        self._assign(workspace, early)
        # What it is, not what was given: a widget may round a value, or put it back into its range.
        given = {name: workspace.report(name) for name in early if name.lower() not in self.commands}
        self._do(workspace, self.setup_commands, "setup")
        self._check_kept(workspace, given)
        self._assign(workspace, late)

    def _check_names(self, params: Params) -> None:
        """Refuse names in the options that are no parameter's: without a word, they would have no effect."""
        known = {name.lower(): name for name in (*getattr(self, "space", ()), *params)}
        for option, names in (("after_setup", self.after_setup), ("commands", self.commands)):
            unknown = sorted(set(names) - set(known))
            if unknown:
                raise EvaluationError(
                    f"{option}: expected some of what is searched, {', '.join(known.values())}, got {unknown[0]!r}"
                )

    def _assign(self, workspace: Workspace, values: Mapping[str, str]) -> None:
        assignments = {
            name: self.commands.get(name.lower(), f"set {name} {{}}").replace("{}", value)
            for name, value in values.items()
        }
        try:
            workspace.once(" ".join(assignments.values()))
        except EvaluationError:
            for name, assignment in assignments.items():  # one by one, to find out which it was
                try:
                    workspace.once(assignment)
                except EvaluationError as error:
                    raise EvaluationError(
                        f"the parameter {name!r} cannot be set by {assignment[:80]!r} in {self.model.name}: {error}"
                    ) from None

    def _check_kept(self, workspace: Workspace, given: Mapping[str, Any]) -> None:
        """Refuse parameters without effect: those that ``setup`` sets, and globals that its ``clear-all`` forgets."""
        for name, value in given.items():
            now = workspace.report(name)
            if repr(now) == repr(value):  # 0 is not false in NetLogo
                continue
            widget = self._widgets.get(name.lower())
            what, other = (widget.kind, "take it out of setup") if widget else ("global", "make it a slider")
            raise EvaluationError(
                f"{self.setup_commands!r} in {self.model.name} overwrites the {what} {name!r}, which was "
                f"{value!r:.40} and is {now!r:.40} after it: list it in the option after_setup, or {other}"
            )

    def _do(self, workspace: Workspace, commands: str, what: str) -> None:
        try:
            workspace.command(commands)
        except EvaluationError as error:
            raise EvaluationError(f"{commands!r} failed in {self.model.name} (option {what}): {error}") from None

    def _looks(self, workspace: Workspace) -> Iterator[int]:
        """Make the steps, and pause for each look at the reporters."""
        for tick in self._times().tolist():
            n = tick - (tick - 1) // self.interval * self.interval
            if not self.stop:
                self._do(workspace, f"repeat {n} [ {self.go_commands} ]", "go")
                yield tick
                continue
            steps = f"let l2l-left {n} while [l2l-left > 0 and not ({self.stop})] "
            self._do(workspace, f"{steps} [ {self.go_commands} set l2l-left l2l-left - 1 ]", "go and stop")
            yield tick
            if workspace.report(self.stop) is True:
                return

    def _times(self) -> NDArray[np.int64]:
        return np.unique(np.append(np.arange(self.interval, self.ticks, self.interval), self.ticks))

    def _look(self, workspace: Workspace, course: Mapping[str, list[Any]]) -> None:
        for name, reporter in (self.reporters | self.record).items():
            value = self._value(workspace, reporter)
            if isinstance(value, str | bool) or (isinstance(value, list) and name in self.reporters):
                raise EvaluationError(f"{name}: expected a number from the reporter {reporter!r}, got {value!r}")
            course[name].append(value)

    def _value(self, workspace: Workspace, reporter: str) -> Any:
        """Evaluate a reporter; one that fails in the midst of a run, as a mean over nobody does, gives NaN."""
        try:
            return workspace.report(reporter)
        except EvaluationError as error:
            if workspace.compiles(reporter):
                return float("nan")
            raise EvaluationError(f"{self.model.name} cannot report {reporter!r}: {error}") from None

    def _fitness(self, workspace: Workspace, name: str, course: Sequence[float]) -> float:
        value = self._so_far(course)
        if np.isfinite(value):
            return value
        try:
            workspace.report(self.reporters[name])
        except EvaluationError as error:
            raise EvaluationError(f"{name}: {self.reporters[name]!r} failed at the end of the run: {error}") from None
        raise EvaluationError(f"{name}: {self.reporters[name]!r} failed in the course of the run: use measure = 'end'")

    def _so_far(self, course: Sequence[float]) -> float:
        return float(np.mean(course)) if self.measure == "mean" else course[-1]

    def _stacked(self, name: str, courses: Sequence[Mapping[str, list[Any]]]) -> Floats:
        """Put the courses of all runs into an array; a run that was stopped stays as it was."""
        n = len(self._times())
        try:
            return np.array([c[name] + [c[name][-1]] * (n - len(c[name])) for c in courses], dtype=float)
        except ValueError:
            raise EvaluationError(f"record: {name!r} must give numbers, or lists of always the same length") from None
