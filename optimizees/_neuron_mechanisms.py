"""The channels of the Allen Institute's cells as NEURON mechanisms: compiled once for a user, loaded once a process.

They are compiled by NEURON's own ``nrnivmodl`` from the NMODL files that bmtk ships. Two things are changed on the way:
files and mechanisms get a prefix that holds the sources' checksum, so that they never clash with mechanisms of the same
name that somebody else has loaded into the process, and are never mistaken for them.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from l2l_dask.errors import PluginError
from optimizees._allen import data_file

#: All that one of the published perisomatic models has in its soma.
NAMES = (
    *("CaDynamics", "Ca_HVA", "Ca_LVA", "Ih", "Im", "Im_v2", "K_P", "K_T"),
    *("Kd", "Kv2like", "Kv3_1", "NaTs", "NaV", "Nap", "SK"),
)
WITHOUT = "model = 'hh' needs no compiler"
_LIBRARY = "libnrnmech.dylib" if sys.platform == "darwin" else "libnrnmech.so"
_SUFFIX = re.compile(r"^(\s*SUFFIX\s+)(\w+)", re.MULTILINE)
_PATIENCE = 540.0  # seconds; setup() may take 600
_LAST_LINES = 15


@dataclass(frozen=True)
class Sources:
    """NMODL files to compile together.

    Attributes
    ----------
    prefix
        Of all mechanisms' names; it holds the files' checksum.
    files
        File name -> text, both with the prefix.
    """

    prefix: str
    files: Mapping[str, str]

    @classmethod
    def read(cls) -> Sources:
        """Read the files of the installed bmtk, and rename what is in them.

        Raises
        ------
        PluginError
            If there is none of that name.
        """
        texts = {name: data_file("mechanisms/modfiles", f"{name}.mod").read_text() for name in NAMES}
        prefix = f"l2l_{_checksum(*texts.values())[:8]}_"
        renamed = {f"{prefix}{name}.mod": _SUFFIX.sub(rf"\g<1>{prefix}\g<2>", text) for name, text in texts.items()}
        return cls(prefix, renamed)


def load(h: Any) -> str:
    """Load the mechanisms into this process, unless they are, and compile them before, unless they are.

    Parameters
    ----------
    h
        NEURON's top level.

    Returns
    -------
    str
        The prefix of their names.

    Raises
    ------
    PluginError
        If they can be neither found nor compiled, or the library cannot be loaded.
    """
    sources = Sources.read()
    probe = f"{sources.prefix}{NAMES[0]}"
    if not hasattr(h, probe):
        path = library(sources)
        with suppress(RuntimeError):
            h.nrn_load_dll(str(path))
        if not hasattr(h, probe):
            raise PluginError(f"NEURON cannot load {path}: remove {path.parent}, so that it is compiled again")
    return sources.prefix


def require() -> None:
    """Refuse where the mechanisms are neither compiled nor can be; nothing is compiled.

    Raises
    ------
    PluginError
        Naming what is missing.
    """
    if not _place(Sources.read()).is_file():
        _tools()


def library(sources: Sources) -> Path:
    """Return the compiled library, of this user's cache.

    Of several processes that ask at once, one compiles and the others wait for it. The library appears under its name
    only when it is whole, so that nothing is lost where the file system knows no locks.

    Raises
    ------
    PluginError
        With the compiler's last lines.
    """
    path = _place(sources)
    if path.is_file():
        return path
    command, environment = _tools()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            _locked(path.parent / "lock") as alone,
            tempfile.TemporaryDirectory(prefix="build-", dir=path.parent, ignore_cleanup_errors=True) as folder,
        ):
            if alone:
                _remove_other_builds(Path(folder))
            if not path.is_file():
                os.replace(_compiled(sources, Path(folder), command, environment), path)
    except OSError as failure:
        raise PluginError(
            f"the compiled channels cannot be kept in {path.parent} ({failure}): set XDG_CACHE_HOME to a folder that "
            f"can be written to; {WITHOUT}"
        ) from failure
    return path


def _place(sources: Sources) -> Path:
    """Where the library is kept, or to be: elsewhere for another NEURON, another machine or other sources."""
    installed, version = _neuron()
    key = _checksum(installed, version, platform.system(), platform.machine(), *sources.files.values())
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base.absolute() / "l2l-dask" / f"neuron-{version}-{platform.machine()}-{key[:16]}" / _LIBRARY


@cache
def _neuron() -> tuple[str, str]:
    """Where NEURON is installed, which the library is linked with, and its version; it is not imported."""
    spec = importlib.util.find_spec("neuron")
    version = "unknown"
    with suppress(metadata.PackageNotFoundError):
        version = metadata.version("neuron")
    return (spec.origin or "") if spec else "", version


def _tools() -> tuple[str, dict[str, str]]:
    """Find what compiles, and the environment that it needs."""
    user = sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))
    places = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent), user, os.environ.get("PATH", os.defpath)]
    translator = shutil.which("nrnivmodl", path=os.pathsep.join(places))
    known = (os.environ.get("CXX"), sysconfig.get_config_var("CXX"), "c++", "g++", "clang++")
    compiler = next((words for words in known if words and shutil.which(shlex.split(words)[0])), None)
    wanted = {
        "NEURON's nrnivmodl": translator,
        "a C++ compiler (g++ or clang++)": compiler,
        "make": shutil.which("make"),
    }
    missing = [what for what, found in wanted.items() if not found]
    if not translator or not compiler or missing:
        raise PluginError(
            f"the channels of the published cells are compiled once, for which {' and '.join(missing)} must be "
            f"installed (Debian, Ubuntu: apt install g++ make); {WITHOUT}"
        )
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")}
    return translator, environment | {"CXX": compiler}


def _compiled(sources: Sources, folder: Path, command: str, environment: Mapping[str, str]) -> Path:
    """Compile into a folder."""
    for name, text in sources.files.items():
        (folder / name).write_text(text)
    with (folder / "output.txt").open("w+", errors="replace") as output:
        status = _run([command, "."], folder, environment, output)
        output.seek(0)
        lines = output.read().splitlines()[-_LAST_LINES:]
    found = next(folder.glob(f"*/**/{_LIBRARY}"), None)
    if status or found is None:
        ended = f"ended with exit status {status}" if status is not None else f"did not end within {_PATIENCE:g} s"
        raise PluginError("\n  ".join([f"{command} {ended}; {WITHOUT}. Its last lines:", *lines]))
    return found


def _run(command: list[str], folder: Path, environment: Mapping[str, str], output: IO[str]) -> int | None:
    """Run a command with all that it starts, and return its exit status; None if it takes too long and is ended."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _remove_other_builds(folder: Path) -> None:
    """Remove what compilations that were killed have left; only for who holds the lock, so that none is at work."""
    for other in folder.parent.glob("build-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock that the system releases when the process ends, however it ends; False where there are no locks."""
    with path.open("w") as file:
        held = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            held = False
        yield held


def _checksum(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
