"""A search that stops individuals early, killed at any operation on its files: it ends as if it had not been."""

import re

import numpy as np
import pytest

from l2l_dask import Space
from l2l_dask.trajectory import Writer, load

MODEL = """
def fitness(params, context):
    for step in range(1, 12):
        context.report(step, (params["a"] - 0.3) ** 2 + context.rng.random() / step)
    return (params["a"] - 0.3) ** 2
"""
CONFIG = """
[optimizee]
name = "model.py:fitness"
[space]
a = {low = 0.0, high = 1.0}
[objectives]
loss = "minimize"
[optimizer]
name = "hyperband"
options = {max_resource = 11, brackets = 1}
[run]
evaluations = 9
seed = 4
store = "run.zarr"
[cluster]
profile = "serial"
"""


class Search:
    def __init__(self, folder, fire):
        folder.mkdir()
        self.folder, self._fire, self.store = folder, fire, folder / "run.zarr"
        (folder / "model.py").write_text(MODEL)
        (folder / "run.toml").write_text(CONFIG)

    def drive(self, kind="", at=0):
        words = ["resume", "run.zarr"] if self.store.exists() else ["run", "run.toml"]
        return self._fire(self.folder, [*words, "--no-report"], {"kind": kind, "at": at, "once": False})

    def events(self):
        writer = Writer(self.store, Space.from_dict(load(self.store).experiment["space"]))
        writer.close()
        return repr(list(writer.record.events()))


@pytest.fixture(scope="module")
def whole(fire, tmp_path_factory, repeated):
    """What an uninterrupted search leaves, and how many operations that takes."""
    search = Search(tmp_path_factory.mktemp("whole") / "site", fire)
    ended = search.drive()
    assert ended["code"] == 0
    status = load(search.store).record["status"].tolist()
    assert {1, 5} == set(status)
    return repeated(load(search.store)), search.events(), ended["n"]


@pytest.mark.parametrize(("kind", "instants"), [("kill", 4), ("torn", 2)])
def test_wherever_it_is_killed_it_repeats_its_decisions_and_ends_the_same(
    whole, fire, tmp_path, repeated, kind, instants
):
    left, events, n = whole
    assert len(re.findall("reports={", events)) > 10
    for at in np.linspace(n // 3, n - 20, instants, dtype=int).tolist():
        search = Search(tmp_path / f"site{at}", fire)
        assert search.drive(kind, at)["code"] < 0
        assert search.drive()["code"] == 0, (search.folder / "said").read_text()
        assert search.events() == events, at
        found = repeated(load(search.store))
        assert found == left, [name for name in left if found[name] != left[name]]
