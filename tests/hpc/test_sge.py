"""The same search and the same service on a real Grid Engine."""

import os
import sys

import pytest

from l2l_dask import load
from l2l_dask.cluster import jobs
from l2l_dask.cluster.profiles import Profile
from l2l_dask.service.place import read

from ..service.site import Site  # noqa: TID252  the same site, on another cluster
from .sge_lab import GridEngine, missing

CLUSTER = """
[cluster]
profile = "sge"
workers = 3
options = {cores = 1, memory = "500 MB", walltime = "00:10:00", interface = "lo"}
"""
ASKED = {"cores": 1, "memory": "500 MB", "walltime": "00:10:00"}


@pytest.fixture(scope="module")
def lab():
    if reason := missing():
        pytest.skip(reason)
    with GridEngine() as lab:
        yield lab


@pytest.fixture
def sge(lab, monkeypatch):
    """The Grid Engine, with no job; what this test starts finds it, and what it leaves is ended."""
    for name, value in lab.environment.items():
        monkeypatch.setenv(name, value)
    yield lab
    lab.reset()


@pytest.fixture
def site(tmp_path, l2l, wait_until, sge):
    site = Site(tmp_path, l2l, wait_until)
    (tmp_path / "cluster.toml").write_text(CLUSTER)
    yield site
    if site.root.exists():
        l2l("service", "stop", "S", "--now")
    site.close()


@pytest.mark.slow
def test_a_search_on_grid_engine_loses_a_job_and_finishes_with_nothing_lost(site, sge, wait_until, workers):
    site.set_seconds(0.2)
    words = ("run", site.write("a", evaluations=1000), "--store", "a.zarr", "--cluster", "cluster.toml")
    running = site.l2l.start(*words)
    wait_until(lambda: len(workers(site.folder / "a.zarr")) == 3)
    sge.wait_for(lambda: set(sge.jobs().values()) <= {"r", "t", "qw"}, 30)  # those of the test before are gone
    sge.cancel(next(id for id, state in sge.jobs().items() if state == "r"))
    wait_until(lambda: len(workers(site.folder / "a.zarr")) == 4)
    site.set_seconds(0)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 0, said
    found = load(site.folder / "a.zarr")
    assert found.counts()["done"] == len(found) == 1000
    assert len(workers(site.folder / "a.zarr")) == 4
    sge.wait_for(lambda: not sge.jobs() and not sge.processes(), 20)


def test_a_job_waits_for_the_end_of_another_however_that_comes(sge, tmp_path):
    profile = Profile("sge", ASKED)
    path = tmp_path / "ran"
    first = jobs.submit(jobs.command_job(profile, "first", ["sleep", "600"], logs=tmp_path))
    code = f"import os; open({str(path)!r}, 'w').write(os.environ['JOB_ID'] + ' ' + os.environ['L2L_JOB_END'])"
    next_job = jobs.command_job(profile, "next", [sys.executable, "-c", code], logs=tmp_path, after=first)
    second = jobs.submit(next_job)
    sge.wait_for(lambda: sge.jobs() == {first: "r", second: "hqw"})
    assert jobs.states(profile, [first, second, "99999"]) == {first: ("running", ""), second: ("pending", "hqw")}
    jobs.cancel(profile, [first])
    sge.wait_for(lambda: path.exists() and path.read_text())
    assert path.read_text().split()[0] == second
    sge.wait_for(lambda: jobs.states(profile, [first, second]) == {})


def test_a_grid_engine_that_does_not_answer_is_not_taken_for_one_without_jobs(sge, monkeypatch):
    monkeypatch.setenv("SGE_QMASTER_PORT", "1")
    assert jobs.states(Profile("sge", ASKED), ["1"]) is None


def test_what_is_asked_for_in_vain_is_told_in_its_own_words(sge, site):
    (site.folder / "cluster.toml").write_text(CLUSTER.replace("options = {", 'options = {queue = "bach.q", '))
    refused = site.l2l("run", site.write("a"), "--store", "a.zarr", "--cluster", "cluster.toml")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "`qsub` refused a job" in refused.stderr
    assert "bach.q" in refused.stderr
    assert not sge.jobs()


@pytest.mark.soak
def test_a_service_on_grid_engine_has_a_successor_and_is_stopped_with_nothing_left(site, sge, wait_until):
    started = site.l2l("service", "start", "S", "--cluster", "cluster.toml", "--memory", "800 MB")
    assert started.returncode == 0, started.stderr
    site.submit("a", evaluations=60)
    wait_until(lambda: site.finished("a"), 60)
    status = site.status()
    assert status["state"] == "running"
    assert sge.jobs()[status["successor"]] == "hqw"
    os.kill(read(site.place.state)["pid"], 9)  # which a crash would do too: its successor goes on
    wait_until(lambda: read(site.place.state)["job"] == status["successor"], 60)
    site.submit("b", evaluations=20)
    wait_until(lambda: site.finished("b"), 60)
    site.stop()
    sge.wait_for(lambda: not sge.jobs() and not sge.processes(), 30)
