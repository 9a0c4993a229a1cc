"""What is shown is saved as CSV."""

import csv

import numpy as np
import pytest

from l2l_dask.trajectory import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory, stores):
    folder = tmp_path_factory.mktemp("stores")
    (folder / "below").mkdir()
    stores.make(folder / "a.zarr", 300)
    stores.make(folder / "two.zarr", 100, objectives=2, seed=4)
    stores.make(folder / "below" / "b.zarr", 500, generation=50, seed=2)
    return folder


@pytest.fixture(scope="module")
def served(folder, serving):
    return serving(folder)


def test_one_click_saves_what_a_page_shows(served, look):
    viewer = look(served)
    viewer.open("individuals?store=a.zarr")
    with viewer.page.expect_download() as saving:
        viewer.page.get_by_role("button", name="Individuals as CSV").click()
    assert saving.value.suggested_filename == "a-individuals.csv"
    titles, *rows = saving.value.path().read_text().splitlines()
    assert titles.startswith("id,status,loss,")
    assert [row.partition(",")[0] for row in rows] == [str(id) for id in range(50)]
    viewer.see("50 rows that are shown here")


def saved(viewer, name, nth=0):
    """Save a table of the menu; return its titles and its columns."""
    with viewer.page.expect_download() as saving:
        viewer.page.get_by_role("button", name="Save as CSV").nth(nth).click()
        viewer.page.locator(".bk-item").get_by_text(name, exact=True).click()
    titles, *rows = csv.reader(saving.value.path().read_text().splitlines())
    return titles, list(zip(*rows, strict=True))


def test_each_plot_of_the_search_and_of_the_workers_can_be_saved(folder, served, look):
    store = load(folder / "below/b.zarr")
    viewer = look(served)
    viewer.open("search?store=below/b.zarr")
    titles, (names, _, best) = saved(viewer, "Best so far")
    assert titles == ["experiment", "evaluation", "best loss"]
    assert set(names) == {"below/b.zarr"}
    assert (np.diff(np.array(best, float)) <= 0).all()
    assert float(best[-1]) == next(iter(store.best.fitness.values()))
    titles, columns = saved(viewer, "Generations")
    by_title = dict(zip(titles, columns, strict=True))
    of_each = store.record["fitness"][:, 0].reshape(-1, 50)
    assert np.array(by_title["best"], float) == pytest.approx(np.nanmin(of_each, axis=1))
    below = of_each <= np.array(by_title["upper quartile"], float)[:, None]
    assert below.sum(axis=1) / np.isfinite(of_each).sum(axis=1) == pytest.approx(0.75, abs=1 / 40)
    titles, (start, end, shares, _) = saved(viewer, "Distribution")
    assert titles == ["from", "to", "all (%)", "last tenth (%)"]
    assert start[1:] == end[:-1]
    assert 90 < sum(map(float, shares)) <= 100 + 1e-9

    viewer.open("workers?store=below/b.zarr")
    _, (start, end, counts) = saved(viewer, "Durations")
    assert start[1:] == end[:-1]
    assert sum(map(int, counts)) == np.isfinite(store.record["finished"]).sum()
    _, (generations, _) = saved(viewer, "Waiting")
    assert list(map(int, generations)) == list(range(10))


def test_the_hypervolume_can_be_saved(served, look):
    viewer = look(served)
    viewer.open("search?store=two.zarr")
    titles, (_, volume) = saved(viewer, "Hypervolume", nth=1)
    assert titles == ["evaluation", "hypervolume"]
    volume = np.array(volume, float)
    assert (np.diff(volume) >= 0).all()
    assert 0 <= volume[0] < volume[-1] <= 1


def test_the_comparison_can_be_saved(folder, served, look):
    viewer, best = look(served), {}
    for name in ("a.zarr", "below/b.zarr"):
        viewer.page.get_by_role("checkbox", name=f"compare {name}").check()
        best[name] = next(iter(load(folder / name).best.fitness.values()))
    with viewer.page.expect_download() as saving:
        viewer.page.get_by_role("button", name="Comparison as CSV").click()
    assert saving.value.suggested_filename == "comparison.csv"
    titles, *rows = csv.reader(saving.value.path().read_text().splitlines())
    assert titles == ["experiment", "evaluations", "best"]
    assert {name: float(value) for name, _, value in rows} == best
