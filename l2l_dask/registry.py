"""Finding optimizers and optimizees: by registered name, by module or by file.

Those of this distribution are found exactly like a third party's, through the entry points ``l2l_dask.optimizers`` and
``l2l_dask.optimizees``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError, create_model

from l2l_dask import sources
from l2l_dask.errors import L2LError, PluginError

Group = Literal["optimizers", "optimizees"]

_LOADED = "__l2l_digest__"  # of the text that a user's file was loaded from


@dataclass(frozen=True)
class Option:
    """An option of a plug-in: its default (``...`` where it must be given) and what the docstring says of it."""

    default: Any
    doc: str


def names(group: Group) -> list[str]:
    """List the registered names."""
    return sorted({point.name for point in entry_points(group=f"l2l_dask.{group}")})


def find(group: Group, reference: str, folder: Path | None = None) -> Any:
    """Load what ``reference`` names.

    Parameters
    ----------
    reference
        A registered name, ``package.module:attribute`` or ``path/to/file.py:attribute``.
    folder
        Where a relative path starts; the current folder if None.

    Raises
    ------
    PluginError
        If there is no such thing, or it cannot be imported.
    """
    if ":" not in reference:
        return _registered(group, reference)
    where, _, attribute = reference.rpartition(":")
    folder = folder or Path.cwd()
    module = load_file(folder / where) if where.endswith(".py") else _imported(where, reference, folder)
    try:
        return getattr(module, attribute)
    except AttributeError:
        hint = "" if where.endswith(".py") else _by_file(reference, folder)
        raise PluginError(
            f"{where} has no {attribute!r}: {reference!r} must name something defined there{hint}"
        ) from None


def _registered(group: Group, name: str) -> Any:
    points = [point for point in entry_points(group=f"l2l_dask.{group}") if point.name == name]
    if not points:
        near = get_close_matches(name, names(group)) or names(group)
        raise PluginError(
            f"no {group[:-1]} is called {name!r}: expected one of {', '.join(near)}, "
            "or package.module:name, or file.py:name"
        )
    try:
        return points[0].load()
    except Exception as error:  # whatever a third party's module raises
        raise PluginError(f"{group[:-1]} {name!r} cannot be imported: {_said(error)}{_shadow(points[0])}") from error


def _shadow(point: EntryPoint) -> str:
    """Say where a plug-in's package was found, since a user's own folder of that name may hide it."""
    top = point.module.partition(".")[0]
    module = sys.modules.get(top)
    spec = module.__spec__ if module else importlib.util.find_spec(top)
    if spec is None:
        return ""
    place = next(iter(spec.submodule_search_locations or []), spec.origin)
    return f"; {top!r} was found at {place}: if that hides the installed package, rename it or start elsewhere"


def _said(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _imported(module: str, reference: str, folder: Path) -> Any:
    _importable_from(folder)
    try:
        return importlib.import_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(
            f"{reference!r} cannot be imported: {_said(error)}; looked in {folder} too{_by_file(reference, folder)}"
        ) from error


def _by_file(reference: str, folder: Path) -> str:
    """Say how to name a user's file that another module of its name hides."""
    module, _, attribute = reference.rpartition(":")
    path = Path(*module.split(".")).with_suffix(".py")
    return f"; {folder / path} is named by '{path}:{attribute}'" if (folder / path).is_file() else ""


def _importable_from(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def load_file(path: str | Path) -> Any:
    """Import a Python file under a name that is its own, with its folder importable; anew if the file has changed.

    Raises
    ------
    PluginError
        If the file is missing or raises, or would import another folder's file in place of its neighbour.
    """
    path = Path(path).resolve()
    try:
        text = path.read_bytes()
        spec = importlib.util.spec_from_file_location(f"{path.stem}_{_digest(str(path).encode())[:8]}", path)
    except OSError as error:
        what = f"there is no file {path}" if not path.exists() else f"{path} cannot be imported: {_said(error)}"
        raise PluginError(what) from error
    if spec is None:
        raise PluginError(f"{path} is not a Python file")
    name, digest = spec.name, _digest(text)
    if name in sys.modules and vars(sys.modules[name]).get(_LOADED) == digest:
        return sys.modules[name]
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    setattr(module, _LOADED, digest)
    _importable_from(path.parent)
    try:
        exec(compile(text, path, "exec", dont_inherit=True), vars(module))  # not from a cache that may be stale
        _refuse_mixture(path, name)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, (KeyboardInterrupt, PluginError)):
            raise
        raise PluginError(f"{path} cannot be imported: {_said(error)}") from error
    return module


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _refuse_mixture(path: Path, name: str) -> None:
    """Refuse a file that got another folder's module where it has a neighbour of that name."""
    for imported, source in sources.of([name]).items():
        beside = sources.beside(path, imported)
        if imported in sources.imports(name) and beside is not None and not beside.samefile(source.path):
            raise PluginError(
                f"{path} imports {imported!r}, which is {source.path} in this process and not {beside}: "
                "rename one of them"
            )


def options(plugin: Any, *, skip: tuple[str, ...] = ("self", "space", "objectives", "seed")) -> dict[str, Option]:
    """Read a plug-in's options off its signature and the ``Parameters`` section of its docstring."""
    docs = _documented(inspect.getdoc(plugin) or "")
    found = {}
    for parameter in inspect.signature(plugin).parameters.values():
        if parameter.name in skip or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        found[parameter.name] = Option(default, docs.get(parameter.name, ""))
    return found


def _documented(docstring: str) -> dict[str, str]:
    """Parse a NumPy-style ``Parameters`` section: name -> its description on one line."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=\n\S[^\n]*\n-+\n|\Z)", docstring, re.DOTALL | re.MULTILINE)
    found: dict[str, str] = {}
    for entry in re.finditer(
        r"^(\S[^\n]*)\n((?:[ ]+[^\n]*\n?|\n)*)", section.group(1) + "\n" if section else "", re.MULTILINE
    ):
        for name in entry.group(1).split(":")[0].split(","):
            found[name.strip()] = " ".join(entry.group(2).split())
    return found


def build(plugin: Any, name: str, given: Mapping[str, Any], **fixed: Any) -> Any:
    """Call ``plugin`` with options, checked against its signature and annotations.

    Parameters
    ----------
    name
        How messages call it.
    given
        The user's options.
    fixed
        Further keyword arguments, taken as they are.

    Raises
    ------
    PluginError
        If an option is unknown, missing or of the wrong type, or the plug-in refuses it.
    """
    known = {option: o for option, o in options(plugin).items() if option not in fixed}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise PluginError(f"{name} has no option {unknown[0]!r}: expected some of {sorted(known) or 'none'}")
    missing = sorted(option for option, o in known.items() if o.default is ... and option not in given)
    if missing:
        raise PluginError(f"{name} needs the option {missing[0]!r}")
    checked = _validated(plugin, name, given)
    try:
        return plugin(**checked, **fixed)
    except L2LError as error:
        raise type(error)(f"{name}: {error}") from error
    except (TypeError, ValueError) as error:
        raise PluginError(f"{name}: {error}") from error
    except Exception as error:  # whatever else its constructor raises: a missing file, say
        raise PluginError(f"{name}: {type(error).__name__}: {error}") from error


def _validated(plugin: Any, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(plugin, eval_str=True).parameters
    annotations = {option: parameters[option].annotation for option in given}
    fields: dict[str, Any] = {
        option: (Any if annotation is inspect.Parameter.empty else annotation, ...)
        for option, annotation in annotations.items()
    }
    config = ConfigDict(arbitrary_types_allowed=True, strict=False, protected_namespaces=())
    try:
        model = create_model("Options", __config__=config, **fields)(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise PluginError(f"{name}: option {first['loc'][0]!r}: {first['msg']}, got {first['input']!r}") from None
    return {option: getattr(model, option) for option in given}
