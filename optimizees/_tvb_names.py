"""What The Virtual Brain's models, their parameters and variables are called, read without importing it: that is slow.

TVB declares a parameter in the body of its model's class, as ``a = NArray(...)``, and what can be observed as the
``choices`` of ``variables_of_interest``.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from l2l_dask.errors import PluginError

_LISTED = re.compile(r'^ +[A-Z0-9_]+ = "(\w+)"$', re.MULTILINE)  # in ModelsEnum
_CLASS = re.compile(r"^class (\w+)\(", re.MULTILINE)
_NUMBERS = {"NArray", "Float", "Int"}


@dataclass(frozen=True)
class Declared:
    """What a model has: its numeric parameters, and the variables that can be observed, its usual one first."""

    parameters: tuple[str, ...]
    variables: tuple[str, ...]


def models() -> list[str]:
    """Name the models of the installed TVB."""
    listed = _LISTED.findall((_folder() / "__init__.py").read_text(encoding="utf-8"))
    return sorted(name for name in listed if name != "Model" and name in _files())


@lru_cache
def declared(model: str) -> Declared:
    """Read what a model declares, or inherits."""
    parameters: dict[str, None] = {}
    variables: tuple[str, ...] = ()
    for name, value in _attributes(model):
        called = value.func.id if isinstance(value.func, ast.Name) else ""
        keywords = {keyword.arg: keyword.value for keyword in value.keywords}
        if name == "variables_of_interest" and not variables:
            variables = _ordered(keywords)
        elif called in _NUMBERS and "bool" not in ast.unparse(keywords.get("dtype", ast.Constant(0))):
            parameters[name] = None
    return Declared(tuple(parameters), variables)


def one_of(option: str, name: str, known: Collection[str]) -> str:
    """Return a name that is known.

    Raises
    ------
    PluginError
        With the nearest names, or all where none is near.
    """
    if name not in known:
        near = {n.lower(): n for n in known}
        close = [near[n] for n in get_close_matches(name.lower(), near)]
        expected = f"did you mean {' or '.join(close)}?" if close else f"expected one of {', '.join(known)}"
        raise PluginError(f"{option}: there is no {name!r}: {expected}")
    return name


def _ordered(keywords: Mapping[str | None, ast.expr]) -> tuple[str, ...]:
    usual, choices = (ast.literal_eval(keywords[key]) for key in ("default", "choices"))
    return tuple(dict.fromkeys([*usual, *choices]))


def _attributes(model: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield what is assigned in the body of a class and of those it inherits from, the nearest first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in TVB's docstrings
        tree = ast.parse(_files()[model].read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == model:
            for statement in node.body:
                if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
                    yield from ((t.id, statement.value) for t in statement.targets if isinstance(t, ast.Name))
            for base in node.bases:
                if isinstance(base, ast.Name) and base.id in _files():
                    yield from _attributes(base.id)


@lru_cache
def _files() -> dict[str, Path]:
    """Find the file of each class."""
    return {name: path for path in _folder().glob("*.py") for name in _CLASS.findall(path.read_text(encoding="utf-8"))}


def _folder() -> Path:
    spec = find_spec("tvb")  # which imports nothing: it is a package of the top level
    for place in (spec.submodule_search_locations if spec else None) or []:
        if (folder := Path(place, "simulator", "models")).is_dir():
            return folder
    raise PluginError("the installed tvb has no tvb/simulator/models: pip install 'l2l-dask[tvb]'")
