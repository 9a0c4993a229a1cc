"""Death between any two changes to a store's files: what was told stays, readers see whole rows, resume ends right.

A small experiment is run in forks (see ``_range.py``) in which the n-th operation that changes a file of the store is
the last; the arrays are written at every turn of the driver's loop, so that this lies in the middle of everything.
"""

import shutil
import signal

import pytest
import xarray

from l2l_dask.errors import StoreError
from l2l_dask.trajectory import load

OPTIMIZERS = ["Random", "Genetic"]
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module", params=OPTIMIZERS)
def once(request, site_of, tmp_path_factory):
    """An experiment that ran in one go, and the operations on its files."""
    site = site_of(tmp_path_factory.mktemp("once") / request.param, request.param)
    code, _ = site.drive()
    assert code == 0, site.said
    return request.param, site, load(site.store)


def spread(n, among):
    """Choose so many of them, evenly."""
    n = min(n, len(among))
    return [among[k * (len(among) - 1) // max(n - 1, 1)] for k in range(n)]


def writes(site):
    """Number the operations that write bytes, from 1."""
    return [n for n, what in enumerate(site.operations, 1) if what.startswith("write ")]


@pytest.fixture
def ends_right(once, repeated, check_whole_rows):
    """Look at a store whose driver died, go on, and compare with the run that did not die."""
    _, _, whole = once

    def look(site):
        if site.store.exists():
            seen = check_whole_rows(site.store, whole)
            assert seen.state in ("queued", "interrupted", "finished")
        else:
            with pytest.raises(StoreError, match="there is no store"):
                load(site.store)

    def ends_right(site):
        look(site)
        told, before = set(site.notes("told")), site.notes("evaluated")
        code, _ = site.drive()
        assert code == 0, site.said
        later = site.notes("evaluated")[len(before) :]
        assert not told & set(later), "what was told is not evaluated again"
        assert len(set(before) & set(later)) <= 1, "and of all else only what was under way"
        ended = load(site.store)
        assert ended.state == "finished"
        assert repeated(ended) == repeated(whole)

    ends_right.look = look
    return ends_right


def test_the_run_that_dies_has_failures_saved_arrays_and_what_its_optimizer_notes(once):
    name, site, ended = once
    assert (ended.counts()["done"], ended.counts()["failed"]) == (12, 3)
    assert sum(bool(ended.saved(i)) for i in range(15)) == 5
    assert ("parents" in ended.record.columns) == (name == "Genetic")
    assert len(writes(site)) > 200
    assert {"open", "write", "os.rename", "os.mkdir", "fsync"} <= {what.split()[0] for what in site.operations}


def die_and_go_on(once, site_of, folder, kind, points, ends_right, subtests):
    name, _, _ = once
    for at in points:
        site = site_of(folder / f"{kind}-{at}", name)
        code, met = site.drive(kind, at)
        with subtests.test(f"{kind} {at}: {met['label']}"):
            assert code == KILLED, site.said
            ends_right(site)
        shutil.rmtree(site.folder)


@pytest.mark.slow
def test_a_run_that_died_before_a_change_to_a_file_ends_as_if_it_had_not(once, site_of, tmp_path, ends_right, subtests):
    n = len(once[1].operations) - 5
    die_and_go_on(once, site_of, tmp_path, "kill", spread(12, range(1, n)), ends_right, subtests)


@pytest.mark.slow
def test_a_run_that_died_in_the_middle_of_a_write_ends_as_if_it_had_not(once, site_of, tmp_path, ends_right, subtests):
    die_and_go_on(once, site_of, tmp_path, "torn", spread(6, writes(once[1])[:-3]), ends_right, subtests)


def interrupted(once, site_of, folder, at):
    """Leave a store whose driver died in the middle."""
    site = site_of(folder, once[0])
    code, _ = site.drive("kill", at)
    assert code == KILLED
    return site


def resume_dies_and_goes_on(once, site_of, folder, points, ends_right, subtests):
    half = len(once[1].operations) // 2
    for at in points:
        site = interrupted(once, site_of, folder / f"again-{at}", half + at)
        code, met = site.drive("kill", at)
        with subtests.test(f"resume {at}: {met['label']}"):
            assert code == KILLED, site.said
            ends_right(site)
        shutil.rmtree(site.folder)


@pytest.mark.slow
def test_a_resume_that_died_too_ends_as_if_neither_had(once, site_of, tmp_path, ends_right, subtests):
    resume_dies_and_goes_on(once, site_of, tmp_path, spread(5, range(1, 200)), ends_right, subtests)


@pytest.mark.slow
def test_dying_again_and_again_a_little_later_each_time_loses_nothing(once, site_of, tmp_path, ends_right):
    site, at, deaths = site_of(tmp_path / "again", once[0]), 150, 0
    while site.drive("kill", at)[0] == KILLED:
        ends_right.look(site)
        at, deaths = at + 41, deaths + 1
        assert deaths < 50
    assert deaths >= 5
    ends_right(site)


@pytest.fixture(scope="module")
def cut(site_of, tmp_path_factory):
    """An experiment that ended early, so that its arrays were cut to the rows in use."""
    site = site_of(tmp_path_factory.mktemp("cut") / "grid", "grid", 20)
    assert site.drive()[0] == 0, site.said
    return site


@pytest.mark.slow
def test_a_run_that_died_while_its_arrays_were_cut_ends_as_if_it_had_not(
    cut, site_of, tmp_path, repeated, check_whole_rows, lengths, subtests
):
    whole, n = load(cut.store), len(cut.operations)
    assert lengths(cut.store) == [{9}, {9}]
    for at in spread(6, range(n - 180, n)):
        site = site_of(tmp_path / f"cut-{at}", "grid", 20)
        code, met = site.drive("kill", at)
        with subtests.test(f"cut {at}: {met['label']}"):
            assert code == KILLED
            seen = check_whole_rows(site.store, whole)
            assert site.drive()[0] == 0, site.said
            assert repeated(load(site.store)) == repeated(whole)
            assert load(site.store).state == "finished"
            assert lengths(site.store) == [{9}, {9}] or seen.state == "finished"


@pytest.mark.slow
def test_a_store_whose_driver_died_while_it_grew_goes_on_as_if_it_had_not(
    once, site_of, tmp_path, repeated, lengths, subtests
):
    name, site, _ = once
    more = ("--evaluations", 18)

    def copied(folder):
        copy = site_of(folder, name)
        shutil.copytree(site.store, copy.store)
        return copy

    whole = copied(tmp_path / "whole")
    assert whole.drive(more=more)[0] == 0, whole.said
    for at in spread(5, range(1, 200)):
        grown = copied(tmp_path / f"grown-{at}")
        code, met = grown.drive("kill", at, more=more)
        with subtests.test(f"grow {at}: {met['label']}"):
            assert code == KILLED
            assert len(load(grown.store)) in (15, 16, 17)
            with xarray.open_zarr(grown.store) as opened:
                assert (opened["status"].values > 0).sum() >= 15
            assert grown.drive(more=more)[0] == 0, grown.said
            assert repeated(load(grown.store)) == repeated(load(whole.store))
            assert lengths(grown.store) == [{18}, {18}]


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_run_that_died_before_any_change_to_any_file_ends_as_if_it_had_not(
    once, site_of, tmp_path, ends_right, subtests
):
    n = len(once[1].operations) - 5
    die_and_go_on(once, site_of, tmp_path, "kill", range(1, n), ends_right, subtests)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_run_that_died_in_the_middle_of_any_write_ends_as_if_it_had_not(
    once, site_of, tmp_path, ends_right, subtests
):
    die_and_go_on(once, site_of, tmp_path, "torn", writes(once[1])[:-3], ends_right, subtests)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_resume_that_died_before_any_change_to_any_file_ends_as_if_it_had_not(
    once, site_of, tmp_path, ends_right, subtests
):
    resume_dies_and_goes_on(once, site_of, tmp_path, range(1, 350), ends_right, subtests)
