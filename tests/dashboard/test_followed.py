"""Which stores are found below a folder, and in what order what is read of one is shown."""

import asyncio
from types import SimpleNamespace

import pytest
from bokeh.document import Document

from l2l_dask.dashboard import app, followed
from l2l_dask.dashboard.followed import Followed, Stores
from l2l_dask.trajectory.layout import store_below, stores_below


@pytest.fixture
def still(tmp_path):
    """Stores that nothing reads but what a test renews."""
    made = Stores(tmp_path)
    made.close()
    return made


@pytest.fixture
def tree(tmp_path):
    """A folder with stores, and what is none of them, beside another one."""
    for place in ("in/a.zarr/inner.zarr", "in/b/c.zarr", "in/.hidden.zarr", "in/.of/d.zarr", "out/e.zarr", "in/plain"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "in" / "file.zarr").write_text("")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "linked.zarr").symlink_to(tmp_path / "out" / "e.zarr")
    return tmp_path / "in"


def test_a_name_leads_to_the_stores_that_a_search_finds_and_to_no_other(tree):
    found = {path.relative_to(tree).as_posix(): path for path in stores_below(tree)}
    assert found.keys() == {"a.zarr", "b/c.zarr", ".of/d.zarr", "linked.zarr"}
    assert {name: store_below(tree, name) for name in found} == found
    wrong = ("", ".", "..", "plain", "b", "a.zarr/inner.zarr", ".hidden.zarr", "file.zarr", "none.zarr", "link/e.zarr")
    outside = ("../out/e.zarr", "b/../../out/e.zarr", str(tree.parent / "out" / "e.zarr"), "/a.zarr")
    odd = ("./a.zarr", "b//c.zarr", "b/./c.zarr", "b/../a.zarr", "a.zarr/", "\0.zarr", "x" * 300 + ".zarr", "\0/a.zarr")
    for name in (*wrong, *outside, *odd):
        assert store_below(tree, name) is None, name


def test_a_name_of_one_store_alone_is_its_own(tree):
    made = Stores(tree / "a.zarr")
    made.close()
    assert made.find("a.zarr") == tree / "a.zarr"
    assert made.find("inner.zarr") is None


def test_who_waits_for_a_store_does_not_search_the_folder(still, tmp_path, stores, monkeypatch):
    def searched(*_):
        raise AssertionError("the whole folder is searched")

    monkeypatch.setattr(followed, "stores_below", searched)
    document = Document()
    request = SimpleNamespace(arguments={"store": [b"late.zarr"]}, remote_ip="127.0.0.1")
    document._session_context = lambda: SimpleNamespace(request=request)
    viewer = app.Viewer(document, "search", still, None)
    asyncio.run(viewer.tick())
    assert viewer.missing
    stores.make(tmp_path / "late.zarr", 10)
    asyncio.run(viewer.tick())
    assert not viewer.missing


def test_another_store_is_never_seen_as_the_one_before(tmp_path, stores):
    class Noting(Followed):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if name == "_trajectory" and value is not None:
                seen.append((value.experiment["id"], self.incarnation))

    seen = []
    noting = Noting(stores.make(tmp_path / "a.zarr", 10), "a.zarr")
    noting.renew()
    stores.make(tmp_path / "b.zarr", 20)
    (tmp_path / "a.zarr").rename(tmp_path / "old")
    (tmp_path / "b.zarr").rename(tmp_path / "a.zarr")
    noting._looked = 0.0
    noting.renew()
    (one, first), (other, then) = seen
    assert one != other
    assert then == first + 1


def test_a_store_that_changed_just_after_it_was_read_is_read_again(still, tmp_path, stores):
    still._closed.clear()
    stores.make(tmp_path / "a.zarr", 50)
    still._look()
    (tmp_path / "a.zarr").rename(tmp_path / "old")
    stores.make(tmp_path / "a.zarr", 60)
    still._look()  # too early: one that has ended is read every two seconds
    still.follow("a.zarr")._looked = 0.0
    still._look()
    assert still.summaries["a.zarr"].ended == 60
