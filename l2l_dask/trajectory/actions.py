"""What people did to an experiment from outside, on record in its store."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from l2l_dask.errors import StoreError
from l2l_dask.trajectory.layout import Layout, open_layout

_MOST = 1 << 16  # bytes of the record that are read, from its end


@dataclass(frozen=True)
class Action:
    """One of them.

    Attributes
    ----------
    at
        When, by this machine's clock and with its zone.
    what
        The command.
    by
        The network address from which it came, or the machine on whose command line it was typed.
    """

    at: str
    what: str
    by: str


def note(store: str | os.PathLike[str], what: str, by: str) -> None:
    """Put an action on record.

    Raises
    ------
    StoreError
        If the store cannot be written.
    """
    layout, _ = open_layout(store)
    at = datetime.now().astimezone().isoformat(timespec="seconds")
    try:
        with layout.actions.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(Action(at, what, by))) + "\n")
    except OSError as error:
        raise StoreError(f"{layout.actions} cannot be written: {error.strerror}") from None


def actions(store: str | os.PathLike[str]) -> list[Action]:
    """Return the last actions on record, in their order; lines that hold none are left out."""
    path = Layout(Path(store)).actions
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _MOST, 0))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            content = json.loads(line)
            found.append(Action(*(str(content[name]) for name in ("at", "what", "by"))))
        except (ValueError, KeyError, TypeError):
            continue
    return found
