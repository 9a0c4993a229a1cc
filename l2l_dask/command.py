"""A command line as an optimizee: any program, in any language, ``srun`` and ``mpirun`` included."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l2l_dask.errors import ConfigError, EvaluationError
from l2l_dask.evaluation import Objective, Objectives
from l2l_dask.optimizee import Context, Optimizee
from l2l_dask.space import Params, Space

RESERVED = ("seed", "id", "workdir", "params")

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_STDERR_LINES = 20
_SHOWN = 200


class CommandOptimizee(Optimizee):
    """Run a command line for each individual and read its fitness from what it prints.

    The parameters reach the program in three ways: as placeholders in the command, as a JSON object on its standard
    input, and as the file that ``{params}`` names. It prints the fitness as the last line of its standard output: a
    number, or JSON: a number, a list, or an object by objective name. It fails by a non-zero exit code.

    The program runs without a shell and in the process group of the evaluation, so that it ends with it.

    Parameters
    ----------
    command
        A string, split as a shell would, or a list of words. ``{tau_m}`` stands for the parameter of that name (an
        array as JSON), ``{seed}`` and ``{id}`` for the individual's, ``{workdir}`` for an empty folder of its own, and
        ``{params}`` for a JSON file with all parameters. Write ``{{`` and ``}}`` for braces. A word that contains a
        parameter which is not active is left out, with the option before it if it is a word of its own
        (``--depth {depth}``).
    space, objectives
        What it takes and what it prints.
    cwd
        Where it runs; by default the folder that was current when this object was made.
    env
        Environment variables to add.

    Raises
    ------
    ConfigError
        If the command is empty or names an unknown placeholder.
    """

    def __init__(
        self,
        command: str | Sequence[str],
        space: Space,
        objectives: Objectives | Objective | Sequence[Objective],
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.command = _words(command)
        self.space = space
        self.objectives: Objectives = Objectives(objectives)
        self.cwd = (Path.cwd() / (cwd or "")).resolve()
        self.env = {name: str(value) for name, value in (env or {}).items()}
        self._check_names()

    def _check_names(self) -> None:
        clash = sorted(set(self.space) & set(RESERVED))
        if clash:
            raise ConfigError(
                f"a command's parameter cannot be called {clash[0]!r}: {{{clash[0]}}} has its own meaning"
            )
        known = [*self.space, *RESERVED]
        unknown = sorted({name for word in self.command for name in _placeholders(word)} - set(known))
        if unknown:
            raise ConfigError(
                f"the command has an unknown placeholder {{{unknown[0]}}}: expected one of "
                f"{', '.join(known)}, or {{{{ and }}}} for braces"
            )

    def evaluate(self, params: Params, context: Context) -> tuple[float, ...]:
        stdin = json.dumps({name: _plain(value) for name, value in params.items()})
        words = self.words(params, context)
        if any("params" in _placeholders(word) for word in self.command):
            _params_file(context).write_text(stdin)
        shown = shlex.join(words)
        try:
            done = subprocess.run(
                words,
                input=stdin,
                capture_output=True,
                cwd=self.cwd,
                env=os.environ | self.env,
                encoding="utf-8",
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise EvaluationError(f"the command cannot be started in {self.cwd} ({error}): {shown}") from error
        if done.returncode:
            raise EvaluationError(f"the command {_ending(done.returncode)}: {shown}{_tail(done.stderr)}")
        return self._fitness(done.stdout, f"{shown}{_tail(done.stderr)}")

    def words(self, params: Params, context: Context) -> list[str]:
        """Fill in the placeholders."""
        values = {name: _text(value) for name, value in params.items()}
        values |= {"seed": str(context.seed), "id": str(context.id)}
        used = {name for word in self.command for name in _placeholders(word)}
        if "workdir" in used:
            values["workdir"] = str(context.workdir.resolve())
        if "params" in used:
            values["params"] = str(_params_file(context))
        filled: list[str] = []
        for position, word in enumerate(self.command):
            if all(name in values for name in _placeholders(word)):
                filled.append(_BRACES.sub(lambda match: _replacement(match, values), word))
            elif position > 1 and _is_option(self.command[position - 1]) and _BRACES.fullmatch(word):
                filled.pop()
        return filled

    def _fitness(self, stdout: str, shown: str) -> tuple[float, ...]:
        lines = [line.strip() for line in stdout.splitlines() if line.strip()]
        if not lines:
            raise EvaluationError(f"the command printed no fitness on standard output: {shown}")
        try:
            return self.objectives.parse(_parsed(lines[-1]))
        except (ValueError, EvaluationError) as error:
            line = lines[-1][:_SHOWN]
            raise EvaluationError(
                f"the last line of the command's output is no fitness ({error}): {line!r} from {shown}"
            ) from None


def _words(command: str | Sequence[str]) -> tuple[str, ...]:
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise ConfigError(f"the command cannot be split into words ({error}): {command!r}") from None
    if not words or not all(isinstance(word, str) for word in words):
        raise ConfigError(f"a command is a string or a list of strings, got {command!r}")
    return tuple(words)


def _placeholders(word: str) -> list[str]:
    return [match[1] for match in _BRACES.finditer(word) if match[1] is not None]


def _replacement(match: re.Match[str], values: Mapping[str, str]) -> str:
    return match[0][0] if match[1] is None else values[match[1]]


def _is_option(word: str) -> bool:
    return word.startswith("-") and not _placeholders(word)


def _params_file(context: Context) -> Path:
    return context.workdir.resolve() / "params.json"


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(_plain(value))


def _parsed(line: str) -> Any:
    try:
        return float(line)
    except ValueError:
        return json.loads(line)


def _ending(returncode: int) -> str:
    if returncode > 0:
        return f"failed with exit code {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"


def _tail(stderr: str) -> str:
    lines = stderr.rstrip().splitlines()[-_STDERR_LINES:]
    return "\n".join(["", *lines]) if lines else ""
