"""What cannot be sent or kept is refused in one line that names it, before anything is written."""

import socket
import sqlite3
import tempfile
import threading
from functools import partial

import pytest

from l2l_dask import Experiment, Objectives, Real, Space, minimize
from l2l_dask.errors import ConfigError
from l2l_dask.registry import find

SPACE = Space({"x": Real(0, 1)})
RandomSearch = find("optimizers", "random")


@pytest.fixture
def thing(request):
    """Make what a function cannot take along; it is closed after the test."""
    made = {
        "lock": threading.Lock,
        "socket": socket.socket,
        "file that is written": partial(tempfile.TemporaryFile, "w"),
        "generator": lambda: (i for i in range(3)),
        "database": lambda: sqlite3.connect(":memory:"),
        "thread": lambda: threading.Thread(target=print),
        "deep list": lambda: deep(100_000),
    }[request.param]()
    yield made
    if hasattr(made, "close"):
        made.close()


def deep(n):
    made = []
    for _ in range(n):
        made = [made]
    return made


def with_it(thing):
    def fitness(params):
        return params["x"] + (thing is None)

    return fitness


def optimizer_with_it(thing):
    class Search(RandomSearch):
        def _ask(self, n):
            return super()._ask(n + (thing is None))

    return Search


def holding(thing):
    made = RandomSearch(SPACE, Objectives(minimize("f")), seed=0)
    made.thing = thing
    return made


THINGS = ["lock", "socket", "file that is written", "generator", "database", "thread", "deep list"]


@pytest.mark.parametrize("cluster", ["serial", "local"])
@pytest.mark.parametrize("thing", THINGS, indirect=True)
def test_an_optimizee_that_cannot_be_sent_is_refused_before_anything_starts(tmp_path, thing, cluster):
    experiment = made(tmp_path, with_it(thing), cluster=cluster)
    for begin in (experiment.run, experiment.start):
        with pytest.raises(
            ConfigError, match=r"^with_it.<locals>.fitness cannot be sent to a worker \(.*setup"
        ) as caught:
            begin()
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [optimizer_with_it, holding])
@pytest.mark.parametrize("thing", THINGS, indirect=True)
def test_an_optimizer_that_cannot_be_kept_is_refused_and_named(tmp_path, thing, kind):
    name = "Search" if kind is optimizer_with_it else "RandomSearch"
    with pytest.raises(ConfigError, match=f"{name}.* cannot be") as caught:
        made(tmp_path, lambda params: params["x"], kind(thing)).run()
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def made(tmp_path, function, optimizer="random", evaluations=3, cluster="serial"):
    options = {"evaluations": evaluations, "cluster": cluster, "workers": 1, "space": SPACE}
    return Experiment(function, optimizer, objectives=minimize("f"), store=tmp_path / "a.zarr", **options)
