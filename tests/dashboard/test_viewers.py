"""What one viewer's document shows of stores that change, vanish and come back, without a server."""

import asyncio
from types import SimpleNamespace

import pytest
from bokeh.document import Document
from bokeh.events import DocumentReady
from bokeh.models import Div

from l2l_dask.dashboard import app, status
from l2l_dask.dashboard.followed import Stores
from l2l_dask.dashboard.pages import Search
from l2l_dask.errors import StoreError
from l2l_dask.trajectory.actions import actions


@pytest.fixture
def still(tmp_path, stores):
    """Stores that nothing reads but what a test renews."""
    made = Stores(tmp_path)
    made.close()
    assert not any(thread.is_alive() for thread in made._threads)
    for name in "ab":
        stores.make(tmp_path / f"{name}.zarr", 30)
    return made


@pytest.fixture
def viewer(still):
    def viewer(*names, is_drawn=True):
        document = Document()
        arguments = {"store": [name.encode() for name in names]}
        request = SimpleNamespace(arguments=arguments, remote_ip="127.0.0.1")
        document._session_context = lambda: SimpleNamespace(request=request)
        made = app.Viewer(document, "search", still, None)
        if is_drawn:
            draw(made)
        return made

    return viewer


def draw(viewer):
    """Say what a browser says once it has drawn all that there is."""
    viewer._document.callbacks.trigger_event(DocumentReady())


def see(viewer, *followed):
    for each in followed:
        each._looked = 0.0
        each.renew()
    for _ in range(2):  # and what comes below
        asyncio.run(viewer.tick())


def below(viewer):
    return [child for child in viewer._holder.children[0].children if child is viewer._page._below]


def test_what_is_below_is_made_once_the_browser_has_drawn_what_is_above(still, viewer):
    shown, followed = viewer("a.zarr", is_drawn=False), still.follow("a.zarr")
    see(shown, followed)
    assert shown._page._plots[0] in shown._page._place.children
    assert (shown._page.is_whole, below(shown)) == (False, [])
    draw(shown)
    followed.version += 1
    asyncio.run(shown.tick())
    assert (shown._page.is_whole, len(below(shown))) == (True, 1)
    assert len(shown._page._below.children[0].children) > 0
    asyncio.run(shown.tick())
    assert shown._seen[0][2] == followed.version  # what came meanwhile is shown by all parts


def test_a_part_of_another_store_is_not_added(still, viewer):
    shown, followed = viewer("a.zarr", is_drawn=False), still.follow("a.zarr")
    see(shown, followed)
    first, more = shown._page, shown._more

    def replaced(*arguments):
        followed.incarnation += 1
        return more(*arguments)

    shown._more = replaced
    draw(shown)
    asyncio.run(shown.tick())
    assert (below(shown), first.is_whole) == ([], False)
    shown._more = more
    see(shown, followed)
    assert shown._page is not first
    assert len(below(shown)) == 1


def test_a_part_that_cannot_be_made_is_told_and_tried_again_with_what_comes(still, viewer, monkeypatch):
    def fails(page):
        raise ValueError("too odd")

    shown, followed = viewer("a.zarr"), still.follow("a.zarr")
    with monkeypatch.context() as context:
        context.setattr(Search, "_make_below", fails)
        see(shown, followed)
    assert "too odd" in shown.banner.root.text
    assert len(shown._holder.children) == 1  # what is above stays
    followed.version += 1
    for _ in range(2):
        asyncio.run(shown.tick())
    assert "too odd" not in shown.banner.root.text
    assert len(below(shown)) == 1


def test_a_page_that_cannot_be_made_of_another_store_is_not_fed_it(still, viewer, monkeypatch):
    class Fed(Search):
        def build(self):
            if followed.incarnation:
                raise ValueError("too odd")
            return [Div()]

        def update(self):
            fed.append(1)

    fed, followed = [], still.follow("a.zarr")
    monkeypatch.setattr(app, "PAGES", (Fed,))
    shown = viewer("a.zarr")
    see(shown, followed)
    assert len(shown._holder.children) == 1
    followed.incarnation += 1
    for _ in range(2):
        followed.version += 1
        asyncio.run(shown.tick())
    assert (fed, shown._holder.children) == ([], [])
    assert "too odd" in shown.banner.root.text


def test_a_viewer_goes_on_with_the_store_that_is_read(still, viewer):
    shown, dropped = viewer("a.zarr"), still.follow("a.zarr")
    see(shown, dropped)
    del still._followed["a.zarr"]
    other = still.follow("a.zarr")
    assert still.watch(dropped) is other is not dropped
    see(shown, other)
    assert shown._page.followed is other


def test_all_stores_of_an_address_are_handed_to_its_page_once_they_can_be_read(still, viewer):
    shown = viewer("a.zarr", "b.zarr", "a.zarr", "none.zarr")
    a, b = still.follow("a.zarr"), still.follow("b.zarr")
    see(shown, a)
    assert (shown._page.followed, shown._page.others) == (a, [])
    see(shown, b)
    assert (shown._page.followed, shown._page.others) == (a, [b])
    assert [len(source.data["best"]) > 0 for source in shown._page._best] == [True, True]
    assert "there is no experiment &#x27;none.zarr&#x27;" in shown.banner.root.text
    with b.still:  # somebody writes its rows: they are looked at the next time
        page, a.version = shown._page, a.version + 1
        asyncio.run(shown.tick())
        assert shown._seen[0][2] == a.version - 1
    asyncio.run(shown.tick())
    assert shown._seen[0][2] == a.version
    assert shown._page is page


@pytest.mark.parametrize(("refused", "record"), [(False, [("pause", "10.0.0.7")]), (True, [])])
def test_an_action_is_on_record_if_it_was_taken(still, refused, record):
    def command(store, what):
        if refused:
            raise StoreError("it does not run")
        return f"{store}: told to {what}"

    line, followed = status.Status(command, "10.0.0.7"), still.follow("a.zarr")
    followed.renew()
    line.show(followed)
    line._press("pause")
    assert [(a.what, a.by) for a in actions(followed.store)] == record
    assert ("it does not run" if refused else "told to pause") in line._said.text
