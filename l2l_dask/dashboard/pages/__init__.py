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

from l2l_dask.dashboard.pages._common import StorePage
from l2l_dask.dashboard.pages.individuals import Individuals
from l2l_dask.dashboard.pages.parameters import Parameters
from l2l_dask.dashboard.pages.search import Search
from l2l_dask.dashboard.pages.workers import Workers

PAGES: tuple[type[StorePage], ...] = (Search, Parameters, Workers, Individuals)

__all__ = ["PAGES", "Individuals", "Parameters", "Search", "StorePage", "Workers"]
