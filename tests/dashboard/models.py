"""The models of pages, without a server."""

from bokeh.document import Document

from l2l_dask.dashboard.plots import Still


class Seen(Still):
    """A store of which tests show what they like."""

    def see(self, trajectory):
        self._trajectory = trajectory
        self.version += 1


def models(page, kind):
    document = Document()
    document.add_root(page.root)
    found = list(page.root.select({"type": kind}))
    document.clear()
    return found
