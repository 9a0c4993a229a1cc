"""The server by itself: what it keeps, and for how long."""

import asyncio
import gc
import threading
import urllib.request
import weakref

import pytest
from tornado.ioloop import IOLoop

from l2l_dask.dashboard import app
from l2l_dask.dashboard.access import Access, is_loopback
from l2l_dask.dashboard.followed import Stores
from l2l_dask.dashboard.server import Dashboard


@pytest.fixture
def dashboard(tmp_path, stores):
    """A server in this process, on a thread of its own."""
    stores.make(tmp_path / "a.zarr", 30)
    made, ready = [], threading.Event()

    def run():
        asyncio.set_event_loop(asyncio.new_event_loop())
        made.append(Dashboard(Stores(tmp_path), "127.0.0.1", 0, Access("")))
        made[0].start()
        made.append(IOLoop.current())
        ready.set()
        made[1].start()
        made[0].stop()
        made[1].close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(30)
    yield made[0]
    made[1].add_callback(made[1].stop)
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def made(monkeypatch):
    """All pages that are made, without holding them."""
    made = []
    for kind in (app.Viewer, app.Overview):

        def noted(page, *arguments, init=kind.__init__):
            made.append(weakref.ref(page))
            init(page, *arguments)

        monkeypatch.setattr(kind, "__init__", noted)
    return made


def test_documents_of_closed_tabs_are_freed(made, dashboard, wait_until):
    def left():
        gc.collect()
        return [page for page in made if page() is not None]

    for _ in range(5):
        for page in ("", "search?store=a.zarr"):
            with urllib.request.urlopen(dashboard.link + page) as answer:
                assert answer.status == 200
    assert len(made) == 10
    wait_until(lambda: not dashboard.get_sessions() and not left())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.0.1", "::1", "[::1]", "a.localhost"])
def test_these_are_this_machine_alone(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "localhost.example", "127.0.0.1.example", "10.0.0.1"])
def test_these_are_not(host):
    assert not is_loopback(host)
