"""``l2l optimizers`` and ``l2l optimizees``."""

from __future__ import annotations

import inspect
import re
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from l2l_dask import registry
from l2l_dask.errors import PluginError


def described(group: registry.Group) -> list[dict[str, Any]]:
    """Describe what is registered; a plug-in that cannot be imported says why instead."""
    return [_described(group, name) for name in registry.names(group)]


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
    """Take a docstring's markup away."""
    return escape(re.sub(r"\s?\[\d+\]_", "", doc).replace("``", ""))


def printed(plugins: list[dict[str, Any]]) -> None:
    """Print the descriptions for a reader."""
    console = Console(highlight=False)
    for plugin in plugins:
        console.print(f"[bold]{plugin['name']}[/bold]  {_readable(plugin['doc'])}")
        if plugin.get("source"):
            console.print(f"  {plugin['source']}", style="dim")
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
        for option, o in plugin["options"].items():
            table.add_row(option, str(o["default"]), _readable(o["doc"]))
        if plugin["options"]:
            console.print(table)
        console.print()
