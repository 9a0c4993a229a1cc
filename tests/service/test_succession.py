"""From one start to the next: who goes on, and who does not."""

import threading
import time

import pytest

from l2l_dask.cluster import jobs
from l2l_dask.errors import ClusterError
from l2l_dask.service import place, serving, standing, succession
from l2l_dask.service.settings import Settings
from l2l_dask.service.succession import Succession, take_over

SETTINGS = Settings("local", {"cores": 1, "memory": "1 GB"})


@pytest.fixture
def at(tmp_path, monkeypatch):
    monkeypatch.setattr(standing, "_answers", {})
    monkeypatch.setattr(jobs, "own_id", lambda _: "8-8")
    at = place.Place(tmp_path)
    at.make()
    SETTINGS.write(at)
    return at


def test_a_job_that_nobody_recorded_does_not_revive_a_service_that_was_ended(at, monkeypatch):
    monkeypatch.setattr(succession, "_PATIENCE", 0.0)
    place.write(at.state, {"state": "ended", "successor": "", "epoch": 3})
    with pytest.raises(ClusterError, match="has ended"):
        take_over(at, SETTINGS)
    assert at.epochs() == []
    place.write(at.state, {"state": "ended", "successor": "8-8", "epoch": 3})
    assert take_over(at, SETTINGS)[0] == 4


def test_a_start_that_comes_before_it_was_said_to_be_pending_waits_for_that(at, monkeypatch):
    place.write(at.state, {"state": "ended", "successor": "", "epoch": 3})
    pending = {"state": "pending", "job": "8-8", "epoch": 3}
    monkeypatch.setattr(succession.time, "sleep", lambda _: place.write(at.state, pending))
    assert take_over(at, SETTINGS) == (4, pending)


def test_a_service_that_fails_is_not_said_to_have_ended_and_its_life_is_counted(at, monkeypatch):
    def fail(self):
        self._publish("running")
        raise RuntimeError("it broke")

    monkeypatch.setattr(serving.Serving, "run", fail)
    with pytest.raises(RuntimeError):
        serving.serve(at.root)
    before = place.read(at.state)
    assert before["state"] == "running"
    assert len(Succession.of(at, SETTINGS, before).lives) == 1


def test_a_service_that_another_one_took_over_does_not_say_that_it_has_ended(site):
    service = site.start()
    site.place.claim(2)
    _, said = service.communicate(timeout=30)
    assert "took over" in said
    assert place.read(site.place.state)["state"] == "running"


def test_a_batch_system_that_takes_its_time_holds_nothing_up_and_what_it_accepts_too_late_is_cancelled(at, monkeypatch):
    answers, cancelled = threading.Event(), []
    monkeypatch.setattr(succession, "submit", lambda *_, **__: answers.wait(10) and "9-9")
    monkeypatch.setattr(jobs, "cancel", lambda _, ids: cancelled.extend(ids))
    own = Succession(at, SETTINGS, "s", job="8-8")
    begun = time.monotonic()
    own.keep(begun)
    own.keep(begun + 100)
    own.end()
    assert not cancelled
    answers.set()  # had any of these waited for it, it would have been refused before
    own.settle()
    assert (own.successor, cancelled) == ("", ["9-9"])


def test_a_successor_that_was_refused_is_asked_for_again_some_time_after_the_refusal(at, monkeypatch):
    tried, late = [], 20.0

    def refuse(*_, **__):
        tried.append(1)
        clock[0] += late
        raise ClusterError("sbatch did not answer")

    clock = [100.0]
    monkeypatch.setattr(succession, "submit", refuse)
    monkeypatch.setattr(succession.time, "monotonic", lambda: clock[0])
    own = Succession(at, SETTINGS, "s", job="8-8")
    for now, times in ((100.0, 1), (149.0, 1), (151.0, 2)):
        own.keep(now)
        own.settle()
        assert len(tried) == times
    assert "did not answer" in own.trouble
