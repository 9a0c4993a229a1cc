"""What the pages cost with few and with many evaluations: until something is seen, in each update, and in memory.

Times of the server are those of its processor; those of a browser are printed, as they are the machine's too:
``python benchmarks/dashboard.py --browser`` measures them.
"""

import time
from dataclasses import replace

import psutil
import pytest
from bokeh.document import Document
from bokeh.protocol import Protocol
from playwright.sync_api import expect

from l2l_dask.dashboard.followed import Followed
from l2l_dask.dashboard.pages import PAGES
from l2l_dask.trajectory import load

from .browser import DRAWN
from .measuring import measured

SIZES = (10, 10_000, 1_000_000)
NEW, UPDATES = 1_000, 4
SLUGS = tuple(page.slug for page in PAGES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, stores):
    folder = tmp_path_factory.mktemp("sizes")
    for n in SIZES:
        stores.make(folder / f"{n}.zarr", n, rich=True, objectives=2, generation=min(n, 100))
    return folder


@pytest.fixture(scope="module")
def served(folder, serving):
    return serving(folder)


class Growing(Followed):
    """A store of a million, of which some rows are to be seen."""

    def __init__(self, store):
        super().__init__(store, store.name)
        self.whole = load(store)

    def see(self, n):
        t = self.whole
        rows = type(t.record)({name: values[:n] for name, values in t.record.columns.items()})
        self._trajectory = replace(t, record=rows)
        self.version += 1


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_an_update_takes_the_server_less_than_300_ms_at_a_million(folder, page):
    followed, document, sent = Growing(folder / f"{SIZES[-1]}.zarr"), Document(), []
    followed.see(SIZES[-1] - UPDATES * NEW)
    shown = page(followed, {})
    document.add_root(shown.root)
    document.on_change(sent.append)
    took = []
    for k in reversed(range(UPDATES)):
        followed.see(SIZES[-1] - k * NEW)
        sent.clear()
        with measured() as cost:
            shown.update()
            if sent:
                Protocol().create("PATCH-DOC", sent)
        took.append(cost.seconds)
    print(f"{page.slug}: at most {1000 * max(took):.0f} ms")
    assert max(took) < 0.3


def list_of(served, look):
    """Look at the list of a server, until it has read all stores."""
    viewer = look(served)
    for n in SIZES:
        row = viewer.page.locator("#experiments tbody tr").filter(has_text=f"{n}.zarr").first
        expect(row).to_contain_text(f"{n:,} of {n:,}", timeout=60_000)
    return viewer


@pytest.fixture
def listed(served, look):
    """A viewer of the list, of a server that has read all stores."""
    return list_of(served, look)


def first_paint(served, viewer, page, n):
    """Open a page, and return the seconds that the server worked until something was seen."""
    server = psutil.Process(served.process.pid)
    before = sum(server.cpu_times()[:2])
    took = viewer.open(f"{page}?store={n}.zarr")
    worked = sum(server.cpu_times()[:2]) - before
    viewer.see(f"{n:,} of {n:,} evaluations")
    print(f"{page} of {n:,}: first paint after {took:.2f} s, of which the server worked {worked:.2f} s")
    return worked


@pytest.mark.slow
@pytest.mark.parametrize("page", SLUGS)
def test_the_server_leaves_a_browser_half_a_second_of_the_two_for_a_first_paint(
    folder, served, serve, listed, look, page
):
    for n in SIZES:
        worked = [first_paint(served, listed, page, n)]
        # On a busy machine it is seen late, and what comes after counts too: then once more, of a new server.
        while min(worked) >= 1.5 and len(worked) < 3:
            other = serve(folder)
            worked.append(first_paint(other, list_of(other, look), page, n))
        assert min(worked) < 1.5


@pytest.mark.slow
def test_what_is_below_comes_by_itself_and_its_plots_are_linked(listed):
    listed.open("parameters?store=10000.zarr")
    began = time.monotonic()
    for heading in ("Each parameter against fitness", "Two parameters", "Importance"):
        listed.see(heading)
    print(f"the rest after {time.monotonic() - began:.2f} s more")
    listed.page.evaluate(f"() => {{ {SOURCES} sources()[0].selected.indices = [0, 1, 2]; }}")
    listed.page.wait_for_function(f"() => {{ {SOURCES} return sources().filter(chosen).length > 1; }}")
    listed.see("3 of 10,000 individuals chosen")


SOURCES = """
const sources = () => [...Bokeh.documents[0].all_models]
  .filter(model => model.type === "ColumnDataSource" && model.get_column("id"));
const chosen = source => source.selected.indices.length > 0;
"""


@pytest.mark.slow
def test_ten_viewers_of_a_million_take_less_than_a_gigabyte(served, listed):
    tabs = [listed.page.context.new_page() for _ in range(10)]
    for tab, page in zip(tabs, SLUGS * 3, strict=False):
        tab.goto(f"{served.base}{page}?store=1000000.zarr", wait_until="commit")
    for tab in tabs:
        expect(tab.get_by_text("1,000,000 of 1,000,000 evaluations")).to_be_visible(timeout=60_000)
        tab.wait_for_function(DRAWN, timeout=60_000)
    memory = psutil.Process(served.process.pid).memory_info().rss
    print(f"the server takes {memory / 1e6:.0f} MB")
    assert memory < 1e9
