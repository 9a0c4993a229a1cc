"""What the dashboard's pages cost: making and updating them with 10, 10,000 and 1,000,000 evaluations.

Run ``python benchmarks/dashboard.py [--browser]``. First the server's part, in this process and in CPU time: making a
page, and the longest of eight updates with 1,000 new rows each; what is sent of both; and the memory of this process
with all that it has read. With ``--browser`` also, in Chromium: seconds from following a link to the first plot and to
the last, of a server that has read the store (warm) and of one that was just started (cold).
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from bokeh.document import Document
from bokeh.protocol import Protocol

from l2l_dask.dashboard.followed import Followed
from l2l_dask.dashboard.pages import PAGES
from l2l_dask.trajectory import load

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "dashboard"))
stores = importlib.import_module("stores")

SIZES = (10, 10_000, 1_000_000)
NEW, UPDATES = 1_000, 8
STORE: dict[str, Any] = {"rich": True, "generation": 100, "objectives": 2}


class Growing(Followed):
    """A store of which some rows are to be seen."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, path.name)
        self.whole = load(path)

    def see(self, n: int) -> None:
        t = self.whole
        record = type(t.record)({name: values[:n] for name, values in t.record.columns.items()})
        self._trajectory = type(t)(t.layout, t.experiment, t.space, t.objectives, record, t.state, t.details)
        self.version += 1


def cpu(work: Any) -> float:
    """Return the milliseconds that it takes."""
    began = time.thread_time()
    work()
    return 1000 * (time.thread_time() - began)


def measure(page: Any, path: Path, n: int) -> None:
    followed, document, events = Growing(path), Document(), []
    followed.see(n)
    shown: list[Any] = []
    made = cpu(lambda: shown.append(page(followed, {})))
    document.add_root(shown[0].root)
    sent = cpu(document.to_json)
    models = len(document.models)
    document.on_change(events.append)
    updates, patches = [], []
    for k in range(UPDATES):
        followed.see(n + (k + 1) * NEW)
        events.clear()
        updates.append(cpu(shown[0].update))
        patches.append(cpu(lambda: Protocol().create("PATCH-DOC", events) if events else None))
    rss = psutil.Process().memory_info().rss / 1e6
    worst = max(updates)
    print(f"{page.slug:<12}{n:>10,}{made:>9.0f}{sent:>9.0f}{models:>8}{worst:>10.0f}{max(patches):>9.0f}{rss:>9.0f}",
          flush=True)  # fmt: skip


def server(folder: Path) -> None:
    print(f"{'page':<12}{'rows':>10}{'made ms':>9}{'sent ms':>9}{'models':>8}{'update ms':>10}{'sent ms':>9}{'MB':>9}")
    for n in SIZES:
        for page in PAGES:
            measure(page, folder / f"{n}.zarr", n)


# Seconds after which the number of plots became what it stays for two seconds.
LAST = """() => {
  const all = root => [...root.querySelectorAll("*")].flatMap(e => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])]);
  const plots = all(document).filter(e => ["CANVAS", "svg"].includes(e.tagName)
    && e.getBoundingClientRect().width > 200).length;
  if (window.plots !== plots || !Bokeh.documents[0].is_idle) [window.plots, window.last] = [plots, performance.now()];
  return performance.now() - window.last > 2000 ? window.last / 1000 : null;
}"""


def followed_link(browser: Any, opened: Any, folder: Path, address: str, listed: str) -> list[float]:
    """Return the seconds to the first plot and to the last; if ``listed`` is given, only once the list has that."""
    served = browser.Served(folder)
    context = opened.new_context(viewport={"width": 1280, "height": 900})
    try:
        viewer = browser.Viewer(context, served.base)
        viewer.page.goto(f"{served.base}?token={served.token}")
        if listed:
            viewer.page.get_by_text(listed).first.wait_for(timeout=60_000)
        first = viewer.open(address)
        return [first, viewer.page.wait_for_function(LAST, polling=200).json_value()]
    finally:
        context.close()
        served.close()


def in_browser(folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    browser = importlib.import_module("browser")
    print(f"\n{'page':<12}{'rows':>10}{'warm s':>9}{'all s':>9}{'cold s':>9}{'all s':>9}")
    with sync_playwright() as running:
        opened = running.chromium.launch(executable_path=browser.CHROMIUM, args=["--no-sandbox"])
        for n in SIZES:
            for page in PAGES:
                store, address = folder / f"{n}.zarr", f"{page.slug}?store={n}.zarr"
                found = [
                    seconds
                    for listed in (f"{n + UPDATES * NEW:,} of", "")
                    for seconds in followed_link(browser, opened, store, address, listed)
                ]
                print(f"{page.slug:<12}{n:>10,}" + "".join(f"{s:>9.2f}" for s in found), flush=True)
        opened.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--browser", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for n in SIZES:
            stores.make(Path(folder) / f"{n}.zarr", n + UPDATES * NEW, **STORE)
        server(Path(folder))
        if options.browser:
            in_browser(Path(folder))


if __name__ == "__main__":
    main()
