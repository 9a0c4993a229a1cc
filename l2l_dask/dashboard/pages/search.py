"""How the search goes: the fitness of all, and the best so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from bokeh.models import Column

from l2l_dask.dashboard import plots

if TYPE_CHECKING:
    from l2l_dask.dashboard.followed import Followed
    from l2l_dask.trajectory.following import Change


class Search:
    """The page."""

    title: ClassVar[str] = "Search"
    slug: ClassVar[str] = "search"

    def __init__(self, followed: Followed, arguments: Mapping[str, str]) -> None:  # noqa: ARG002
        self._followed = followed
        self.root = Column(sizing_mode="stretch_width")
        self._draw()

    def update(self, change: Change) -> None:  # noqa: ARG002
        self._draw()

    def _draw(self) -> None:
        trajectory = self._followed.trajectory
        self.root.children = [plots.fitness(trajectory, i) for i in range(len(trajectory.objectives))]
