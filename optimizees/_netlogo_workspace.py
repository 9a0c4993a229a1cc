"""NetLogo in this process: one Java virtual machine, and in it a workspace for each model, kept from run to run."""

from __future__ import annotations

import atexit
import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2l_dask.errors import EvaluationError, PluginError
from optimizees._netlogo_files import extensions, jars, literal, widgets
from optimizees._simulators import imported

_KEPT = 4  # workspaces; each holds a thread and a world
_SIZE = "(list min-pxcor max-pxcor min-pycor max-pycor)"
_FIXED = (
    "-Xrs",  # Ctrl-C and SIGTERM stay Python's
    "-XX:+UseSerialGC",  # no threads beyond the one core that an evaluation has
    "-XX:-UsePerfData",  # no files in /tmp
    "-Djava.awt.headless=true",
    "-Dnetlogo.libraries.disabled=true",  # or it asks its makers for a list of extensions
    "-Dfile.encoding=UTF-8",
)


@dataclass(frozen=True)
class Model:
    """A model's file and what was in it when the search began.

    Attributes
    ----------
    path
        Absolute.
    content
        Of the file. It is what runs, also where the file is missing or is another one by now.
    """

    path: Path
    content: bytes

    @classmethod
    def read(cls, path: Path) -> Model:
        """Read a file.

        Raises
        ------
        PluginError
            If that is not possible.
        """
        try:
            return cls(path, path.read_bytes())
        except OSError as error:
            what = f"there is no model {path}" if not path.exists() else f"the model {path} cannot be read ({error})"
            raise PluginError(f'{what}: expected "ants" or the path of a .nlogo file, from {Path.cwd()}') from None

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", errors="replace")

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def key(self) -> tuple[str, str]:
        return str(self.path), hashlib.sha256(self.content).hexdigest()

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Give the file, beside which NetLogo finds what the model includes and reads, or else a copy."""
        with suppress(OSError):
            if self.path.read_bytes() == self.content:
                yield self.path
                return
        with tempfile.TemporaryDirectory(prefix="l2l-netlogo-") as folder:
            copy = Path(folder, self.path.name)
            copy.write_bytes(self.content)
            yield copy


class _Machine:
    """The Java virtual machine, of which a process can start one, once."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.process = 0
        self.folder = self.jar = Path()
        self.workspaces: dict[tuple[str, str], Workspace] = {}

    def start(self, folder: Path, options: Sequence[str]) -> None:
        if self.process:
            if self.process != os.getpid():
                raise EvaluationError("this process was forked from one that ran NetLogo: Java does not survive that")
            if folder != self.folder:
                raise EvaluationError(f"this process runs the NetLogo in {self.folder} and cannot change to {folder}")
            return
        jpype, wanted = imported("jpype", "JPype, which runs NetLogo,", "netlogo"), jars(folder)
        if jpype.isJVMStarted():  # by another package
            for jar in wanted:
                jpype.addClassPath(str(jar))
        else:
            self._boot(jpype, wanted, options)
        atexit.register(self.close)  # before JPype's own, which waits for NetLogo's threads
        self.process, self.folder, self.jar = os.getpid(), folder, wanted[0]

    def _boot(self, jpype: Any, wanted: list[Path], options: Sequence[str]) -> None:
        extra = extensions(wanted[0])
        fixed = [*_FIXED, *([f"-Dnetlogo.extensions.dir={extra}"] if extra else [])]
        try:
            jpype.startJVM(*fixed, *options, classpath=[str(jar) for jar in wanted], interrupt=False)
        except (jpype.JVMNotFoundException, jpype.JVMNotSupportedException) as error:
            raise EvaluationError(
                f"NetLogo needs Java, and none was found: install it, or set JAVA_HOME ({_line(error)})"
            ) from None
        except Exception as error:  # an option that Java does not know, too little memory
            raise EvaluationError(f"Java does not start with {[*options]}: {_line(error)}") from None

    def workspace(self, model: Model) -> Workspace:
        """Open a model, or return the workspace that has it open; the one used last is kept longest."""
        import jpype

        threads = jpype.JClass("java.lang.Thread")  # another than the first finds no classes without this
        threads.currentThread().setContextClassLoader(jpype.JClass("java.lang.ClassLoader").getSystemClassLoader())
        opened = self.workspaces.pop(model.key, None) or Workspace(model, self.jar)
        self.workspaces[model.key] = opened
        while len(self.workspaces) > _KEPT:
            self.workspaces.pop(next(iter(self.workspaces))).dispose()
        return opened

    def drop(self, model: Model) -> None:
        """Close a workspace in which something went wrong, of which nobody knows what it left behind."""
        dropped = self.workspaces.pop(model.key, None)
        if dropped is not None:
            dropped.dispose()

    def close(self) -> None:
        if self.process == os.getpid():
            while self.workspaces:
                self.workspaces.popitem()[1].dispose()


_MACHINE = _Machine()


@contextmanager
def opened(model: Model, folder: Path, options: Sequence[str]) -> Iterator[Workspace]:
    """Lend the workspace in which a model is open, to one thread at a time.

    Raises
    ------
    EvaluationError
        If Java or NetLogo does not start, or the model cannot be opened.
    """
    with _MACHINE.lock:
        try:
            _MACHINE.start(folder, options)
            workspace = _MACHINE.workspace(model)
        except PluginError as error:  # what was there when the search began is not there now, or not here
            raise EvaluationError(str(error)) from None
        try:
            yield workspace
        except Exception:
            _MACHINE.drop(model)
            raise


class Workspace:
    """A model that is open in NetLogo.

    Raises
    ------
    EvaluationError
        If NetLogo cannot open it.
    """

    def __init__(self, model: Model, jar: Path) -> None:
        import jpype

        self._exception, self.model = jpype.JException, model
        self._compiled: dict[str, Any] = {}
        try:
            self._java = jpype.JClass("org.nlogo.headless.HeadlessWorkspace").newInstance()
        except Exception as error:  # whatever comes of a Java that is too old or too new for it
            raise EvaluationError(f"NetLogo ({jar}) does not start with this Java: {_line(error)}") from None
        try:
            with model.file() as path:
                self._open(str(path))
        except self._exception as error:
            self.dispose()
            raise EvaluationError(f"{model.name} cannot be opened{self._where(error)}: {_line(error)}") from None
        self._own_arguments = self._probe()
        self.initial, self._size = self._initial(), self.report(_SIZE)

    def _open(self, path: str) -> None:
        try:
            self._java.open(path)
        except TypeError:  # NetLogo 6.2 and later: and do not install extensions
            self._java.open(path, False)

    def _where(self, error: Any) -> str:
        """Say in which line of the code a compiler's error is."""
        start = getattr(error, "startPos", getattr(error, "start", None))
        try:
            position = int(start() if callable(start) else start)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return ""
        line = self.model.text.count("\n", 0, position) + 1
        return f" (line {line} of its code)" if 0 <= position < len(self.model.text) else ""

    def _probe(self) -> tuple[Any, ...] | None:
        """Find out how this NetLogo runs what was compiled before; None if in no way that is known here."""
        for arguments in ((), ("defaultOwner",)):
            with suppress(Exception):
                owner = tuple(getattr(self._java, name)() for name in arguments)
                compiled = self._java.compileReporter("2 + 1")
                if float(self._java.runCompiledReporter(*owner, compiled)) == 3:
                    self._java.runCompiledCommands(*owner, self._java.compileCommands("let l2l-left 1"))
                    self._raise_last()
                    return owner
        return None

    def _initial(self) -> dict[str, str]:
        """Note what the interface's variables are set to in the file, as NetLogo writes it."""
        noted = {}
        for name, widget in widgets(self.model.text).items():
            with suppress(EvaluationError):
                noted[name] = literal(self.report(widget.name))
        return noted

    def reset(self) -> None:
        """Undo what a run left behind: open files, another size of the world, agents, globals, and widgets."""
        if self.report(_SIZE) != self._size:
            self.command(f"resize-world {' '.join(literal(edge) for edge in self._size)}")
        widgets = " ".join(f"set {name} {value}" for name, value in self.initial.items())
        self.command(f"file-close-all clear-all {widgets}")

    def command(self, source: str) -> None:
        """Run commands.

        Raises
        ------
        EvaluationError
            With NetLogo's own words, if they cannot be compiled or fail.
        """
        try:
            if self._own_arguments is None:
                self._java.command(source)
                return
            if source not in self._compiled:
                self._compiled[source] = self._java.compileCommands(source)
            self._java.runCompiledCommands(*self._own_arguments, self._compiled[source])
            self._raise_last()
        except self._exception as error:
            raise EvaluationError(_line(error)) from None

    def once(self, source: str) -> None:
        """Run commands that will not come again, and need not be kept in compiled form."""
        try:
            self._java.command(source)
        except self._exception as error:
            raise EvaluationError(_line(error)) from None

    def report(self, source: str) -> Any:
        """Evaluate a reporter: a float, a bool, a str or a list of these; anything else as NetLogo prints it.

        Raises
        ------
        EvaluationError
            With NetLogo's own words, if it cannot be compiled or fails.
        """
        try:
            if self._own_arguments is None:
                return _python(self._java.report(source))
            if source not in self._compiled:
                self._compiled[source] = self._java.compileReporter(source)
            value = self._java.runCompiledReporter(*self._own_arguments, self._compiled[source])
            self._raise_last()
            return _python(value)
        except self._exception as error:
            raise EvaluationError(_line(error)) from None

    def compiles(self, reporter: str) -> bool:
        """Tell whether a reporter is one, whatever comes of it."""
        try:
            self._java.compileReporter(reporter)
        except self._exception:
            return False
        return True

    def _raise_last(self) -> None:
        """Raise what went wrong in something compiled, which NetLogo keeps for itself."""
        last = self._java.lastLogoException()
        if last is not None:
            self._java.clearLastLogoException()
            raise EvaluationError(_line(last))

    def dispose(self) -> None:
        """Close it, and end its thread."""
        with suppress(Exception):
            self._java.dispose()


def _python(value: Any) -> Any:
    import jpype

    if isinstance(value, jpype.JClass("java.lang.Boolean")):
        return bool(value)
    if isinstance(value, jpype.JClass("java.lang.Number")):
        return float(value)
    if isinstance(value, jpype.JClass("java.util.Collection")):
        return [_python(element) for element in value]
    return str(value)


def _line(error: Any) -> str:
    said = error.getMessage() if hasattr(error, "getMessage") else error
    text = " ".join(str(said).split())
    return text if text and said is not None else type(error).__name__
