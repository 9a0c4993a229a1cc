"""``l2l report``: what it may write over."""

import pytest

from l2l_dask import Real, Space, minimize
from l2l_dask.experiment import Experiment


@pytest.fixture
def store(tmp_path):
    space, objectives = Space({"x": Real(0, 1)}), minimize("f")
    store = tmp_path / "a.zarr"
    Experiment(
        lambda params: params["x"],
        "random",
        space=space,
        objectives=objectives,
        store=store,
        evaluations=4,
        cluster="serial",
    ).run()
    return store


@pytest.mark.parametrize(
    ("name", "held"),
    [("old.html", "anything"), ("old", "\n<!DOCTYPE HTML>\n<p>"), ("old.txt", "<html lang=en>"), ("empty", "")],
)
def test_a_page_or_an_empty_file_is_replaced(store, tmp_path, l2l, name, held):
    (tmp_path / name).write_text(held)
    done = l2l("report", store, tmp_path / name)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / name).stat().st_size > 10_000


def test_any_other_file_is_kept(store, tmp_path, l2l):
    (tmp_path / "models.py").write_text("x = 1\n")
    done = l2l("report", store, tmp_path / "models.py")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "models.py exists" in done.stderr
    assert (tmp_path / "models.py").read_text() == "x = 1\n"
