"""The individuals: a table to sort, filter and page through, and what is known of one."""

from __future__ import annotations

import time
from html import escape
from typing import Any, ClassVar

import numpy as np
from bokeh.models import (
    Button,
    ColumnDataSource,
    DataTable,
    MultiChoice,
    Select,
    Spinner,
    StringFormatter,
    TableColumn,
    TextInput,
    Toggle,
)

from l2l_dask.dashboard import data_table as data
from l2l_dask.dashboard.pages import _common as common
from l2l_dask.dashboard.pages._details import Details
from l2l_dask.errors import ConfigError
from l2l_dask.evaluation import Ids

_ROWS, _HIGHEST = 50, 400
_FIRST_PARAMETERS, _MOST_COLUMNS, _MOST_OPTIONS = 6, 20, 1_200
_WIDTHS = {"id": 76, "status": 84, "error": 320}  # pixels, of columns
_CHEAP = 0.05  # seconds; a table that takes longer is renewed when somebody asks for it


class Individuals(common.StorePage):
    """The page; the address may bring a ``filter``, or ``id``, and then opens the first of them."""

    title: ClassVar[str] = "Individuals"
    slug: ClassVar[str] = "individuals"

    def build(self) -> list[Any]:
        t, ids = self.trajectory, self.selection.ids.tolist()
        self._columns = data.columns(t)
        users = {*t.objectives.names, *t.space.labels}
        self._id, self._status = (f"record.{name}" if name in users else name for name in ("id", "status"))
        asked = " or ".join(f"{self._id} = {id}" for id in ids) or self.arguments.get("filter", "")[:5000]
        self._controls(asked)
        self._said = common.words(min_width=common.NARROWEST)
        self._problem = common.words(styles={"font-weight": "bold"})
        self._problem.visible = False
        self._source = ColumnDataSource({"id": []})
        self.selection.join(self._source)
        self.selection.listen(self._open)
        self._chosen = common.words()
        self.selection.listen(lambda _ids: self.say_chosen(self._chosen))
        self._table = self._make_table()
        self._details = Details(self)
        self._page, self._took, self._of = data.Table(np.empty(0, int), 0, 1, 0, 0, ""), 0.0, 0
        self.show()
        return [
            common.flow(self._filter, self._sort, self._descending),
            self._shown_columns,
            self._problem,
            common.flow(self._before, self._number, self._after, self._renew, self._said),
            self._table,
            self._chosen,
            self.download({"individuals": self._csv}),
            self._details.root,
        ]

    def _controls(self, where: str) -> None:
        names = list(self._columns)[:_MOST_OPTIONS]
        self._filter = TextInput(
            title="Filter",
            value=where,
            placeholder='tau < 0.1 and status = failed, error ~ "silent", ...',
            sizing_mode="stretch_width",
            min_width=common.NARROWEST,
        )
        sortable = [name for name in names if self._columns[name].kind != "text"]
        self._sort = Select(title="Sort by", options=sortable, value=self._id, width=200)
        self._descending = Toggle(label="Descending", width=110, align="end")
        t = self.trajectory
        first = [self._id, self._status, *t.objectives.names[:4]]
        first += [name for name in t.space.labels if name in self._columns][:_FIRST_PARAMETERS]
        first += [name for name in ("generation", "seconds", "worker", "error") if name in self._columns]
        # This widget, unlike all others, takes its labels for HTML.
        self._shown_columns = MultiChoice(
            title=f"Columns (at most {_MOST_COLUMNS} at once)",
            options=[(name, escape(name)) for name in names],
            value=first,
            max_items=_MOST_COLUMNS,
            sizing_mode="stretch_width",
        )
        self._before, self._after = Button(label="Before", width=90), Button(label="Next", width=90)
        self._number = Spinner(low=1, value=1, step=1, width=110)
        self._renew = Button(label="Renew", button_type="primary", width=160, visible=False)
        self._before.on_click(self.lasting(lambda: self.turn(-1)))
        self._after.on_click(self.lasting(lambda: self.turn(1)))
        self._renew.on_click(self.lasting(self.show))
        for model, name in ((self._filter, "value"), (self._sort, "value"), (self._descending, "active")):
            self.when(model, name, self._first)
        self.when(self._number, "value", self.show)
        self.when(self._shown_columns, "value", self._lay_out)

    def _make_table(self) -> DataTable:
        return DataTable(
            source=self._source,
            columns=self._titled(),
            index_position=None,
            sortable=False,  # a browser would sort this page alone
            reorderable=False,
            editable=False,
            autosize_mode="none",
            height=_HIGHEST,
            sizing_mode="stretch_width",
        )

    def _titled(self) -> list[TableColumn]:
        plain = StringFormatter(nan_format="")
        return [
            TableColumn(field=f"c{k}", title=escape(name), formatter=plain, sortable=False, width=_WIDTHS.get(name, 96))
            for k, name in enumerate(self._names)
        ]

    @property
    def _names(self) -> list[str]:
        chosen = [name for name in self._shown_columns.value if name in self._columns]
        first = [name for name in (self._id, self._status) if name in chosen]
        return first + [name for name in chosen if name not in first]

    def update(self) -> None:
        """Renew the table if that is quick; else offer it: rows that jump about cannot be read."""
        t = self.trajectory
        self._columns = data.columns(t)
        self._details.renew()
        if self._took < _CHEAP:
            self.show()
        else:
            new = len(t) - self._of
            self._renew.update(visible=True, label=f"Renew: {new:,} new" if new > 0 else "Renew: some ended")

    def turn(self, by: int) -> None:
        """Go some pages on."""
        self._number.value = min(max(self._page.number + 1 + by, 1), self._page.pages)

    def _first(self) -> None:
        """Begin again with the first page."""
        if self._number.value == 1:
            self.show()
        else:
            self._number.value = 1  # and so it is shown

    def show(self) -> None:
        """Show what the filter, the order and the number of the page ask for; or what is wrong with them."""
        t, began = self.trajectory, time.monotonic()
        try:
            page = data.page(
                t,
                self._filter.value,
                sort=self._sort.value,
                descending=self._descending.active,
                number=int(self._number.value or 1) - 1,
                size=_ROWS,
            )
        except ConfigError as error:
            self._problem.visible = True
            common.say(self._problem, str(error))
            return
        self._problem.visible = False
        self._page, self._of = page, len(t)
        self._number.update(high=page.pages, value=page.number + 1)
        self._before.disabled, self._after.disabled = page.number == 0, page.number + 1 >= page.pages
        self._renew.visible = False
        common.say(self._said, f"Page {page.number + 1:,} of {page.pages:,}: {page.shown}.")
        self._fill(page.ids)
        self._took = time.monotonic() - began

    def _fill(self, ids: Ids) -> None:
        columns = data.cells(self.trajectory, ids, self._names)
        shown: dict[str, Any] = {f"c{k}": [_cell(v) for v in columns[name]] for k, name in enumerate(self._names)}
        shown["id"] = ids
        if any(list(self._source.data.get(name, ())) != list(values) for name, values in shown.items()):
            self._source.data = shown
            self.selection.mark(self._source)
            self._table.height = min(_HIGHEST, 70 + 25 * len(ids))

    def _lay_out(self) -> None:
        """Show other columns."""
        self._fill(self._page.ids)
        self._table.columns = self._titled()

    def _open(self, ids: Ids) -> None:
        """Show what is known of the first that is chosen."""
        self._details.show(int(ids[0]) if len(ids) else None)

    def _csv(self) -> dict[str, Any]:
        return data.cells(self.trajectory, self._page.ids, self._names)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
