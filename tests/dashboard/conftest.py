"""Servers, and a browser to look at them."""

import pytest
from playwright.sync_api import sync_playwright

from l2l_dask.trajectory import load

from . import browser, models
from . import stores as _stores


@pytest.fixture(scope="session")
def stores():
    """The module that makes synthetic stores."""
    return _stores


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Make a store that all tests of a file look at: ``kept(name, n, **options)`` returns its path."""
    folder, known = tmp_path_factory.mktemp("kept"), {}

    def kept(name, n, **options):
        if name not in known:
            known[name] = _stores.make(folder / f"{name}.zarr", n, **options)
        return known[name]

    return kept


@pytest.fixture(scope="module")
def made(kept):
    """Make what follows a store that is kept: ``made(name, n, **options)``."""
    return lambda name="a", n=500, **options: models.Seen(load(kept(name, n, **options)))


def _servers():
    started = []

    def start(folder, *options, **more):
        started.append(browser.Served(folder, *options, **more))
        return started[-1]

    yield start
    for served in started:
        served.close()


@pytest.fixture
def serve():
    """Start servers: ``serve(folder, "--no-token")``; they end with the test."""
    yield from _servers()


@pytest.fixture(scope="module")
def serving():
    """Start servers that all tests of a file look at."""
    yield from _servers()


@pytest.fixture(scope="module")
def chromium():
    """A browser without a window."""
    if browser.CHROMIUM is None:
        pytest.skip("no Chromium: sudo apt-get install --no-install-recommends chromium")
    with sync_playwright() as running:
        opened = running.chromium.launch(executable_path=browser.CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def look(chromium):
    """Open a tab that holds the token: ``look(served)``; a test fails if anything was wrong in one."""
    contexts, viewers = [], []

    def look(served, *, width=1280, height=900, dark=False, base=None):
        scheme = "dark" if dark else "light"
        contexts.append(chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme))
        viewers.append(browser.Viewer(contexts[-1], base or served.base))
        viewers[-1].page.goto(f"{viewers[-1].base}?token={served.token}" if served.token else viewers[-1].base)
        return viewers[-1]

    yield look
    for context in contexts:
        context.close()
    assert [problem for viewer in viewers for problem in viewer.problems] == []
