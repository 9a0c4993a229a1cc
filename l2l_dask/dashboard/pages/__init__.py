"""The pages about one experiment: each a class in a module of its own, in the order of the navigation.

A page belongs to one viewer's document. It holds Bokeh models and does no I/O: what it shows comes from
:class:`~l2l_dask.dashboard.followed.Followed`, which all viewers of a store share.

- No ``CustomJS``, ``HTMLTemplateFormatter`` or other JavaScript in strings: the page's Content-Security-Policy has no
  ``unsafe-eval``. Callbacks are Python's.
- Text of a user (names, errors) goes into a ``Div`` escaped and with ``disable_math=True``; in figures it is safe.
- Colours of glyphs come from :mod:`l2l_dask.dashboard.theme` and serve on light and dark; what a figure draws around
  them (axes, grids, titles, backgrounds) is coloured by the style sheet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from l2l_dask.dashboard.pages.individuals import Individuals
from l2l_dask.dashboard.pages.parameters import Parameters
from l2l_dask.dashboard.pages.search import Search
from l2l_dask.dashboard.pages.workers import Workers

if TYPE_CHECKING:
    from l2l_dask.dashboard.followed import Followed


class Page(Protocol):
    """What the server asks of a page.

    Attributes
    ----------
    title
        In the navigation.
    slug
        In its address, ``/SLUG?store=NAME``.
    root
        The Bokeh model that holds everything, laid out with ``sizing_mode="stretch_width"``.
    """

    title: ClassVar[str]
    slug: ClassVar[str]

    @property
    def root(self) -> Any: ...

    def __init__(
        self,
        followed: Followed,
        arguments: Mapping[str, str],
        others: Sequence[Followed] = (),
        *,
        at_once: bool = True,
    ) -> None:
        """Make the page of one viewer, on a thread of its own.

        Parameters
        ----------
        followed
            The store: it can be read at this moment, and ``followed.trajectory`` may have no rows yet.
        arguments
            Of the address beside the store, say ``{"id": "17"}``: anybody may have typed them.
        others
            More stores that the address names, which can be read too: a page may compare them.
        at_once
            Whether to make all of it; else what a browser shows first, and :meth:`more` makes the rest.
        """

    @property
    def is_whole(self) -> bool:
        """Whether all of it is made."""

    def more(self) -> list[Any]:
        """Make the next part, on a thread of its own too."""

    def add(self, part: list[Any]) -> None:
        """Show it."""

    def update(self) -> None:
        """Show what changed since the last call (or since the page was made): ``followed.trajectory`` is the new one.

        It is called once all of it is made, when there is something new alone, at most twice a second, on the
        server's only thread: it must take less than 300 ms with a million rows. What several viewers need is best
        computed by ``followed.once(function, *arguments)``. If the store was replaced by another, a new page is made
        instead.
        """

    def tick(self) -> None:
        """Show what changes with the time alone; called twice a second after the first update, and must be quick."""


PAGES: tuple[type[Page], ...] = (Search, Parameters, Workers, Individuals)
