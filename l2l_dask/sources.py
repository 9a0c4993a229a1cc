"""The user's own source files that an object's code is in: where it is defined, and what is imported there in turn.

Nothing is imported to find that out; installed packages, Python's library and this distribution are not the user's.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.machinery import ModuleSpec
from importlib.util import resolve_name
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any

_OURS = {"l2l_dask", "optimizers", "optimizees"}
_PACKAGES = {"site-packages", "dist-packages"}  # also the user's own, and Debian's
_WRAPPED = ("function", "__wrapped__")  # by our own class, and by decorators
_DEEPEST = 8
_LARGEST = 2**24  # bytes of a file that a command line names


@dataclass(frozen=True)
class Source:
    """A module's source; that of a folder without ``__init__.py`` is empty."""

    path: str
    text: bytes
    package: bool


def is_users(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return bool(file) and module.__name__.partition(".")[0] not in _OURS and not installed(Path(str(file)).resolve())


def installed(path: Path) -> bool:
    places = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    if path.suffix == ".zip" or not _PACKAGES.isdisjoint(path.parts):
        return True
    return any(path == place or place in path.parents for place in places)


def defining(thing: Any) -> list[ModuleType]:
    """List the user's modules that define an object, its classes and what it wraps."""
    names = dict.fromkeys(getattr(part, "__module__", None) for part in _parts(thing))
    return [sys.modules[n] for n in names if n in sys.modules and n != "__main__" and is_users(sys.modules[n])]


def _parts(thing: Any, depth: int = 0) -> Iterator[Any]:
    yield thing
    yield from thing.__mro__ if isinstance(thing, type) else type(thing).__mro__
    inner = [vars(thing)[name] for name in _WRAPPED if name in getattr(thing, "__dict__", {})]
    inner += [thing.func] if isinstance(thing, partial) else [thing.__self__] if isinstance(thing, MethodType) else []
    for part in inner if depth < _DEEPEST else ():
        yield from _parts(part, depth + 1)


def mentioned(pickled: bytes) -> list[str]:
    """List the loaded modules that a pickled object may refer to, and perhaps some more."""
    return [n for n, module in list(sys.modules.items()) if n.encode() in pickled and is_users(module)]


def of(modules: Iterable[str]) -> dict[str, Source]:
    """Collect the sources of modules, and of those that they import, by their names."""
    found: dict[str, Source] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        source = None if name in found else _source(name)
        if source is not None:
            found[name] = source
            waiting += _imports(name, source)
    return found


def imports(name: str) -> tuple[str, ...]:
    """List what a module imports, by full names."""
    source = _source(name)
    return () if source is None else _imports(name, source)


def beside(path: Path, name: str) -> Path | None:
    """Return the file that ``import name`` would find beside ``path``, None if there is none."""
    places = (path.parent / f"{name}.py", path.parent / name / "__init__.py")
    return next((place for place in places if place.is_file()), None)


def _source(name: str) -> Source | None:
    if name == "__main__":
        main = Path(str(getattr(sys.modules[name], "__file__", "")))
        return Source(str(main), main.read_bytes(), package=False) if main.is_file() else None
    spec = None if name.partition(".")[0] in _OURS else _spec(name)
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or [])
    path = spec.origin if spec.has_location else next(iter(folders), None)
    if path is None or installed(Path(path).resolve()):
        return None
    if not spec.has_location:
        return Source(path, b"", package=True)
    try:
        text = spec.loader.get_data(path) if path.endswith(".py") else None  # type: ignore[union-attr]
    except (AttributeError, OSError):  # a loader that has none, a file that is gone
        return None
    return None if text is None else Source(path, text, spec.submodule_search_locations is not None)


def _spec(name: str) -> ModuleSpec | None:
    """Find a module, without importing what it is in."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    parent, folders = name.rpartition(".")[0], None
    if parent:
        found = _spec(parent)
        folders = None if found is None else found.submodule_search_locations
        if folders is None:
            return None
    try:
        specs = (finder.find_spec(name, folders) for finder in sys.meta_path)
        return next((spec for spec in specs if spec is not None), None)
    except Exception:  # whatever somebody's finder raises
        return None


@lru_cache(maxsize=256)
def _imports(name: str, source: Source) -> tuple[str, ...]:
    """List what a module imports, anywhere in it, with the packages that this is in."""
    package = name if source.package else name.rpartition(".")[0]
    names = set()
    for node in _nodes(source.text):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            try:
                base = resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:
                continue
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return tuple(dict.fromkeys(prefix for found in sorted(names) for prefix in _prefixes(found)))


def _nodes(text: bytes) -> Iterable[ast.AST]:
    try:
        return ast.walk(ast.parse(text))
    except (SyntaxError, ValueError, RecursionError):
        return ()


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def digests(thing: Any, folder: Path) -> dict[str, str]:
    """Return a digest of each source file of an object, by its path from ``folder``."""
    found = of(module.__name__ for module in defining(thing)).values()
    files = {source.path: source.text for source in found if os.path.isfile(source.path)}
    return {os.path.relpath(path, folder): _digest(text) for path, text in sorted(files.items())}


def digests_of_command(words: Sequence[str], folder: Path) -> dict[str, str]:
    """Do the same for the files below ``folder`` that a command line names."""
    home, found = folder.resolve(), {}
    for word in words:
        try:
            path = (home / word).resolve()
            if home in path.parents and path.is_file() and path.stat().st_size <= _LARGEST:
                found[os.path.relpath(path, home)] = _digest(path.read_bytes())
        except (OSError, ValueError):  # a word that can be no file's name
            continue
    return found


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def changed(recorded: Mapping[str, str], folder: Path) -> list[str]:
    """List the files that are not any more what their digests say."""
    now = {}
    for path in recorded:
        try:
            now[path] = _digest((folder / path).read_bytes())
        except OSError:
            now[path] = ""
    return [path for path, digest in recorded.items() if now[path] != digest]
