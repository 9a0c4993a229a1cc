"""The report in a real browser: from a file, with no server and no network; on paper too."""

import os
import re

import pytest
from PIL import Image

from l2l_dask import Categorical, Real, Space
from l2l_dask.dashboard import plots, report
from l2l_dask.trajectory import load

from . import browser

MOST_BYTES = 300_000  # of a picture

# Bokeh draws into shadow trees. Of each figure: its caption, its size, and where in it plots, legends and axes are.
FIGURES = """() => {
  const all = root => [...root.querySelectorAll("*")].flatMap(e => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])]);
  return [...document.querySelectorAll("figure")].map(figure => {
    const box = figure.getBoundingClientRect();
    const inside = all(figure).filter(e => e.tagName !== "STYLE");
    const named = name => inside.filter(e => e.classList.contains(name)).map(e => e.getBoundingClientRect());
    return {
      caption: figure.querySelector("figcaption").innerText,
      width: box.width,
      drawn: inside.filter(e => e.tagName === "svg" && e.getBoundingClientRect().width > 200).length,
      plots: named("bk-Figure").map(r => ({height: r.height, width: r.width})),
      legends: named("bk-Legend").map(r => r.y - box.y),
      marks: inside.filter(e => ["path", "text", "image"].includes(e.tagName)).length,
    };
  });
}"""
TEXTS = """() => {
  const all = root => [...root.querySelectorAll("*")].flatMap(e => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])]);
  return all(document).filter(e => e.tagName === "text").map(e => e.textContent);
}"""
KEEPS_WITHIN = """document.documentElement.scrollWidth <= 680
  && all.every(figure => figure.plots.every(plot => plot.width <= figure.width + 1))"""
BREAKS = "() => [...new Set([...document.querySelectorAll('.panel')].map(e => getComputedStyle(e).breakInside))]"
READY = "() => !window.Bokeh || (Bokeh.documents.length > 0 && Bokeh.documents.every(d => d.is_idle))"


@pytest.fixture
def written(tmp_path, stores, monkeypatch):
    """Write the report of a synthetic store: ``written(300, objectives=2)``; importance takes a second and is left."""
    monkeypatch.setattr(plots, "MOST_WORK", 0)

    def write(n, name="a", **options):
        t = load(stores.make(tmp_path / f"{name}.zarr", n, **options))
        report.write(t, tmp_path / f"{name}.html")
        return tmp_path / f"{name}.html"

    return write


@pytest.fixture
def opened(chromium):
    """Open a file in a tab: ``opened(path)``; a test fails if it asked for anything, or anything went wrong in it."""
    contexts, viewers = [], []

    def opened(path, *, width=1100, offline=True):
        contexts.append(chromium.new_context(viewport={"width": width, "height": 900}, offline=offline))
        viewers.append(browser.Viewer(contexts[-1], path.as_uri()))
        viewers[-1].visit()
        viewers[-1].page.wait_for_function(READY)
        return viewers[-1].page

    yield opened
    for context in contexts:
        context.close()
    assert [problem for viewer in viewers for problem in viewer.problems] == []


def test_it_opens_from_a_file_and_draws_every_figure_with_its_caption(written, opened):
    page = opened(written(600, objectives=3, generation=30, rich=True, saved=1, curves=1))
    figures = page.evaluate(FIGURES)
    assert len(figures) > 12
    for n, figure in enumerate(figures, 1):
        assert figure["caption"].startswith(f"Figure {n}. ")
        assert figure["drawn"] >= len(figure["plots"]) >= 1, figure["caption"]
        assert figure["marks"] > 10
        for plot in figure["plots"]:
            assert plot["height"] >= 200
            assert plot["width"] <= figure["width"] + 1
        assert all(0 <= y < 60 for y in figure["legends"][:1]), figure["caption"]  # above the plot, not far below


def test_what_others_wrote_is_shown_and_cannot_load_anything(written, opened, stores):
    page = opened(written(120, evil=True, rich=True, objectives=2, odd=True, spread=True, curves=1))
    assert page.locator("img").count() == 0
    assert page.locator("p", has_text=stores.EVIL).count() >= 1
    assert page.locator("td", has_text=stores.EVIL).count() >= 1
    assert page.locator("pre", has_text=stores.EVIL).count() >= 1


def test_were_anything_run_it_could_load_nothing(written, chromium):
    context = chromium.new_context()
    page = context.new_page()
    page.goto(written(40).as_uri())
    refused = page.evaluate("""() => new Promise(resolve => {
      const seen = [];
      document.addEventListener("securitypolicyviolation", e => {
        seen.push(e.effectiveDirective);
        if (seen.length === 4) resolve(seen);
      });
      const add = (tag, more) => document.body.append(Object.assign(document.createElement(tag), more));
      add("img", {src: "http://127.0.0.1:1/x.png"});
      add("script", {src: "http://127.0.0.1:1/x.js"});
      add("iframe", {src: "http://127.0.0.1:1/"});
      fetch("http://127.0.0.1:1/").catch(() => {});
    })""")
    context.close()
    assert {name.removesuffix("-elem") for name in refused} == {"img-src", "script-src", "frame-src", "connect-src"}


def test_names_that_look_like_tex_are_shown_as_they_are(written, opened):
    page = opened(written(50, space=Space({r"$$\tau$$ of it": Real(0, 1), "kind": Categorical(["a", r"\(b\)"])})))
    shown = page.evaluate(TEXTS)
    assert {r"$$\tau$$ of it", r"\(b\)"} <= set(shown)


@pytest.mark.parametrize("options", [{"n": 0}, {"n": 20, "failures": 1.0}, {"n": 6, "pending": 6}, {"n": 1}])
def test_a_report_of_little_opens_too(written, opened, options):
    options = dict(options)
    page = opened(written(options.pop("n"), **options))
    assert page.locator("h1").inner_text() == "a.zarr"
    assert page.get_by_text("Methods").count() == 1


def test_on_paper_plots_keep_within_the_page_and_in_one_piece(written, opened, tmp_path):
    page = opened(written(300, objectives=2, rich=True, generation=30, saved=1), width=680)  # A4 without its margins
    page.emulate_media(media="print")
    page.wait_for_function(f"() => {{ const all = ({FIGURES})(); return {KEEPS_WITHIN}; }}")
    for figure in page.evaluate(FIGURES):
        assert all(plot["width"] <= figure["width"] + 1 for plot in figure["plots"])
    wide = page.evaluate("() => document.documentElement.scrollWidth")
    assert wide <= 680
    assert page.evaluate(BREAKS) == ["avoid"]
    page.pdf(path=tmp_path / "a.pdf", prefer_css_page_size=True)
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert {tuple(map(round, map(float, box.split()))) for box in re.findall(rb"/MediaBox \[([\d. ]+)\]", pdf)} == {
        (0, 0, 595, 842)
    }


def test_a_phone_can_show_it(written, opened):
    page = opened(written(200, objectives=2, rich=True), width=360)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360


def test_a_picture_of_it_for_the_documentation(written, opened, tmp_path):
    page = opened(written(1500, "search", objectives=2, generation=50, saved=1, seed=5), width=1000)
    to = browser.IMAGES if os.environ.get("L2L_SCREENSHOTS") else tmp_path
    page.locator("section", has_text="Pareto front").screenshot(path=to / "report-front.png")
    with Image.open(to / "report-front.png") as image:
        image.convert("RGB").quantize(64).save(to / "report-front.png", optimize=True)
    assert (to / "report-front.png").stat().st_size < MOST_BYTES
