"""An experiment file may name an optimizee that is an object, made in the file that it names."""

import numpy as np
import pytest

from l2l_dask import Experiment, Real
from l2l_dask.errors import L2LError

PROBLEM = """
from l2l_dask import Optimizee, Real, Space, minimize


class Shifted(Optimizee):
    def __init__(self, by, width):
        self.by = by
        self.space, self.objectives = Space({"x": Real(-width, width)}), minimize("distance")

    def evaluate(self, params, context):
        return abs(params["x"] - self.by)


problem = Shifted(by=0.25, width=2)
number = 3
"""
FILE = """
[optimizee]
name = "problem.py:problem"

[run]
evaluations = 5

[cluster]
profile = "serial"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problem.py").write_text(PROBLEM)
    (tmp_path / "e.toml").write_text(FILE)
    return tmp_path


def distances(trajectory):
    return np.abs(trajectory.record["params"][:, 0] - 0.25).tolist(), trajectory.record["fitness"][:, 0].tolist()


def test_an_object_named_in_an_experiment_file_is_run_and_found_again_when_resumed(folder):
    ended = Experiment.from_config("e.toml").run()
    assert ended.counts()["done"] == 5
    later = Experiment.resume(folder / "runs" / "e.zarr", evaluations=8)
    assert later.counts()["done"] == 8
    expected, got = distances(later)
    assert got == expected
    assert not later.layout.pickled.exists()
    assert later.experiment["labels"]["optimizee"] == "problem.py:problem"
    assert list(later.experiment["sources"]["optimizee"]) == ["problem.py"]


def test_a_space_in_the_file_replaces_the_object_s_own_for_this_experiment_only(folder):
    (folder / "narrow.toml").write_text(FILE + "[space]\nx = {low = 0.0, high = 1.0}\n")
    narrow = Experiment.from_config("narrow.toml").run()
    assert narrow.space["x"] == Real(0, 1)
    assert Experiment.from_config("e.toml").run().space["x"] == Real(-2, 2)
    later = Experiment.resume(folder / "runs" / "narrow.zarr", evaluations=8)
    assert (later.counts()["done"], later.space["x"]) == (8, Real(0, 1))


def test_options_are_refused_for_an_object_as_it_has_them_already(folder):
    (folder / "e.toml").write_text(FILE.replace("[run]", "options = {by = 1}\n[run]"))
    with pytest.raises(L2LError, match="options are for an optimizee's class, not for a function or an instance"):
        Experiment.from_config("e.toml")


def test_what_is_neither_function_nor_optimizee_is_refused(folder):
    (folder / "e.toml").write_text(FILE.replace(":problem", ":number"))
    with pytest.raises(L2LError, match=r"'problem\.py:number' must be a function or an Optimizee, got int"):
        Experiment.from_config("e.toml")
