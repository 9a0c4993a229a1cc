"""``l2l service`` on a real Slurm: in a job of its own, from job to job, and gone when it is told to."""

import os
import signal
from contextlib import suppress

import psutil
import pytest

from l2l_dask import load
from l2l_dask.service.place import read

from ..service.site import Site  # noqa: TID252  the same site, on another cluster

CLUSTER = """
[cluster]
profile = "slurm"
workers = 3
options = {cores = 1, memory = "500 MB", walltime = "00:10:00", interface = "lo"}
"""


@pytest.fixture
def site(tmp_path, l2l, wait_until, slurm):
    site = Site(tmp_path, l2l, wait_until)
    (tmp_path / "cluster.toml").write_text(CLUSTER)
    yield site
    l2l("service", "stop", "S", "--now")
    site.close()


def start(site, *options):
    options = ("--cluster", "cluster.toml", "--memory", "800 MB", *options)
    done = site.l2l("service", "start", "S", *options)
    assert done.returncode == 0, done.stderr
    return done.stderr


def left(slurm):
    return [job for job in slurm.jobs() if not job.ended]


def name(process):
    """A process's name, "" if it has ended."""
    with suppress(psutil.Error):
        return process.name()
    return ""


def is_deserted(slurm):
    """Tell whether neither a job nor a process of one is left."""
    return not left(slurm) and {process.name() for process in slurm.processes()} == {"slurmd"}


@pytest.mark.slow
def test_a_service_in_a_job_is_started_shows_results_and_is_stopped_with_nothing_left(site, slurm, wait_until):
    start(site)
    wait_until(lambda: "runs (job" in site.l2l("service", "status", "S").stdout)
    site.submit("a", evaluations=60)
    wait_until(lambda: site.finished("a"), 120)
    assert load(site.root / "a.zarr").counts()["done"] == 60
    site.submit("b", evaluations=100_000)
    wait_until(lambda: site.n_done("b") > 5)

    def all_work():
        status = site.status()
        return status["jobs"] == {"working": 3} and status["slots"]["total"] == 3

    wait_until(all_work)
    status = site.status()
    assert status["state"] == "running"
    waiting = [job for job in left(slurm) if job.state == "PENDING"]
    assert [(job.id, job.reason) for job in waiting] == [(status["successor"], "Dependency")]

    said = site.stop().stderr
    assert "unfinished: b" in said
    slurm.wait_for(lambda: is_deserted(slurm), 30)
    assert load(site.root / "b.zarr").state == "interrupted"
    assert not list(site.place.private.glob("connection*")) + list(site.place.private.glob("tls*"))


@pytest.mark.slow
def test_a_crash_of_its_node_is_followed_by_a_start_that_goes_on_with_everything(site, slurm, wait_until):
    site.set_seconds(0.2)
    start(site)
    site.submit("a", evaluations=400)
    wait_until(lambda: site.n_done("a") > 20, 120)
    before = read(site.place.state)
    node = slurm.job(before["job"]).node
    slurm.crash(node)
    told = len(site.told)
    slurm.notice(node)

    wait_until(lambda: read(site.place.state)["job"] == before["successor"], 120)
    wait_until(lambda: len(site.told) > told + 10, 120)
    site.set_seconds(0.05)
    orphans = {worker["id"] for worker in before["workers"]}
    slurm.wait_for(lambda: not orphans & {job.id for job in left(slurm)})
    wait_until(lambda: site.finished("a"), 120)
    assert load(site.root / "a.zarr").counts()["done"] == 400
    assert site.stop().returncode == 0
    slurm.wait_for(lambda: not left(slurm), 30)


@pytest.mark.slow
def test_ctrl_c_of_a_service_on_the_login_node_leaves_no_job_and_no_process(site, slurm, wait_until, alive):
    service = site.l2l.start("service", "start", "S", "--cluster", "cluster.toml", "--here")
    site.submit("a", evaluations=100_000)
    wait_until(lambda: site.n_done("a") > 5, 60)
    there = [*site.processes(), *(each for each in slurm.processes() if name(each) not in ("", "slurmd"))]
    assert len(there) > 3
    os.killpg(service.pid, signal.SIGINT)
    _, said = service.communicate(timeout=60)
    assert service.returncode == 0, said
    assert load(site.root / "a.zarr").state == "interrupted"
    slurm.wait_for(lambda: is_deserted(slurm), 30)
    wait_until(lambda: not [process for process in there if alive(process.pid)])
    assert {path.name for path in site.place.private.iterdir()} & {"connection-000001.json", "tls-000001"} == set()


@pytest.mark.soak
def test_before_its_walltime_it_hands_over_to_a_job_that_goes_on(site, slurm, wait_until):
    start(site, "--walltime", "00:01:00")
    site.submit("a", evaluations=100_000)
    wait_until(lambda: site.n_done("a") > 5, 60)
    first = read(site.place.state)
    for _ in range(2):
        successor = read(site.place.state)["successor"]
        wait_until(lambda job=successor: read(site.place.state).get("job") == job, 120)
        done = site.n_done("a")
        wait_until(lambda done=done: site.n_done("a") > done + 5, 60)
    assert slurm.job(first["job"]).state == "COMPLETED"  # it left by itself
    assert load(site.root / "a.zarr").counts()["crashed"] == 0
    site.stop(None, "--now")
    slurm.wait_for(lambda: not left(slurm), 30)


def test_a_job_that_is_refused_is_one_line_in_the_batch_systems_own_words(site, slurm):
    slurm.refuse_jobs()
    refused = site.l2l("service", "start", "S", "--cluster", "cluster.toml")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "sbatch" in refused.stderr
    slurm.accept_jobs()


def test_a_service_that_waits_in_the_queue_says_so_and_is_taken_out(site, slurm):
    text = CLUSTER.replace("options = {", 'options = {job_extra_directives = ["--begin=now+1hour"], ')
    (site.folder / "cluster.toml").write_text(text)
    assert "waits in the queue" in start(site)
    submitted = site.l2l("service", "submit", "S", site.write("a"), "--name", "a")
    assert "waits in the queue" in submitted.stderr
    assert site.stop().returncode == 0
    slurm.wait_for(lambda: not left(slurm), 30)
    assert "has ended" in site.l2l("service", "status", "S").stdout
