"""What a notebook shows of an experiment, in a real JupyterLab in a real browser."""

import json
import os
import re
from urllib.parse import urlsplit

import pytest

from l2l_dask.notebook import jupyter

from . import browser
from .jupyter import FREE, Lab

nbformat = pytest.importorskip("nbformat", reason="needs the extra l2l-dask[notebooks]")
nbclient = pytest.importorskip("nbclient", reason="needs the extra l2l-dask[notebooks]")
pytest.importorskip("jupyter_server_proxy", reason="needs the extra l2l-dask[jupyter]")

pytestmark = pytest.mark.slow

BEGIN = """\
import time
from l2l_dask import Experiment, Real, Space, minimize
from l2l_dask.notebook import jupyter

jupyter._PATIENCE = 60.0

def fitness(params):
    time.sleep(0.05)
    return (params["tau"] / 20 - 1) ** 2 + (params["weight"] - 0.5) ** 2

experiment = Experiment(
    fitness,
    "steady-state-ga",
    space=Space({"tau": Real(5, 50, log=True), "weight": Real(0, 1)}),
    objectives=minimize("error"),
    store="runs/run.zarr",
    evaluations=10_000,
    cluster="serial",
)"""
SHOW = "handle = experiment.start()\nhandle.show({page})"
COUNT = """() => +(Bokeh.documents[0]?.get_model_by_name("status")?.children[0].text
  .match(/([\\d,]+) of/)?.[1].replace(",", "") ?? 0)"""


@pytest.fixture
def lab(tmp_path):
    """Start a JupyterLab: ``lab(proxy=True)``; nothing that it started outlives the test."""
    started = []

    def start(**options):
        started.append(Lab(tmp_path, **options))
        return started[-1]

    yield start
    assert [left for each in started for left in each.close()] == []


class Notebook:
    """A tab of the browser that shows a notebook; what goes elsewhere or is wrong in our frame is noted."""

    def __init__(self, page, base, drawn):
        self.page, self.base, self.hosts, self.problems, self._drawn = page, base, set(), [], drawn
        page.set_default_timeout(60_000)
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("console", self._console)

    def _console(self, message):
        if message.type == "error" and "/search" in f"{message.location['url']} {message.text}":
            self.problems.append(message.text)

    def open(self, address):
        """Open the notebook and run its first two cells."""
        self.page.goto(self.base + address)
        editor = self.page.locator(".jp-Notebook .jp-CodeCell .cm-content").first
        editor.wait_for(timeout=60_000)
        self.page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)
        editor.click()
        self.run()
        self.run()

    def run(self):
        """Run the next cell."""
        self.page.keyboard.press("Shift+Enter")

    def frame(self):
        """Return the frame that a cell shows, once its plots are drawn."""
        element = self.page.locator(".jp-OutputArea-output iframe").first
        element.wait_for()
        shown = element.element_handle().content_frame()
        shown.wait_for_function(self._drawn)
        return shown


@pytest.fixture
def look(chromium):
    """Open a notebook in a browser: ``look(lab.base, address)``."""
    contexts, opened = [], []

    def look(base, address):
        contexts.append(chromium.new_context(viewport={"width": 1280, "height": 1010}))
        opened.append(Notebook(contexts[-1].new_page(), base, browser.DRAWN))
        opened[-1].open(address)
        return opened[-1]

    yield look
    for context in contexts:
        context.close()
    assert [problem for each in opened for problem in each.problems] == []


def grows(shown):
    """Wait until the frame shows more evaluations than at first."""
    first = shown.evaluate(COUNT)
    shown.wait_for_function(f"() => ({COUNT})() > {first} + 10")


def test_jupyterlab_shows_plots_that_grow_by_its_own_address_alone(lab, look, alive, wait_until, tmp_path):
    served = lab(proxy=True)
    cells = BEGIN, SHOW.format(page=""), "ended = handle.wait()"
    notebook = look(served.base, served.write("show.ipynb", *cells))
    shown = notebook.frame()
    assert shown.url.startswith(f"{served.base}proxy/")
    grows(shown)
    assert notebook.hosts == {urlsplit(served.base).netloc}
    for known in ("", f"{'x' * 43}/"):
        assert notebook.page.request.get(re.sub(r"[^/]{43}/", known, shown.url)).status == 403

    picture(notebook, shown, browser, tmp_path)
    shown.get_by_role("link", name="Parameters").click()
    shown.wait_for_url("**/parameters?store=runs/run.zarr")
    grows(shown)
    shown.get_by_role("button", name="Stop", exact=True).click()
    shown.get_by_role("button", name="Stop it").click()
    notebook.page.get_by_text("run.zarr: stopped").wait_for()

    beside = served.find("l2l_dask.cli.beside").pid
    served.find("ipykernel_launcher").kill()
    wait_until(lambda: not alive(beside))


def picture(notebook, shown, browser, tmp_path):
    """Wait below the frame, and take a picture: for the documentation, where ``L2L_SCREENSHOTS`` is set."""
    notebook.run()
    notebook.page.get_by_text("workers busy").wait_for()
    if os.environ.get("L2L_SCREENSHOTS"):
        shown.wait_for_function(f"() => ({COUNT})() > 150")
    notebook.page.locator(".jp-Notebook .jp-CodeCell").nth(1).evaluate("cell => cell.scrollIntoView()")
    browser.screenshot(notebook.page.locator(".jp-NotebookPanel"), "notebook", tmp_path)


def test_without_the_proxy_the_frame_comes_from_this_machine_and_says_what_to_type_on_another(lab, look):
    served = lab(proxy=False)
    # By another name: to a browser the frame is then of another site, and its cookies are kept back.
    base = served.base.replace("127.0.0.1", "localhost")
    notebook = look(base, served.write("show.ipynb", BEGIN, SHOW.format(page='"workers"')))
    shown = notebook.frame()
    port = urlsplit(shown.url).port
    assert shown.url.startswith(f"http://127.0.0.1:{port}/")
    grows(shown)
    notebook.page.get_by_text(f"ssh -N -L {port}:127.0.0.1:{port} ada@").wait_for()
    assert notebook.hosts == {urlsplit(base).netloc, f"127.0.0.1:{port}"}


@pytest.mark.parametrize("proxy", [True, False])
def test_a_server_behind_a_password_is_asked_too(lab, monkeypatch, proxy):
    served = lab(proxy=proxy, password=True, module="jupyter_server")
    monkeypatch.setattr(jupyter, "_PATIENCE", 60.0)
    monkeypatch.setenv("JPY_PARENT_PID", str(served.process.pid))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(served.folder / "runtime"))
    found = jupyter.proxied(1, "any")
    assert found == (f"{urlsplit(served.base).path}proxy/1/" if proxy else None)


# -- the progress bar -------------------------------------------------------------------------------------------------


class Client(nbclient.NotebookClient):
    """Counts how often an output is renewed."""

    renewed = 0

    def process_message(self, msg, cell, cell_index):
        self.renewed += msg["msg_type"] == "update_display_data"
        return super().process_message(msg, cell, cell_index)


def execute(folder, *cells):
    """Run cells as CI does; return what they leave, cell by cell, and how often that was renewed."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = Client(notebook, timeout=120, iopub_timeout=60, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return [cell.outputs for cell in notebook.cells], client.renewed


def test_thousands_of_evaluations_leave_one_line_in_the_notebook(tmp_path):
    (_, ran, waited, resumed), renewed = execute(
        tmp_path,
        FREE,
        "ended = search('run.zarr').run()",
        "handle = search('wait.zarr').start()\nended = handle.wait()",
        "ended = Experiment.resume('run.zarr', evaluations=5000)",
    )
    for outputs, name, n in ((ran, "run", 3000), (waited, "wait", 3000), (resumed, "run", 5000)):
        (output,) = outputs
        said = rf"{name}\.zarr: finished, {n} of {n} evaluations, best \S+, \d+:\d\d"
        assert re.fullmatch(rf"━{{20}} {said}", output.data["text/plain"])
        assert re.search(said, output.data["text/html"])
        assert len(json.dumps(output)) < 1000
    assert renewed > 3


def test_however_often_a_bar_is_told_something_it_is_renewed_seldom(tmp_path):
    told = "bar = Bar(Path('run.zarr'))\nfor n in range(10_000):\n    bar.say(lambda: (n / 10_000, str(n)))"
    (_, outputs), renewed = execute(
        tmp_path,
        "from pathlib import Path\nfrom l2l_dask.notebook.bar import Bar",
        f"{told}\nbar.end(lambda: (1, 'last'))",
    )
    assert [output.data["text/plain"] for output in outputs] == ["━" * 20 + " last"]
    assert 2 <= renewed < 10


def test_a_search_that_fails_says_so_in_the_same_place(tmp_path):
    (_, outputs), _ = execute(
        tmp_path,
        FREE,
        "from l2l_dask.errors import ClusterError\n"
        "try:\n    search('run.zarr').run('tcp://127.0.0.1:1')\nexcept Exception as error:\n    print(type(error))",
    )
    assert [output.output_type for output in outputs] == ["display_data", "stream"]
    assert "run.zarr: not started" in outputs[0].data["text/plain"]
