"""Taking a user's objects to processes that cannot import the module they are from.

The modules that define an object travel as part of it. Those which they import in turn travel as source text, and are
used where no module of that name is found.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import decode_source
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from l2l_dask import sources
from l2l_dask.errors import ConfigError
from l2l_dask.sources import Source


def pack(thing: Any) -> bytes:
    """Pickle an object, or a dict of objects, with the code of the user modules that it comes from.

    Raises
    ------
    ConfigError
        If it holds something that cannot be pickled (an open file, a lock, a simulator's handle).
    """
    things = list(thing.values()) if isinstance(thing, dict) else [thing]
    modules = {module.__name__: module for each in things for module in sources.defining(each)}
    with ExitStack() as stack:
        before = cloudpickle.list_registry_pickle_by_value()
        for name, module in modules.items():
            if name in before:  # by the user
                continue
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        each_alone = [_pickled(each) for each in things]  # which names the one that cannot be
        packed = _pickled(thing) if isinstance(thing, dict) else each_alone[0]
    arrived = [name for name in _finder().sources if name.partition(".")[0].encode() in packed]
    found = sources.of([*modules, *sources.mentioned(packed), *arrived])
    carried = {name: source for name, source in found.items() if name != "__main__" and name not in modules}
    return bytes(cloudpickle.dumps(_Parcel(carried, packed))) if carried else packed


def _pickled(thing: Any) -> bytes:
    try:
        packed: bytes = cloudpickle.dumps(thing)
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"{named(thing)} cannot be sent to a worker ({what}): make what it refers to inside the function, "
            "or in setup()"
        ) from error
    return packed


def unpack(packed: bytes) -> Any:
    """Reverse :func:`pack`."""
    return cloudpickle.loads(packed)


class _Parcel:
    """An object with the sources of modules that it needs; when it is unpickled, the object alone is left."""

    def __init__(self, carried: Mapping[str, Source], packed: bytes) -> None:
        self._carried, self._packed = carried, packed

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self._carried, self._packed)


def _opened(carried: Mapping[str, Source], packed: bytes) -> Any:
    finder = _finder()
    finder.sources.update(carried)
    if finder not in sys.meta_path:
        sys.meta_path.append(finder)  # the last to be asked
    return cloudpickle.loads(packed)


def _finder() -> _Carried:
    return next((found for found in sys.meta_path if isinstance(found, _Carried)), None) or _Carried()


class _Carried(MetaPathFinder, InspectLoader):
    """Imports modules from sources that travelled."""

    def __init__(self) -> None:
        self.sources: dict[str, Source] = {}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        source = self.sources.get(fullname)
        if source is None:
            return None
        spec = ModuleSpec(fullname, self, origin=source.path, is_package=source.package)
        spec.has_location = True  # where it was, for those that read __file__ and for tracebacks
        return spec

    def get_data(self, path: str) -> bytes:
        return next(source.text for source in self.sources.values() if source.path == path)

    def get_source(self, fullname: str) -> str:
        return decode_source(self.sources[fullname].text)

    def is_package(self, fullname: str) -> bool:
        return self.sources[fullname].package

    def exec_module(self, module: ModuleType) -> None:
        source = self.sources[module.__name__]
        exec(compile(source.text, source.path, "exec", dont_inherit=True), module.__dict__)


def user_paths() -> tuple[str, ...]:
    """List the folders that this process imports user modules from: not the interpreter's, not installed packages'."""
    folders = [Path(path or ".").resolve() for path in sys.path]
    return tuple(dict.fromkeys(str(folder) for folder in folders if folder.is_dir() and not sources.installed(folder)))


def importable(thing: Any) -> str:
    """Return ``module:name`` if an object can be found again by it, else nothing."""
    module, name = getattr(thing, "__module__", ""), getattr(thing, "__qualname__", "")
    found = getattr(sys.modules.get(module), name, None)
    lasting = found is thing and module != "__main__" and not sources.is_users(sys.modules[module])
    return f"{module}:{name}" if lasting else ""


def named(thing: Any) -> str:
    """Return what an object, or the function that it wraps, calls itself."""
    function = getattr(thing, "function", thing)
    return str(getattr(function, "__qualname__", type(function).__qualname__))
