"""How a service stands is not made worse by a batch system that does not answer, and it is not asked all the time."""

import os
import re

import dask
import pytest

from l2l_dask.cluster import jobs
from l2l_dask.cluster.systems import SYSTEMS, Standing
from l2l_dask.errors import ClusterError
from l2l_dask.service import client, place, standing, starting
from l2l_dask.service.settings import Settings
from l2l_dask.service.standing import look

SETTINGS = Settings("local", {"cores": 1, "memory": "1 GB"})
LOST = {"state": "running", "job": "7-7", "machine": "another", "pid": 1, "started": 0.0, "host": "n7", "epoch": 1}


@pytest.fixture
def at(tmp_path, monkeypatch):
    """The folder of a service whose batch system has not been asked yet."""
    monkeypatch.setattr(standing, "_answers", {})
    at = place.Place(tmp_path)
    at.make()
    SETTINGS.write(at)
    return at


def says(at, **state):
    """Have had a service say something long ago."""
    place.write(at.state, state)
    os.utime(at.state, (0, 0))


def test_what_waits_in_the_queue_is_not_gone_because_the_batch_system_does_not_answer(at, monkeypatch):
    monkeypatch.setattr(jobs, "states", lambda *_: None)
    says(at, state="pending", job="7-7")
    assert look(at).condition == "pending"
    with pytest.raises(ClusterError, match="waits in the queue"):
        starting.prepare(at.root, SETTINGS)
    says(at, **LOST)
    assert look(at).condition == "lost"
    says(at, **LOST, successor="8-8")
    assert look(at).condition == "handing over"


def test_stop_cancels_the_job_of_a_service_that_only_seems_to_be_gone(at, monkeypatch):
    cancelled = []
    monkeypatch.setattr(jobs, "states", lambda *_: None)
    monkeypatch.setattr(jobs, "cancel", lambda _, ids: cancelled.extend(ids))
    says(at, **LOST, workers=[{"id": "6-6"}])
    assert starting.stop(at, now=False, said=print).condition == "ended"
    assert cancelled == ["6-6", "7-7"]


def test_the_batch_system_is_asked_every_few_seconds_however_often_somebody_looks(at, monkeypatch):
    asked, clock = [], [100.0]
    monkeypatch.setattr(jobs, "states", lambda _, ids: asked.append(ids) or {"7-7": Standing("running")})
    monkeypatch.setattr(standing.time, "monotonic", lambda: clock[0])
    says(at, **LOST)
    for _ in range(41):
        assert look(at).condition == "running"
        clock[0] += 0.25
    assert len(asked) == 3


def test_who_waits_for_an_experiment_that_runs_does_not_ask_how_the_service_stands(at, monkeypatch):
    monkeypatch.setattr(client.Submitted, "state", "running")
    monkeypatch.setattr(standing, "look", lambda _: pytest.fail("it was asked"))
    with pytest.raises(TimeoutError):
        client.Submitted(at.root / "a.zarr").wait(0)


def test_an_end_without_a_reason_is_told_without_one(at):
    says(at, state="ended", reason="")
    assert "has ended: `l2l service start" in look(at).line()
    says(at, state="ended", reason="it was stopped")
    assert "has ended, it was stopped: `l2l service start" in look(at).line()


def test_the_service_itself_asks_for_no_more_than_it_needs_whatever_its_workers_ask_for():
    size = {"job_cpu": 64, "job_mem": "180GB"}
    directives = ["--gres=gpu:4", "--gpus-per-node=4", "-N 1", "--exclusive", "-C cpu", "--qos=long", "--nodelist=n1"]
    options = {"cores": 64, "memory": "180 GB", "queue": "q", "job_extra_directives": directives, **size}
    own = Settings("slurm", options, service={"cores": 1, "memory": "4 GB"}).own_profile
    assert (own.cores, own["memory"], own["queue"]) == (1, "4 GB", "q")
    assert own["job_extra_directives"] == ["-C cpu", "--qos=long", "--nodelist=n1"]


KEPT = {
    "slurm": ["-C gpu", "--nodelist=n1", "--nice=5"],
    "pbs": ["-l filesystems=home:memfs", "-l place=scatter", "-N name", "-c n"],
    "sge": ["-l h_rt=600", "-l hostname=n1", "-N name"],
    "lsf": ["-G group", "-N", "-c 10", '-R "select[type==any]"'],
    "oar": ["-p \"cluster='a'\"", "-n name"],
}
LEFT_OUT = {
    "slurm": ["--mincpus=64", "-Gv100:2", "-N4", "-n 8", "-c8", "--cpus-per-task=8", "-B 2:8", "-S 2"],
    "pbs": [
        *("-l select=4:ncpus=64", "-lnodes=2", "-l place=scatter,ngpus=4", "-l mem=8gb", "-l 'nodes=2'", "-l procs=64"),
        *('-l "select=4:ncpus=64"', "-l walltime=1:00:00 -l select=4", "-l place=scatter:excl", "-L tasks=2:lprocs=8"),
    ],
    "sge": ["-pe smp 8", "-l gpu=4", "-l h_rt=600,h_vmem=8G", '-l "gpu=1"', "-l exclusive=true", "-hard -l gpu=1"],
    "lsf": ["-n 64", "-nnodes 2", "-x", "-M 64GB", '-gpu "num=4"', '-R "rusage[mem=4GB]"'],
    "oar": ["-l /nodes=2/core=8", "-lnodes=2", "--resource=/nodes=2"],
}


@pytest.mark.parametrize("system", KEPT)
def test_of_what_its_workers_ask_for_the_service_leaves_out_what_is_large_in_that_batch_system(system):
    options = {"cores": 64, "memory": "180 GB", "job_extra_directives": [*LEFT_OUT[system], *KEPT[system]]}
    assert Settings(system, options).own_profile["job_extra_directives"] == KEPT[system]


@pytest.mark.parametrize(
    ("system", "size"),
    [
        ("slurm", {"job-cpu": 96, "job-mem": "170GB"}),
        ("pbs", {"resource-spec": "select=4:ncpus=96:mem=170GB"}),
        ("sge", {"resource-spec": "h_vmem=170G"}),
        ("lsf", {"ncpus": 96, "mem": 170 * 10**9}),
        ("oar", {"resource-spec": "/nodes=4/core=96"}),
    ],
)
def test_the_service_itself_is_not_as_large_as_dasks_configuration_makes_its_workers(system, size):
    SYSTEMS[system].job_class()  # whose import brings defaults
    with dask.config.set({f"jobqueue.{system}.{name}": value for name, value in size.items()}):
        settings = Settings(system, {"cores": 96, "memory": "170 GB"}, service={"cores": 1, "memory": "4 GB"})
        own = jobs.command_job(settings.own_profile, "service", ["true"]).job_script()
        workers = jobs.command_job(settings.profile, "workers", ["true"]).job_script()
    assert not re.search("96|170", own)
    assert re.search("96|170", workers)


def test_what_is_asked_for_the_service_itself_is_not_left_out():
    options = {"cores": 64, "memory": "180 GB", "job_extra_directives": ["--gres=gpu:4", "--qos=long"]}
    own = Settings("slurm", options, service={"job_extra_directives": ["--nodes=1"]}).own_profile
    assert own["job_extra_directives"] == ["--nodes=1"]


def test_where_no_job_can_wait_for_another_that_is_said_before_anything_is_written(tmp_path):
    settings = Settings("htcondor", {"cores": 4, "memory": "8 GB", "disk": "1 GB"})
    with pytest.raises(ClusterError, match=r"htcondor: there is no service there.*l2l run --cluster htcondor"):
        starting.prepare(tmp_path / "lab", settings)
    assert not (tmp_path / "lab").exists()
