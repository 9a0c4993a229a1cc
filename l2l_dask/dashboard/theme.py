"""How the dashboard looks: its colours, and the frame around its pages. The rest is in ``static/``."""

from __future__ import annotations

from html import escape
from textwrap import wrap
from typing import Any

from bokeh.models import PlainText
from bokeh.palettes import Plasma256
from bokeh.plotting import figure
from jinja2 import Environment, PackageLoader, Template

# Okabe and Ito's colours, told apart by all readers, on white and on black.
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#999999"
CYCLE = (SKY, ORANGE, GREEN, PURPLE, VERMILLION, BLUE, YELLOW, GREY)
DASHES = ("solid", "dashed", "dotted", "dashdot")
PALETTE = "Cividis256"  # for numbers, of what covers its background
LINES = Plasma256[88:184]  # for numbers too: neither end is lost on white or on black
LINE_ALPHA = 0.75
TITLE, WIDE_TITLE = 36, 44  # letters in a line, on a phone; where no axis stands on the left
_TEX = ("$$", r"\(", r"\[")

# A colour bar's text is drawn where the style sheet does not reach.
BESIDE: Any = {"major_label_text_color": GREY, "title_text_color": GREY}

REFUSED = (
    "Open the link with <code>?token=</code> that <code>l2l dashboard</code> printed when it was started. Whoever "
    "started it finds it in that terminal; it holds for as long as that server runs."
)

_templates = Environment(loader=PackageLoader("l2l_dask.dashboard", "static"), autoescape=False)


def page() -> Template:
    """Return the frame of a page: what is put into it is escaped by itself, or by Bokeh."""
    return _templates.get_template("page.html")


def message(title: str, html: str) -> str:
    """Return a page that says one thing, with nothing that would have to be fetched."""
    return _templates.get_template("message.html").render(title=escape(title), html=html)


def new_figure(title: str, x: str, y: str, **options: Any) -> figure:
    """Make a figure as wide as its place, whose colours the style sheet knows."""
    options = {
        "x_axis_label": as_it_is(x),
        "y_axis_label": as_it_is(y),
        "height": 340,
        "sizing_mode": "stretch_width",
        "tools": "pan,box_zoom,wheel_zoom,save,reset",
        "active_scroll": None,
    } | options
    plot = figure(**options)
    entitle(plot, title)
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    return plot


def entitle(plot: Any, text: str, letters: int = TITLE) -> None:
    """Give a figure a title, in lines that a phone has room for: they do not break by themselves."""
    lines = wrap(text, letters, break_long_words=False, break_on_hyphens=False)
    if title_of(plot) != " ".join(lines):
        plot.title.text = as_it_is("\n".join(lines))


def title_of(plot: Any) -> str:
    """Return a figure's title, in one line."""
    text = plot.title.text
    return str(text.text if isinstance(text, PlainText) else text).replace("\n", " ")


def as_it_is(text: Any) -> Any:
    """Keep text from being taken for TeX: what is beside it would be lost, and a report has no scripts to set it."""
    return PlainText(text=text) if isinstance(text, str) and any(mark in text for mark in _TEX) else text
