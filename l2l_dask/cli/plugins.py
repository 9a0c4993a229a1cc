"""``l2l optimizers`` and ``l2l optimizees``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from l2l_dask import registry
from l2l_dask.errors import PluginError


def described(group: registry.Group, names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Describe what is registered, or these; a plug-in that cannot be imported says why instead.

    Raises
    ------
    PluginError
        If nothing of such a name is registered.
    """
    known = registry.names(group)
    unknown = [name for name in names if name not in known]
    if unknown:
        near = get_close_matches(unknown[0], known) or known
        raise PluginError(f"no {group[:-1]} is called {unknown[0]!r}: expected one of {', '.join(near)}")
    return [_described(group, name) for name in names or known]


def _described(group: registry.Group, name: str) -> dict[str, Any]:
    try:
        plugin = registry.find(group, name)
    except PluginError as error:
        return {"name": name, "doc": str(error), "options": {}}
    options = {
        option: {"default": "required" if o.default is ... else _plain(o.default), "doc": o.doc}
        for option, o in registry.options(plugin).items()
    }
    found = {"name": name, "doc": (inspect.getdoc(plugin) or "").partition("\n")[0], "options": options}
    found["source"] = getattr(plugin, "source", "")
    if group == "optimizers":
        found["asynchronous"] = plugin.asynchronous
        found["spaces"] = sorted(plugin.spaces)
        found["objectives"] = plugin.max_objectives or "any number"
    return found


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)


def _readable(doc: str) -> str:
    """Take a docstring's markup away: references, roles and backquotes."""
    doc = re.sub(r"(?<=\()(\[\d+\]_,? ?)+| ?\[\d+\]_", "", doc)
    doc = re.sub(r":\w+:`\\?([^`]*)`", r"\1", doc)
    return escape(re.sub(r" ?\(\)| (?=[.,;:])", "", doc).replace("``", ""))


def printed(plugins: list[dict[str, Any]]) -> None:
    """Print the descriptions for a reader."""
    console = Console(highlight=False)
    for plugin in plugins:
        console.print(f"[bold]{plugin['name']}[/bold]  {_readable(plugin['doc'])}")
        if plugin.get("source"):
            console.print(f"  {escape(plugin['source'])}", style="dim")
        if "spaces" in plugin:
            waits = "asynchronous" if plugin["asynchronous"] else "waits for each generation"
            n = plugin["objectives"]
            objectives = "1 objective" if n == 1 else f"{n} objectives" if isinstance(n, int) else f"{n} of objectives"
            console.print(f"  {', '.join(plugin['spaces'])}; {objectives}; {waits}", style="dim")
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
        for option, o in plugin["options"].items():
            table.add_row(option, str(o["default"]), _readable(o["doc"]))
        if plugin["options"]:
            console.print(table)
        console.print()
