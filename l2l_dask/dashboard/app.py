"""One viewer's document: the page, a banner for what is wrong, and what the experiment does, with its buttons."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

from bokeh.document import Document
from bokeh.events import DocumentReady
from bokeh.models import Column, Div

from l2l_dask.dashboard import theme
from l2l_dask.dashboard.followed import Followed, Stores
from l2l_dask.dashboard.pages import PAGES, StorePage
from l2l_dask.dashboard.pages.experiments import Experiments
from l2l_dask.dashboard.status import Status

_log = logging.getLogger(__name__)

Command: TypeAlias = Callable[[Path, str], str]
_Seen: TypeAlias = tuple[
    Followed, int, int
]  # with its incarnation and version: a page reads the one that it was made with

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
    """A page about one store, in one document; the address may name more stores, to compare with."""

    def __init__(self, document: Document, slug: str, stores: Stores, command: Command | None) -> None:
        request = getattr(document.session_context, "request", None)
        arguments = request.arguments if request is not None else {}
        given = {name: values[-1].decode("utf-8", "replace") for name, values in arguments.items() if values}
        given.pop("store", None)
        # Each once: its lock is held once.
        self._names = list(dict.fromkeys(name.decode("utf-8", "replace") for name in arguments.get("store", ()))) or [
            ""
        ]
        self._name, self._arguments, self._stores = self._names[0], given, stores
        self._make = next(page for page in PAGES if page.slug == slug)
        self._page: StorePage | None = None
        self._is_drawn = False
        self._seen: list[_Seen] = []
        self._broken = ""
        self._followed: dict[str, Followed] = {}
        self.banner = Banner()
        self._holder = Column(name="page", sizing_mode="stretch_width")
        by = "" if request is None else str(getattr(request, "remote_ip", "") or "")
        self._status = Status(command, by)
        for root in (self.banner.root, self._status.root, self._holder):
            document.add_root(root)
        document.on_event(DocumentReady, lambda _event: self._go_on())
        self._document = document
        document.title = f"{self._name}: {self._make.title}"
        document.template_variables.update(
            slug=slug, store=self._name, heading=", ".join(self._names) or "no experiment"
        )

    @property
    def missing(self) -> bool:
        return self._name not in self._followed

    def begin(self) -> None:
        """Find the stores, or say which there are not."""
        for name in self._names:
            before = self._followed.get(name)
            found = self._stores.follow(name) if before is None else self._stores.watch(before)
            if found is not None:
                self._followed[name] = found
        self._tell()

    async def tick(self) -> None:
        """Show what is new."""
        self.begin()
        shown = [found for name in self._names if (found := self._followed.get(name)) is not None and found.ready]
        if not shown or shown[0].name != self._name:
            return
        now = _seen(shown)
        if self._page is not None and _which(now) == _which(self._seen):
            if self._page.is_whole:
                self._renew(shown, self._page, now)
            elif self._is_drawn:
                await self._add(shown, self._page)
        elif now != self._seen:
            await self._open(shown)
        self._tell()

    def _tell(self) -> None:
        known = list(self._followed.values())
        followed = self._followed.get(self._name)
        if followed is not None and followed.ready:
            self._status.show(followed)
        wrong = [each.problem for each in known if each.problem] + [self._broken] * bool(self._broken)
        for name in self._names:
            if name not in self._followed:
                named = f"no experiment {name!r}" if name else "no experiment in this address (?store=NAME)"
                wrong.append(f"there is {named} below {self._stores.root}; choose one among the experiments")
        wrong += [each.loss for each in known if each.loss]
        wrong += [f"reading {each.name} ..." for each in known if not each.ready]
        self.banner.say(wrong[0] if wrong else "")

    async def _open(self, shown: list[Followed]) -> None:
        """Make the page, in another thread: it takes a while, and others are served here."""
        made = await asyncio.get_running_loop().run_in_executor(None, self._made, shown)
        self._page = made  # without one, what was shown before is not to be fed another store
        self._holder.children = [made.root] if made is not None else []

    def _made(self, shown: list[Followed]) -> StorePage | None:
        with _still(shown):
            self._seen = _seen(shown)
            try:
                made = self._make(shown[0], self._arguments, shown[1:], at_once=False)
            except Exception as error:
                self._fail(shown[0], error)
                return None
        self._broken = ""
        return made

    def _go_on(self) -> None:
        """Let the next part come: the first once the browser has drawn what is above, each other one right after."""
        self._is_drawn = True
        tick: Any = self.tick
        self._document.add_next_tick_callback(tick)

    async def _add(self, shown: list[Followed], page: StorePage) -> None:
        """Make the next part of the page, in another thread."""
        part = await asyncio.get_running_loop().run_in_executor(None, self._more, shown, page)
        page.add(part)
        self._go_on()

    def _more(self, shown: list[Followed], page: StorePage) -> list[Any]:
        with _still(shown):
            if _which(_seen(shown)) != _which(self._seen):
                return []  # another store: the next tick makes a new page
            try:
                return page.more()
            except Exception as error:
                self._page = None  # the next time, a new one
                self._fail(shown[0], error)
                return []

    def _renew(self, shown: list[Followed], page: StorePage, now: list[_Seen]) -> None:
        began = time.monotonic()
        with ExitStack() as still:
            for each in shown:
                if not each.still.acquire(blocking=False):
                    return  # next time
                still.callback(each.still.release)
            if now != _seen(shown):
                return  # it may be another store by now
            is_new, self._seen = now != self._seen, now
            try:
                if is_new:
                    page.update()
                    self._broken = ""
                else:
                    page.tick()
            except Exception as error:
                self._fail(shown[0], error)
        took = time.monotonic() - began
        if took > _SLOW:
            _log.warning("page %s of %s took %.2f s", self._make.slug, shown[0].store, took)

    def _fail(self, followed: Followed, error: Exception) -> None:
        _log.error("page %s of %s", self._make.slug, followed.store, exc_info=error)
        self._broken = f"this page cannot show the experiment: {type(error).__name__}: {error}"


def _seen(shown: list[Followed]) -> list[_Seen]:
    return [(each, each.incarnation, each.version) for each in shown]


def _which(seen: list[_Seen]) -> list[tuple[Followed, int]]:
    return [each[:2] for each in seen]


@contextmanager
def _still(shown: list[Followed]) -> Iterator[None]:
    with ExitStack() as still:
        for each in sorted(shown, key=lambda each: each.name):  # in one order: no two wait for each other
            still.enter_context(each.still)
        yield


class Overview:
    """The page about all stores, in one document."""

    missing = False

    def __init__(self, document: Document, stores: Stores) -> None:
        self._stores, self._page = stores, Experiments(stores)
        self.banner = Banner()
        for root in (self.banner.root, Column(children=[self._page.root], name="page", sizing_mode="stretch_width")):
            document.add_root(root)
        root, home = stores.root, os.path.expanduser("~")
        heading = str(Path("~", root.relative_to(home)) if root.is_relative_to(home) else root)
        document.title = f"experiments in {root.name}"
        document.template_variables.update(slug="experiments", store="", heading=heading)

    def begin(self) -> None:
        """Show what is new."""
        self._page.update()
        self.banner.say(self._stores.problem)

    tick = begin


def fill(document: Document, slug: str, stores: Stores, command: Command | None = None) -> None:
    """Make a viewer's document, which renews itself from then on."""
    document.template = theme.page()
    document.template_variables.update(pages=PAGES if slug != "experiments" else ())
    made = Overview(document, stores) if slug == "experiments" else Viewer(document, slug, stores, command)
    made.begin()
    document.template_variables["missing"] = made.missing
    tick: Any = made.tick
    document.add_next_tick_callback(tick)
    document.add_periodic_callback(tick, _TICK)
