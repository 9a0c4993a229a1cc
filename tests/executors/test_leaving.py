"""When a worker that several experiments share leaves for the end of its batch job."""

import gc
import time
import weakref

import pytest

from l2l_dask import leaving
from l2l_dask.leaving import Post, post_of
from l2l_dask.walltime import LEAVING, Life


class FakeWorker:
    """What a post needs of a worker."""

    def __init__(self):
        self.extensions, self.periodic_callbacks, self.status, self.loop = {}, {}, None, self
        self.called = []

    def add_callback(self, function):
        self.called.append(function)

    def leaves(self, post):
        self.called.clear()
        post._look()
        return self.called == [post._leave]


@pytest.fixture
def worker():
    return FakeWorker()


@pytest.fixture
def post(worker):
    """One whose worker is not fresh, and can begin what takes less than a hundred seconds."""
    post, now = Post(worker), time.time()
    post.life = Life(now - 1000, now - 1000, now + 100 + LEAVING)
    return post


def test_a_worker_leaves_only_when_it_is_of_no_use_to_any_experiment(worker, post):
    assert not worker.leaves(post)
    post.expect("long", 1, 500.0, 1)
    assert worker.leaves(post)
    post.expect("short", 1, 5.0, 1)
    assert not worker.leaves(post)
    assert (post.others_may_begin("long"), post.others_may_begin("short")) == (True, False)
    post.expect("short", 2, 200.0, 1)
    assert worker.leaves(post)
    assert not post.others_may_begin("long")
    post.expect("short", 1, 5.0, 1)  # an old word, which comes late
    assert worker.leaves(post)


def test_an_experiment_that_begins_nothing_any_more_keeps_no_worker(worker, post, monkeypatch):
    post.expect("short", 1, 50.0, 1)
    monkeypatch.setattr(leaving, "_IDLE", -50.0)
    assert not worker.leaves(post), "nobody does"
    time.sleep(0.01)
    monkeypatch.setattr(leaving, "_IDLE", -10.0)
    post.expect("long", 1, 500.0, 1)
    assert not worker.leaves(post)
    monkeypatch.setattr(leaving, "_IDLE", -50.0)
    assert worker.leaves(post)
    assert not post.others_may_begin("long")


def test_the_post_of_a_worker_is_the_same_for_all_and_ends_with_it():
    worker = FakeWorker()
    post = weakref.ref(post_of(worker))
    assert post_of(worker) is post()
    del worker
    gc.collect()
    assert post() is None
