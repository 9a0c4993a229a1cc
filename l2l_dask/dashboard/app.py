"""One viewer's document: the page, a banner for what is wrong, and what the experiment does, with its buttons."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

from bokeh.document import Document
from bokeh.models import Column, Div

from l2l_dask.dashboard import theme
from l2l_dask.dashboard.followed import Followed, Stores
from l2l_dask.dashboard.pages import PAGES, Page
from l2l_dask.dashboard.pages.experiments import Experiments
from l2l_dask.dashboard.status import Status

_log = logging.getLogger(__name__)

Command: TypeAlias = Callable[[Path, str], str]

ROUTES = {"/": "experiments", **{f"/{page.slug}": page.slug for page in PAGES}}
_TICK = 500  # ms
_SLOW = 0.3  # seconds of the server's only thread


class Banner:
    """One line about what is wrong; nothing as long as nothing is."""

    def __init__(self) -> None:
        self._said: str | None = None
        self.root = Div(name="banner", sizing_mode="stretch_width", visible=False, disable_math=True)

    def say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self.root.text = f"<div class='problem' role='alert'>{escape(text)}</div>" if text else ""
            self.root.visible = bool(text)


class Viewer:
    """A page about one store, in one document."""

    def __init__(self, document: Document, slug: str, stores: Stores, command: Command | None) -> None:
        request = getattr(document.session_context, "request", None)
        arguments = request.arguments if request is not None else {}
        given = {name: values[-1].decode("utf-8", "replace") for name, values in arguments.items() if values}
        self._name = given.pop("store", "")
        self._arguments, self._stores = given, stores
        self._make = next(page for page in PAGES if page.slug == slug)
        self._page: Page | None = None
        self._incarnation = self._version = -1
        self._broken = ""
        self._followed: Followed | None = None
        self.banner = Banner()
        self._holder = Column(name="page", sizing_mode="stretch_width")
        by = "" if request is None else str(getattr(request, "remote_ip", "") or "")
        self._status = Status(command, by)
        for root in (self.banner.root, self._status.root, self._holder):
            document.add_root(root)
        document.title = f"{self._name}: {self._make.title}"
        document.template_variables.update(slug=slug, store=self._name, heading=self._name or "no experiment")

    @property
    def missing(self) -> bool:
        return self._followed is None

    def begin(self) -> None:
        """Find the store, or say that there is none."""
        if self._followed is None:
            self._followed = self._stores.follow(self._name)
        if self._followed is None:
            named = f"no experiment {self._name!r}" if self._name else "no experiment in this address (?store=NAME)"
            self.banner.say(f"there is {named} below {self._stores.root}; choose one among the experiments")
        else:
            self._stores.watch(self._followed)
            self._tell(self._followed)

    async def tick(self) -> None:
        """Show what is new."""
        self.begin()
        followed = self._followed
        if followed is None or not followed.ready:
            return
        if (self._incarnation, self._version) != (followed.incarnation, followed.version):
            if self._page is None or self._incarnation != followed.incarnation:
                await self._open(followed)
            else:
                self._update(followed, self._page)
        self._tell(followed)

    def _tell(self, followed: Followed) -> None:
        if followed.ready:
            self._status.show(followed)
        waiting = "" if followed.ready else f"reading {self._name} ..."
        self.banner.say(followed.problem or self._broken or waiting)

    async def _open(self, followed: Followed) -> None:
        """Make the page, in another thread: it takes a while, and others are served here."""
        made = await asyncio.get_running_loop().run_in_executor(None, self._made, followed)
        if made is not None:
            self._page = made
            self._holder.children = [made.root]

    def _made(self, followed: Followed) -> Page | None:
        with followed.still:
            self._incarnation, self._version = followed.incarnation, followed.version
            try:
                made = self._make(followed, self._arguments)
            except Exception as error:
                self._fail(followed, error)
                return None
        self._broken = ""
        return made

    def _update(self, followed: Followed, page: Page) -> None:
        if not followed.still.acquire(blocking=False):
            return  # next time
        began = time.monotonic()
        try:
            change = followed.since(self._version)
            self._version = followed.version
            page.update(change)
            self._broken = ""
        except Exception as error:
            self._fail(followed, error)
        finally:
            followed.still.release()
        took = time.monotonic() - began
        if took > _SLOW:
            _log.warning("page %s of %s took %.2f s", self._make.slug, followed.store, took)

    def _fail(self, followed: Followed, error: Exception) -> None:
        _log.error("page %s of %s", self._make.slug, followed.store, exc_info=error)
        self._broken = f"this page cannot show the experiment: {type(error).__name__}: {error}"


class Overview:
    """The page about all stores, in one document."""

    def __init__(self, document: Document, stores: Stores) -> None:
        self._stores, self._page = stores, Experiments(stores)
        self.banner = Banner()
        for root in (self.banner.root, Column(children=[self._page.root], name="page", sizing_mode="stretch_width")):
            document.add_root(root)
        document.title = f"experiments in {stores.root.name}"
        document.template_variables.update(slug="experiments", store="", heading=str(stores.root))

    def begin(self) -> None:
        """Show what is new."""
        self._page.update()
        self.banner.say(self._stores.problem)


def fill(document: Document, slug: str, stores: Stores, command: Command | None = None) -> None:
    """Make a viewer's document, which renews itself from then on."""
    document.template = theme.page()
    document.template_variables.update(pages=PAGES if slug != "experiments" else ())
    made: Any = Overview(document, stores) if slug == "experiments" else Viewer(document, slug, stores, command)
    made.begin()
    document.template_variables["missing"] = getattr(made, "missing", False)
    tick = getattr(made, "tick", made.begin)
    document.add_next_tick_callback(tick)
    document.add_periodic_callback(tick, _TICK)
