"""How the dashboard looks: its colours, and the frame around its pages. The rest is in ``static/``."""

from __future__ import annotations

from html import escape
from typing import Any

from bokeh.plotting import figure
from jinja2 import Environment, PackageLoader, Template

# Okabe and Ito's colours, told apart by all readers, on white and on black.
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#999999"
CYCLE = (SKY, ORANGE, GREEN, PURPLE, VERMILLION, BLUE, YELLOW, GREY)
DASHES = ("solid", "dashed", "dotted", "dashdot")
PALETTE = "Cividis256"  # for numbers

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
        "title": title,
        "x_axis_label": x,
        "y_axis_label": y,
        "height": 340,
        "sizing_mode": "stretch_width",
        "tools": "pan,box_zoom,wheel_zoom,save,reset",
        "active_scroll": None,
    } | options
    plot = figure(**options)
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    return plot
