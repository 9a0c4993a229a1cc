"""Servers, and a browser to look at them."""

import importlib.util
import sys
from pathlib import Path

import pytest


def _sibling(name):
    """Import a module of this folder, which is no package."""
    full = f"l2l_dashboard_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).parent / f"{name}.py")
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


browser = _sibling("browser")


@pytest.fixture(scope="session")
def sibling():
    """Import a module of this folder: ``sibling("browser")``."""
    return _sibling


@pytest.fixture(scope="session")
def stores():
    """The module that makes synthetic stores."""
    return _sibling("stores")


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
    playwright = pytest.importorskip("playwright.sync_api")
    if browser.CHROMIUM is None:
        pytest.skip("no Chromium: sudo apt-get install --no-install-recommends chromium")
    with playwright.sync_playwright() as running:
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
