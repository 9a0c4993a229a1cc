"""What NetLogo's options may be: each check says what was expected, and what came."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from l2l_dask.errors import PluginError
from optimizees._options import check_integer

_SEEDS = 2**31  # random-seed of NetLogo 5 and later takes no more


def listed(names: str | Sequence[str]) -> tuple[str, ...]:
    """Return names as several; a text is one, not its letters."""
    return (names,) if isinstance(names, str) else tuple(names)


def derived(n: int, *keys: int) -> list[int]:
    """Draw seeds that depend on the keys alone."""
    return [int(word) % _SEEDS for word in np.random.SeedSequence(keys).generate_state(n)]


def text(name: str, commands: str) -> str:
    """Return a command that is one."""
    if not commands.strip():
        raise PluginError(f"{name}: expected a command of NetLogo, got {commands!r}")
    return commands.strip()


def checked_seeds(seeds: Sequence[int] | None) -> tuple[int, ...]:
    """Return seeds that NetLogo takes, none twice; none at all if none were given."""
    if seeds is None:
        return ()
    checked = [check_integer("seeds", seed, -_SEEDS, _SEEDS - 1) for seed in seeds]
    if not checked or len(set(checked)) < len(checked):
        raise PluginError(f"seeds: expected one or several different integers, got {seeds!r}")
    return tuple(checked)


def reporters_of(fitness: Mapping[str, str] | str | None, own: bool) -> dict[str, str]:
    """Return the reporters of the objectives by name; one alone is its own name."""
    if fitness is None and own:
        return {"food": "food-collected"}
    named = {fitness: fitness} if isinstance(fitness, str) else dict(fitness or {})
    if not named or not all(name.strip() and reporter.strip() for name, reporter in named.items()):
        raise PluginError(
            f'fitness: expected what is to be measured, as {{food = "sum [food] of ants"}}, got {fitness!r}'
        )
    return named


def record_of(record: Mapping[str, str], reporters: Mapping[str, str]) -> dict[str, str]:
    """Return further reporters, whose names can be those of arrays and are not taken."""
    for name, reporter in record.items():
        if not reporter.strip() or not re.fullmatch(r"\w[\w.-]*", name):
            raise PluginError(f"record: expected reporters by names of letters, digits, '-' and '_', got {record!r}")
        if name in reporters:
            raise PluginError(f"record: {name!r} is a fitness, whose course is saved anyway")
    return dict(record)


def templates(commands: Mapping[str, str]) -> dict[str, str]:
    """Return the commands by lower-case name: NetLogo does not tell capitals apart."""
    for name, command in commands.items():
        if "{}" not in command:
            raise PluginError(f"commands: expected {{}} for the value of {name!r}, got {command!r}")
    return {name.lower(): command for name, command in commands.items()}
