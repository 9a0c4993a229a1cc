"""A disk that fails at any change to a store's files: one line, a store that is whole, and a resume that ends right."""

import shutil

import pytest

from l2l_dask.errors import StoreError
from l2l_dask.trajectory import load

FAILURES = ["ENOSPC", "EACCES", "EROFS", "EIO"]


@pytest.fixture(scope="module")
def once(site_of, tmp_path_factory):
    """An experiment that ran in one go, and the operations on its files."""
    site = site_of(tmp_path_factory.mktemp("once") / "once", "Genetic")
    code, _ = site.drive()
    assert code == 0, site.said
    return site, load(site.store)


def check_one_line(said):
    assert "Traceback" not in said, said
    assert len([line for line in said.splitlines() if line.startswith("l2l: ")]) == 1, said


def check_reached(site, at, *what):
    assert len(site.operations) >= at, "the operation that was to fail was never come to"
    assert not what or any(part in site.operations[at - 1] for part in what)


@pytest.fixture
def ends_right(once, repeated, check_whole_rows):
    """Drive on a disk that fails: the driver says so in a line; when the cause is gone it goes on and ends right."""
    _, whole = once

    def look(site, code, failure):
        if not site.store.exists():
            with pytest.raises(StoreError, match="there is no store"):
                load(site.store)
            left = [path.name for path in site.folder.glob(".run.zarr-*")]
            assert left == [] or failure != "ENOSPC", "and no part of one, where files can be removed"
            return
        seen = check_whole_rows(site.store, whole)
        assert seen.state in (("queued", "interrupted") if code else ("finished",))

    def ends_right(site, failure, at, *, once=False, what=()):
        earlier = len(site.notes("evaluated"))
        code, _ = site.drive(failure, at, once)
        check_reached(site, at, *what)
        said, told, before = site.said, set(site.notes("told")), site.notes("evaluated")
        look(site, code, failure)
        assert site.drive()[0] == 0, site.said
        assert not told & set(site.notes("evaluated")[len(before) :]), "what was told is not evaluated again"
        ended = load(site.store)
        assert ended.state == "finished"
        assert repeated(ended) == repeated(whole)
        if code:  # the last things that a driver does may fail without a loss
            check_one_line(said)
            assert code in ((1,) if len(before) > earlier else (1, 2)), said

    return ends_right


def fail_and_go_on(site_of, folder, cases, ends_right, subtests, **how):
    for failure, at in cases:
        site = site_of(folder / f"{failure}-{at}", "Genetic")
        with subtests.test(f"{failure} from {at} on"):
            ends_right(site, failure, at, **how)
        shutil.rmtree(site.folder)


def cases(once, n):
    """Choose failures in turn, at operations that are spread evenly."""
    total = len(once[0].operations)
    return [(FAILURES[k % 4], 1 + k * (total - 1) // (n - 1)) for k in range(n)]


@pytest.mark.slow
def test_a_disk_that_fails_from_some_change_on_is_one_line_and_no_loss(once, site_of, tmp_path, ends_right, subtests):
    fail_and_go_on(site_of, tmp_path, cases(once, 10), ends_right, subtests)


@pytest.mark.slow
def test_a_disk_that_fails_once_is_one_line_or_none_and_no_loss(once, site_of, tmp_path, ends_right, subtests):
    fail_and_go_on(site_of, tmp_path, cases(once, 5), ends_right, subtests, once=True)


@pytest.mark.slow
@pytest.mark.parametrize("failure", FAILURES)
def test_a_disk_that_fails_while_a_run_is_resumed_is_one_line_and_no_loss(once, site_of, tmp_path, ends_right, failure):
    half = len(once[0].operations) // 2
    site = site_of(tmp_path / "again", "Genetic")
    site.drive("kill", half)
    ends_right(site, failure, 60 + FAILURES.index(failure) * 20)


@pytest.mark.slow
def test_a_disk_that_fails_while_an_array_is_added_is_one_line_and_no_loss(once, site_of, tmp_path, ends_right):
    at = [n for n, what in enumerate(once[0].operations, 1) if "/parents/zarr" in what]
    # Zarr looks for the group at the same time: either may come first.
    ends_right(site_of(tmp_path / "adding", "Genetic"), "EIO", at[0], what=("/parents/zarr", "run.zarr/zarr."))


@pytest.mark.slow
def test_a_disk_that_fails_while_the_arrays_are_cut_is_one_line_and_no_loss(site_of, tmp_path, repeated):
    whole, site = site_of(tmp_path / "whole", "grid", 20), site_of(tmp_path / "cut", "grid", 20)
    assert whole.drive()[0] == 0, whole.said
    at = [n for n, what in enumerate(whole.operations, 1) if what.startswith("open ") and "/x/zarr." in what]
    code, _ = site.drive("EIO", at[-1], once=True)
    check_reached(site, at[-1], "/x/zarr.")
    said = site.said
    assert repeated(load(site.store)) == repeated(load(whole.store))
    assert site.drive()[0] == 0, site.said
    assert load(site.store).state == "finished"
    if code:
        check_one_line(said)


@pytest.mark.slow
def test_commands_that_cannot_be_removed_are_one_line_and_no_loss(once, site_of, tmp_path, ends_right):
    site = site_of(tmp_path / "commanded", "Genetic")
    site.drive("kill", len(once[0].operations) // 2)
    (site.store / ".l2l" / "control.jsonl").write_text('{"command": "pause"}\n')
    copy = site_of(tmp_path / "copy", "Genetic")
    shutil.copytree(site.folder, copy.folder, dirs_exist_ok=True)
    assert copy.drive()[0] == 0
    at = [n for n, what in enumerate(copy.operations, 1) if what.startswith("os.remove") and "control" in what]
    ends_right(site, "EIO", at[0], what=("control",))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("failure", FAILURES)
def test_a_disk_that_fails_from_any_change_on_is_one_line_and_no_loss(
    once, site_of, tmp_path, ends_right, subtests, failure
):
    points = range(1 + FAILURES.index(failure), len(once[0].operations), 3)
    fail_and_go_on(site_of, tmp_path, [(failure, at) for at in points], ends_right, subtests)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_disk_that_fails_once_at_any_change_is_one_line_or_none_and_no_loss(
    once, site_of, tmp_path, ends_right, subtests
):
    points = range(1, len(once[0].operations))
    fail_and_go_on(site_of, tmp_path, [(FAILURES[at % 4], at) for at in points], ends_right, subtests, once=True)
