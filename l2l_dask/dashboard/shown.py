"""The stores that a notebook shows."""

from __future__ import annotations

from pathlib import Path

from l2l_dask.dashboard.followed import Stores


class Shown(Stores):
    """The stores that were named one by one, wherever they are; no others below their folders.

    Parameters
    ----------
    root
        The folder from which their names start.
    """

    def __init__(self, root: Path) -> None:
        self._named: dict[str, Path] = {}
        super().__init__(root)

    def add(self, store: Path) -> str:
        """Show one more, and return its name."""
        name = (store.relative_to(self.root) if store.is_relative_to(self.root) else store).as_posix()
        self._named = self._named | {name: store}
        return name

    def names(self) -> dict[str, Path]:
        return self._named

    def find(self, name: str) -> Path | None:
        return self._named.get(name)
