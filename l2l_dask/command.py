"""A command line as an optimizee: any program, in any language, ``srun`` and ``mpirun`` included."""

from __future__ import annotations

import json
import math
import os
import re
import selectors
import shlex
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from l2l_dask.errors import ConfigError, EvaluationError, PluginError
from l2l_dask.evaluation import Objective, Objectives
from l2l_dask.family import GRACE
from l2l_dask.optimizee import Context, Optimizee
from l2l_dask.space import Params, Space
from l2l_dask.templates import Template, plain, text

RESERVED = ("seed", "id", "folder", "workdir", "params")  # the last two need a folder of its own
_PARAMS = "params.json"

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_SHOWN = 200
_ERROR_LINES = 20
_CHUNK = 1 << 16  # bytes
_LOOK = 0.1  # seconds between two looks whether a program that prints nothing has ended


class CommandOptimizee(Optimizee):
    """Run a command line for each individual and read its fitness from what it prints, or from a file that it writes.

    The parameters reach the program as placeholders in the command and in environment variables, as a JSON object on
    its standard input, as the file that ``{params}`` names, and in input files made from templates. It prints the
    fitness as the last line of its standard output: a number, or JSON: a number, a list, or an object by objective
    name. It fails by a non-zero exit code; what it printed is then kept with the individual.

    The program runs without a shell and in the process group of the evaluation, so that it ends with it: it is sent
    SIGTERM and, a second later, SIGKILL. What it leaves in the background is not waited for.

    Parameters
    ----------
    command
        A string, split as a shell would, or a list of words. ``{tau_m}`` stands for the parameter of that name (an
        array as JSON), ``{seed}`` and ``{id}`` for the individual's, ``{workdir}`` for an empty folder of its own,
        ``{params}`` for a JSON file with all parameters, and ``{folder}`` for ``cwd``. Write ``{{`` and ``}}`` for
        braces. A word that contains a parameter which is not active is left out, with the option before it if it is a
        word of its own (``--depth {depth}``).
    space, objectives
        What it takes and what it prints.
    cwd
        Where it runs; by default the folder that was current when this object was made.
    env
        Environment variables to add; the same placeholders stand for the same. One with a parameter which is not active
        is left out.
    templates
        Input files to write, as ``{"model.cfg.in": "model.cfg"}``: the left one, a path from ``cwd``, is a Jinja
        template in which ``{{ tau_m }}`` stands for a parameter; the right one is its name in ``{workdir}``, where it
        has the template's permissions.
    fitness_file
        Where the program writes its fitness, instead of printing it: a path from ``{workdir}``, with placeholders. The
        whole file is JSON, or its last line is as that of standard output.
    in_workdir
        Whether it runs in ``{workdir}``, for programs that write to the current folder. A program that is given as a
        path is looked for from ``cwd`` all the same; behind a launcher, write ``{folder}/program``, and
        ``{workdir}/program`` for one that was made from a template.

    Raises
    ------
    ConfigError
        If the command is empty, if it, a variable or a template names an unknown placeholder, or if two files would
        have one name.
    """

    # A store may hold one that was pickled before there were these.
    fitness_file: str | None = None
    in_workdir: bool = False
    template_files: Sequence[Path] = ()
    _templates: Mapping[str, Template] = {}

    def __init__(
        self,
        command: str | Sequence[str],
        space: Space,
        objectives: Objectives | Objective | Sequence[Objective],
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, Any] | None = None,
        templates: Mapping[str, str] | None = None,
        fitness_file: str | None = None,
        in_workdir: bool = False,
    ) -> None:
        self.command = _words(command)
        self.space = space
        self.objectives: Objectives = Objectives(objectives)
        self.cwd = (Path.cwd() / (cwd or "")).resolve()
        env, templates = _table("env", env), _table("templates", templates)
        self.env = {name: str(value) for name, value in env.items()}
        self.fitness_file = None if fitness_file is None else _inside("fitness_file", fitness_file)
        self.in_workdir = in_workdir
        self._check_names()
        self._check_files(templates)
        self.template_files = [self.cwd / file for file in templates]
        self._templates = {
            name: Template.read(self.cwd / file, [*self.space, *RESERVED[:-1]]) for file, name in templates.items()
        }

    def _check_names(self) -> None:
        clash = sorted(set(self.space) & set(RESERVED))
        if clash:
            raise ConfigError(
                f"a command's parameter cannot be called {clash[0]!r}: {{{clash[0]}}} has its own meaning"
            )
        known = [*self.space, *RESERVED]
        for where, word in [*(("the command", word) for word in self.command), *self._others()]:
            for name in _placeholders(word):
                if name not in known:
                    raise ConfigError(
                        f"{where} has an unknown placeholder {{{name}}}: expected one of "
                        f"{', '.join(known)}, or {{{{ and }}}} for braces"
                    )

    def _check_files(self, templates: Mapping[str, str]) -> None:
        """Refuse two files of one name in the working folder."""
        files = [(f"the template {file}", _inside("templates", name)) for file, name in templates.items()]
        files += [("{params}", _PARAMS)] if "params" in self._used() else []
        files += [] if self.fitness_file is None else [("fitness_file", self.fitness_file)]
        makers: dict[str, str] = {}
        for maker, name in files:
            other = makers.setdefault(os.path.normpath(name), maker)
            if other != maker:
                raise ConfigError(f"{other} and {maker} are both {name!r} in {{workdir}}: give one another name")

    def _used(self) -> set[str]:
        """Return which placeholders there are."""
        words = [*self.command, *(word for _, word in self._others())]
        return {name for word in words for name in _placeholders(word)}

    def _others(self) -> list[tuple[str, str]]:
        """List what has placeholders beside the command."""
        file = [] if self.fitness_file is None else [("fitness_file", self.fitness_file)]
        return [*((f"the environment variable {name}", value) for name, value in self.env.items()), *file]

    def evaluate(self, params: Params, context: Context) -> tuple[float, ...]:
        values = self._values(params, context)
        words = self._filled(values)
        given = json.dumps({name: plain(value) for name, value in params.items()})
        if "params" in values:
            Path(values["params"]).write_text(given, encoding="utf-8")
        numbers = {"seed": context.seed, "id": context.id}  # which templates reckon with
        for name, template in self._templates.items():
            template.write(
                context.workdir / name,
                {**params, **numbers, "folder": values["folder"], "workdir": values["workdir"]},
            )
        last = self._run(words, given, values)
        if self.fitness_file is None:
            return self._fitness(last, "the last line of the command's output", shlex.join(words))
        file = _filled(self.fitness_file, values)
        if file is None:
            raise EvaluationError(f"fitness_file {self.fitness_file!r} has a parameter that is not active")
        return self._from_file(Path(values["workdir"], _inside("fitness_file", file)), shlex.join(words))

    def words(self, params: Params, context: Context) -> list[str]:
        """Fill in the placeholders."""
        return self._filled(self._values(params, context))

    def _values(self, params: Params, context: Context) -> dict[str, str]:
        """Return what placeholders stand for; the working folder is made only where it is used."""
        values = {name: text(value) for name, value in params.items()}
        values |= {"seed": str(context.seed), "id": str(context.id), "folder": str(self.cwd)}
        used = self._used()
        if self._templates or self.fitness_file is not None or self.in_workdir or not used.isdisjoint(RESERVED[-2:]):
            values["workdir"] = str(context.workdir.resolve())
        if "params" in used:
            values["params"] = str(Path(values["workdir"], _PARAMS))
        return values

    def _run(self, words: list[str], given: str, values: Mapping[str, str]) -> str:
        """Run the command; what it prints goes on to where this process prints. Return the last line that is not empty.

        Raises
        ------
        EvaluationError
            If it cannot be started, or fails.
        """
        shown, cwd = shlex.join(words), Path(values["workdir"]) if self.in_workdir else self.cwd
        if self.in_workdir and os.sep in words[0]:
            words = [str(self.cwd / words[0]), *words[1:]]
        added = {name: value for name, word in self.env.items() if (value := _filled(word, values)) is not None}
        with tempfile.TemporaryFile() as stdin:
            stdin.write(given.encode())
            stdin.seek(0)
            try:
                pipe = subprocess.PIPE
                process = subprocess.Popen(
                    words, stdin=stdin, stdout=pipe, stderr=pipe, cwd=cwd, env=os.environ | added
                )
            except OSError as error:
                raise EvaluationError(self._unstartable(error, words[0], shown)) from error
        with process:
            last, errors = _followed(process)
        if process.returncode:
            raise EvaluationError(f"the command {_ending(process.returncode)}: {shown}\n{errors}".rstrip())
        return last

    def _unstartable(self, error: OSError, program: str, shown: str) -> str:
        """Say which path was tried; a folder that is missing is what the error names."""
        tried = str(error.filename or program)
        tried = os.path.normpath(self.cwd / tried) if os.sep in tried else tried
        made = [name for name in self._templates if Path(name).name == Path(program).name]
        hint = f"; the one made from a template is {{workdir}}/{made[0]}" if made and not Path(tried).exists() else ""
        return f"the command cannot be started ({error.strerror}: {tried}): {shown}{hint}"

    def _filled(self, values: Mapping[str, str]) -> list[str]:
        filled: list[str] = []
        for position, word in enumerate(self.command):
            value = _filled(word, values)
            if value is not None:
                filled.append(value)
            elif position > 1 and _is_option(self.command[position - 1]) and _BRACES.fullmatch(word):
                filled.pop()
        return filled

    def _fitness(self, text: str, where: str, shown: str) -> tuple[float, ...]:
        if not text:
            raise EvaluationError(f"the command printed no fitness on standard output: {shown}")
        try:
            return self.objectives.parse(_parsed(text))
        except (ValueError, EvaluationError) as error:
            raise EvaluationError(f"{where} is no fitness ({error}): {text[:_SHOWN]!r} from {shown}") from None

    def _from_file(self, path: Path, shown: str) -> tuple[float, ...]:
        try:
            text = path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError as error:
            raise EvaluationError(f"the command left no fitness in {path} ({error.strerror}): {shown}") from None
        try:
            parsed = json.loads(text)
        except ValueError:
            return self._fitness(text.rpartition("\n")[2] or "nothing", f"the last line of {path.name}", shown)
        try:
            return self.objectives.parse(parsed)
        except EvaluationError as error:
            raise EvaluationError(f"{path.name} holds no fitness ({error}): {text[:_SHOWN]!r} from {shown}") from None


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


def _filled(word: str, values: Mapping[str, str]) -> str | None:
    """Fill in the placeholders of a word; None if one has no value."""
    if not all(name in values for name in _placeholders(word)):
        return None
    return _BRACES.sub(lambda match: match[0][0] if match[1] is None else values[match[1]], word)


def _table(option: str, given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise PluginError(f"{option}: expected a table, {{NAME = VALUE}}, got {given!r:.80}")
    return given or {}


def _inside(option: str, name: str) -> str:
    if not isinstance(name, str) or Path(name).is_absolute() or ".." in Path(name).parts or not Path(name).name:
        raise ConfigError(f"{option}: expected a path below the individual's own folder, got {name!r}")
    return name


def _followed(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """Pass on what a program prints; return the last line of its output, and the last ones of its errors.

    What it leaves in the background may hold its pipes open for ever: they are given up a moment after its end.
    """
    output, errors = _Said(1, 1), _Said(2, _ERROR_LINES)
    try:
        with selectors.DefaultSelector() as selector:
            for stream, said in ((process.stdout, output), (process.stderr, errors)):
                assert stream is not None
                selector.register(stream, selectors.EVENT_READ, said)
            until, late = math.inf, False
            while selector.get_map() and not late:
                late = time.monotonic() >= until  # what has come by now is read all the same
                for key, _ in selector.select(0 if late else _LOOK):
                    if not key.data.takes(os.read(key.fd, _CHUNK)):
                        selector.unregister(key.fileobj)
                if math.isinf(until) and process.poll() is not None:
                    until = time.monotonic() + GRACE
        process.wait()
    except BaseException:  # the search was stopped, in this very process
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        process.kill()
        raise
    printed = output.text().splitlines()
    return (printed[-1].strip() if printed else "", errors.text())


class _Said:
    """Passes on what comes out of a pipe, and keeps the last lines of it that are not empty."""

    def __init__(self, descriptor: int, lines: int) -> None:
        self._descriptor = descriptor
        self._lines = deque[bytes](maxlen=lines)
        self._begun = bytearray()

    def takes(self, chunk: bytes) -> bool:
        """Take what came; False at the end."""
        with suppress(OSError):  # nobody looks any more
            os.write(self._descriptor, chunk)
        self._begun += chunk
        if b"\n" in chunk or not chunk:
            *ended, begun = self._begun.split(b"\n")
            self._lines.extend(bytes(line) for line in ended if line.strip())
            self._begun = begun
        return bool(chunk)

    def text(self) -> str:
        """Return the lines; the last one counts whether it was ended or not."""
        lines = [*self._lines, bytes(self._begun)] if self._begun.strip() else self._lines
        return b"\n".join(lines).decode(errors="replace").rstrip()


def _is_option(word: str) -> bool:
    return word.startswith("-") and not _placeholders(word)


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
