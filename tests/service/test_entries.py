"""What a service knows of an experiment, whoever writes it."""

import json
import shutil
import socket
import threading
import time
from dataclasses import replace

import pytest

from l2l_dask import Experiment, Real, Space, minimize
from l2l_dask.progress import Progress
from l2l_dask.service import driving, entries, place
from l2l_dask.service.client import Service


@pytest.fixture
def queued(tmp_path):
    """An experiment that waits in the folder of a service."""
    about = {"space": Space({"x": Real(0, 1)}), "objectives": minimize("f"), "store": tmp_path / "e.zarr"}
    return Service(tmp_path / "S").submit(Experiment(lambda p: p["x"], "random", evaluations=5, **about))


def test_changes_that_are_made_at_the_same_time_are_both_kept(queued, monkeypatch):
    def slowly(*args, **changes):
        time.sleep(0.1)  # between reading and writing
        return replace(*args, **changes)

    monkeypatch.setattr(entries, "replace", slowly)
    changes = (
        lambda: entries.change(queued.store, paused=True),
        lambda: entries.change(queued.store, weight=3.0),
        lambda: Service(queued.store.parent).submit_again(queued.store),
    )
    threads = [threading.Thread(target=change) for change in changes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = entries.read(queued.store)
    assert (known.paused, known.weight) == (True, 3.0)


def test_a_change_of_what_was_withdrawn_or_removed_meanwhile_is_none(queued):
    queued.stop()
    entries.change(queued.store, paused=True)
    assert not entries.is_submitted(queued.store)
    shutil.rmtree(queued.store)
    entries.change(queued.store, paused=True)
    assert not queued.store.exists()


@pytest.mark.parametrize("wrong", [{"weight": None}, {"weight": 0}, {"submitted": "today"}, {"paused": None}])
def test_an_entry_that_makes_no_sense_is_left_out_with_its_problem_said_until_it_is_submitted_again(queued, wrong):
    entries.change(queued.store, weight=2.0)
    content = place.read(entries.entry(queued.store))
    place.write(entries.entry(queued.store), content | wrong | {"unknown": 1})
    service = Service(queued.store.parent)
    known = entries.Shelf(service.folder).look()["e"]
    assert not known.waits
    assert known.submission.weight > 0
    (name,) = wrong
    assert f"service.json: {name}: " in service.status()["experiments"]["e"]["problem"]

    service.submit_again(queued.store)
    known = entries.Shelf(service.folder).look()["e"]
    assert known.waits
    assert known.submission.weight == (1.0 if name == "weight" else 2.0)


def test_a_driver_says_nothing_where_only_what_nobody_reads_has_changed(queued, monkeypatch):
    monkeypatch.setattr(driving, "_PACE", 0.0)
    ours, theirs = socket.socketpair()
    driver = driving.Driving(queued.store, theirs)
    p = Progress(1, 0, 5, 0.5, 1, 1, paused=False, stopping=False, seconds=1.0, rate=1.0)
    for rate, ended in ((1.0, 1), (1.1, 1), (1.2, 1), (1.2, 2)):
        driver._note(replace(p, rate=rate, ended=ended))
    driver._channel.close()
    with ours, ours.makefile() as lines:
        assert [json.loads(line)["ended"] for line in lines] == [1, 2]
