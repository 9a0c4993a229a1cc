"""What can be read of NetLogo without starting it: where its jars are, a model's widgets, how a value is written."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from l2l_dask.errors import EvaluationError, PluginError
from l2l_dask.parameters import Choice
from l2l_dask.space import Categorical, Integer, Parameter, Real, Space

SECTION = "@#$#@#$#@"  # between the parts of a .nlogo file: the code, the widgets, ...

# NetLogo 4 and 5.0 | 5.3 and 6.0 to 6.2 | 6.3 and later | the same on macOS
_FOLDERS = ("app", "lib/app", "lib", "Java", "Contents/Java", "*.app/Contents/Java", "*.app/Contents/app")
_MAIN = re.compile(r"netlogo(?:[-_]?headless)?(?:[-_.]?(\d+(?:\.\d+)*)[\w.-]*)?\.jar", re.IGNORECASE)
_NOT_MAIN = ("sources", "javadoc", "tests")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s\[\]"]+)')


def home(given: str) -> Path:
    """Return NetLogo's folder: the one that is given, else ``NETLOGO_HOME``.

    Raises
    ------
    PluginError
        If neither is set.
    """
    folder = given or os.environ.get("NETLOGO_HOME", "")
    if not folder:
        raise PluginError(
            "where NetLogo is installed is not known: set the environment variable NETLOGO_HOME to its folder, "
            "or the option netlogo_home"
        )
    return Path(folder).expanduser().resolve()


def jars(folder: Path) -> list[Path]:
    """List the jars of a NetLogo installation of any version, its main one first.

    Raises
    ------
    PluginError
        If there is no NetLogo in the folder.
    """
    if not folder.is_dir():
        raise PluginError(f"there is no folder {folder}: NETLOGO_HOME must be where NetLogo is installed")
    for place in [folder, *(place for pattern in _FOLDERS for place in sorted(folder.glob(pattern)))]:
        main = _main(place)
        if main is not None:
            beside = sorted({*place.glob("*.jar"), *place.glob("lib/*.jar")})
            return [main, *(jar for jar in beside if not _MAIN.fullmatch(jar.name))]
    raise PluginError(
        f"there is no NetLogo in {folder}: expected NetLogo.jar, or netlogo-<version>.jar in app/, lib/app/ or Java/"
    )


def _main(place: Path) -> Path | None:
    """Return the NetLogo jar in a folder, the newest of several."""
    found = [
        (tuple(int(part) for part in (match[1] or "0").split(".")), jar.name, jar)
        for jar in place.glob("*.jar")
        if (match := _MAIN.fullmatch(jar.name)) and not any(word in jar.name for word in _NOT_MAIN)
    ]
    return max(found)[2] if found else None


def extensions(main: Path) -> Path | None:
    """Find the folder of the extensions that come with NetLogo, near its main jar."""
    near = (parent / "extensions" for parent in list(main.parents)[:3])
    return next((folder for folder in near if folder.is_dir()), None)


@dataclass(frozen=True)
class Widget:
    """A slider, switch, chooser or input of a model's interface, which is a global variable.

    Attributes
    ----------
    kind, name
        What it is, and the variable.
    bounds
        Of a slider: minimum, maximum and step, as the model writes them.
    choices
        Of a chooser.
    """

    kind: str
    name: str
    bounds: tuple[str, str, str] = ("", "", "")
    choices: tuple[Choice, ...] = ()

    @property
    def steps(self) -> float:
        """The step of a slider, NaN where only NetLogo can compute it."""
        try:
            return float(self.bounds[2])
        except ValueError:
            return math.nan

    def parameter(self) -> Parameter:
        """Return it as a parameter to search.

        Raises
        ------
        PluginError
            If its range cannot be told from the file.
        """
        if self.kind == "switch":
            return Categorical([True, False])
        if self.kind == "chooser" and self.choices:
            return Categorical(self.choices)
        give = f"give its range: parameters = {{{self.name!r}: [low, high]}}"
        if self.kind != "slider":
            raise PluginError(f"the {self.kind} {self.name!r} has no range: {give}")
        try:
            low, high, step = (float(bound) for bound in self.bounds)
        except ValueError:
            raise PluginError(
                f"the slider {self.name!r} goes from {self.bounds[0]!r} to {self.bounds[1]!r} by steps of "
                f"{self.bounds[2]!r}, which only NetLogo can compute: {give}"
            ) from None
        if not low < high:
            raise PluginError(f"the slider {self.name!r} goes from {low:g} to {high:g}, which is no range: {give}")
        return Integer(int(low), int(high)) if low % 1 == high % 1 == step % 1 == 0 else Real(low, high)


def widgets(text: str) -> dict[str, Widget]:
    """Read the widgets off a model, by lower-case name: NetLogo does not tell capitals apart.

    Parameters
    ----------
    text
        Of a ``.nlogo`` file (NetLogo 4 to 6) or a ``.nlogox`` file (7).
    """
    found = _of_xml(text) if text.lstrip().startswith("<") else _of_sections(text)
    return {widget.name.lower(): widget for widget in found}


def _of_sections(text: str) -> Iterator[Widget]:
    sections = text.replace("\r\n", "\n").split(SECTION)
    for block in re.split(r"\n\s*\n", sections[1]) if len(sections) > 1 else ():
        kind, *lines = block.strip().split("\n")
        # After the kind come four numbers, where it is, then (but for an input) what it is called on the screen. An
        # empty line, of a chooser without choices or an input without a text, ends the block as well.
        at = 4 if kind == "INPUTBOX" else 5
        name = lines[at].strip() if len(lines) > at else ""
        if kind == "SLIDER" and len(lines) > 9:
            yield Widget("slider", name, (lines[6].strip(), lines[7].strip(), lines[9].strip()))
        elif kind == "CHOOSER" and name:
            yield Widget("chooser", name, choices=tuple(_choices(lines[6] if len(lines) > 6 else "")))
        elif kind in ("SWITCH", "INPUTBOX") and name:
            yield Widget("switch" if kind == "SWITCH" else "input", name)


def _choices(line: str) -> Iterator[Choice]:
    for match in _LITERAL.finditer(line):
        yield re.sub(r"\\(.)", r"\1", match[1]) if match[2] is None else _constant(match[2])


def _constant(word: str) -> Choice:
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    try:
        return float(word) if float(word) % 1 else int(float(word))
    except ValueError:
        return word


def _of_xml(text: str) -> Iterator[Widget]:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise PluginError(f"the model is not valid XML: {error}") from None
    for element in root.iter():
        name = element.get("variable", "")
        if not name or element.tag not in ("slider", "switch", "chooser", "input"):
            continue
        bounds = (element.get("min", ""), element.get("max", ""), element.get("step", ""))
        texts = [(choice.get("type"), choice.get("value", "")) for choice in element.iter("choice")]
        choices = tuple(value if kind == "string" else _constant(value) for kind, value in texts)
        yield Widget(element.tag, name, bounds if element.tag == "slider" else ("", "", ""), choices)


def searched(
    parameters: Sequence[str] | Mapping[str, Any] | None, found: Mapping[str, Widget], model: str
) -> dict[str, Any]:
    """Make a space of what the user lists, or of all sliders with a range; empty if there are none.

    Raises
    ------
    PluginError
        If a name is no widget's, or its range cannot be told.
    """
    if parameters is None:
        return {w.name: w.parameter() for w in found.values() if w.kind == "slider" and _has_range(w)}
    if isinstance(parameters, Mapping):
        return dict(Space.from_dict({n: _entry(e, found.get(n.lower())) for n, e in parameters.items()}))
    unknown = [name for name in parameters if name.lower() not in found]
    if unknown:
        known = ", ".join(widget.name for widget in found.values()) or "none"
        raise PluginError(f"parameters: {model} has no slider, switch or chooser {unknown[0]!r}, it has {known}")
    return {name: found[name.lower()].parameter() for name in parameters}


def _has_range(widget: Widget) -> bool:
    try:
        widget.parameter()
    except PluginError:
        return False
    return True


def _entry(entry: Any, widget: Widget | None) -> Any:
    """Read ``[low, high]``: whole numbers if the slider of that name takes whole steps."""
    if not isinstance(entry, Sequence) or isinstance(entry, str):
        return entry
    if len(entry) != 2:
        raise PluginError(f"parameters: expected [low, high], got {entry!r}")
    whole = widget is not None and widget.steps == 1 and all(isinstance(end, int) for end in entry)
    return {"low": entry[0], "high": entry[1], "type": "integer" if whole else "real"}


def literal(value: Any) -> str:
    """Write a value as NetLogo does: numbers, ``true``, ``"text"``, ``[1 [2 3]]``.

    Raises
    ------
    EvaluationError
        If NetLogo has no such value.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float) and math.isfinite(value):
        return repr(value).upper()
    if isinstance(value, str):
        return '"' + "".join(_ESCAPES.get(character, character) for character in value) + '"'
    if isinstance(value, Iterable):
        return f"[{' '.join(literal(element) for element in value)}]"
    raise EvaluationError(f"expected a number, true, false, a text or a list of these for NetLogo, got {value!r}")
