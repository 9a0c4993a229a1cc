"""Taking a user's objects to processes that cannot import the module they are from."""

from __future__ import annotations

import sys
import sysconfig
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from l2l_dask.errors import ConfigError

_OURS = {"l2l_dask", "optimizers", "optimizees"}
_PACKAGES = {"site-packages", "dist-packages"}  # also the user's own, and Debian's


def pack(thing: Any) -> bytes:
    """Pickle an object, with the code of the user modules that it comes from.

    Raises
    ------
    ConfigError
        If it holds something that cannot be pickled (an open file, a lock, a simulator's handle).
    """
    with ExitStack() as stack:
        before = cloudpickle.list_registry_pickle_by_value()
        for module in _user_modules(thing):
            if module.__name__ in before:  # by the user
                continue
            cloudpickle.register_pickle_by_value(module)
            stack.callback(cloudpickle.unregister_pickle_by_value, module)
        try:
            packed: bytes = cloudpickle.dumps(thing)
        except Exception as error:
            raise ConfigError(
                f"{named(thing)} cannot be sent to a worker ({type(error).__name__}: {error}): "
                "make what it refers to inside the function, or in setup()"
            ) from error
    return packed


def unpack(packed: bytes) -> Any:
    """Reverse :func:`pack`."""
    return cloudpickle.loads(packed)


def user_paths() -> tuple[str, ...]:
    """List the folders that this process imports user modules from: not the interpreter's, not installed packages'."""
    folders = [Path(path or ".").resolve() for path in sys.path]
    return tuple(dict.fromkeys(str(folder) for folder in folders if folder.is_dir() and not _installed(folder)))


def importable(thing: Any) -> str:
    """Return ``module:name`` if an object can be found again by it, else nothing."""
    module, name = getattr(thing, "__module__", ""), getattr(thing, "__qualname__", "")
    found = getattr(sys.modules.get(module), name, None)
    return f"{module}:{name}" if found is thing and module != "__main__" and not _is_users(sys.modules[module]) else ""


def _user_modules(thing: Any) -> list[ModuleType]:
    parts = [thing, type(thing), getattr(thing, "function", None)]
    parts += type(thing).__mro__
    names = {getattr(part, "__module__", None) for part in parts}
    modules = [sys.modules[name] for name in names if name in sys.modules and name != "__main__"]
    return [module for module in modules if _is_users(module)]


def _is_users(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return bool(file) and module.__name__.partition(".")[0] not in _OURS and not _installed(Path(str(file)).resolve())


def _installed(path: Path) -> bool:
    places = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    if path.suffix == ".zip" or not _PACKAGES.isdisjoint(path.parts):
        return True
    return any(path == place or place in path.parents for place in places)


def named(thing: Any) -> str:
    """Return what an object, or the function that it wraps, calls itself."""
    function = getattr(thing, "function", thing)
    return str(getattr(function, "__qualname__", type(function).__qualname__))
