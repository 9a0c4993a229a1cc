"""The lab itself: a real Slurm on this machine does what Slurm does, and goes wrong as one wants it to."""

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from .lab import Slurm

ROOT = Path(__file__).parents[2]
LONG = "sleep 600 & setsid sleep 600"  # the second leaves the job's session


@pytest.fixture
def running(slurm):
    """Submit long jobs, and wait until they run."""

    def running(*options):
        job = slurm.submit(LONG, *options)
        slurm.wait_for_state(job, "RUNNING")
        slurm.wait_for(lambda: len(sleeps(slurm, job)) == 2)
        return slurm.job(job)

    return running


def sleeps(slurm, job):
    """Find what the job's command has started."""
    found = [process for process in slurm.processes() if process.name() == "sleep"]
    return [process for process in found if process.environ().get("SLURM_JOB_ID") == job]


def processes_of_a_busy(slurm):
    job = slurm.submit(LONG)
    slurm.wait_for(lambda: len(sleeps(slurm, job)) == 2)
    there = {*slurm.processes(), *mentioning(slurm.folder)}
    assert {"slurmctld", "slurmd", "slurmstepd", "sleep", "munged"} <= {process.name() for process in there}
    return there


def mentioning(folder):
    """Find the processes that run in this folder, or have it in their environment or command line."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(folder) in " ".join([process.cwd(), *process.cmdline(), *process.environ().values()]):
                yield process


def runs(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def assert_nothing_is_left(slurm, there):
    assert [process for process in there if runs(process)] == []
    assert list(mentioning(slurm.folder)) == []
    assert not slurm.folder.exists()
    for port in slurm.ports:
        with socket.socket() as client:
            assert client.connect_ex((socket.gethostname(), port)) != 0


def test_a_controller_that_was_down_knows_its_jobs_again(slurm, running):
    job = running()
    slurm.stop_controller()
    assert not slurm.answers()
    assert len(sleeps(slurm, job.id)) == 2
    slurm.start_controller()
    assert slurm.job(job.id).state == "RUNNING"


def test_a_job_runs_on_a_node_and_ends(slurm):
    job = slurm.submit("sleep 0.1", "--job-name=short", "--comment=a | comment")
    ended = slurm.wait_for_state(job, "COMPLETED")
    assert ended.ended
    assert (ended.name, ended.comment) == ("short", "a | comment")
    assert ended.node in slurm.nodes


def test_a_cancelled_job_ends_with_all_its_processes(slurm, running):
    job = running()
    slurm.cancel(job.id)
    assert slurm.wait_for_state(job.id, "CANCELLED").ended
    slurm.wait_for(lambda: not sleeps(slurm, job.id))


def test_a_crashed_node_takes_its_jobs_along_and_comes_back(slurm, running):
    lost = running("--no-requeue")
    again = running(f"--nodelist={lost.node}", "--requeue")
    slurm.crash(lost.node)
    assert slurm.processes(lost.node) == []
    slurm.notice(lost.node)
    assert slurm.job(lost.id).state == "NODE_FAIL"
    assert slurm.job(again.id).state == "PENDING"
    slurm.cancel(again.id)  # it would begin there again
    slurm.restore(lost.node)
    assert slurm.node_states()[lost.node] == "IDLE"


def test_a_hung_node_does_nothing_and_goes_on_where_it_was(slurm, running):
    job = running()
    node = job.node
    slurm.hang(node)
    assert {process.status() for process in slurm.processes(node)} == {psutil.STATUS_STOPPED}
    slurm.resume_hung(node)
    assert psutil.STATUS_STOPPED not in {process.status() for process in slurm.processes(node)}
    assert len(sleeps(slurm, job.id)) == 2


def test_a_partition_that_is_closed_refuses_jobs(slurm):
    slurm.refuse_jobs()
    with pytest.raises(RuntimeError, match="partition not available"):
        slurm.submit("true")
    slurm.accept_jobs()
    slurm.submit("true")


def test_what_a_test_leaves_is_put_right(slurm, running):
    crashed, hung = running().node, running().node
    slurm.crash(crashed)
    slurm.hang(hung)
    slurm.refuse_jobs()
    slurm.reset()
    assert set(slurm.node_states().values()) == {"IDLE"}
    assert all(job.ended for job in slurm.jobs())
    slurm.wait_for(lambda: {process.name() for process in slurm.processes()} == {"slurmd"})
    slurm.submit("true")


def test_nothing_is_left_of_a_slurm_that_was_stopped(slurm):
    with Slurm(nodes=1) as other:
        there = processes_of_a_busy(other)
    assert_nothing_is_left(other, there)


def test_nothing_is_left_of_a_slurm_whose_tests_were_killed(slurm, wait_until):
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom tests.hpc.lab import Slurm\n"
    program += "lab = Slurm(nodes=1)\nlab.start()\nprint(lab.folder, *lab.ports, flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as tests:
        folder, *ports = tests.stdout.readline().split()
        other = Slurm(nodes=1)
        other.folder, other.ports = Path(folder), [int(port) for port in ports]
        there = processes_of_a_busy(other)
        tests.kill()
    wait_until(lambda: not any(runs(process) for process in there))
    assert_nothing_is_left(other, there)


@pytest.mark.slow
def test_a_job_ends_when_its_walltime_does(slurm, running):
    job = running()
    slurm.end_soon(job.id, 10)  # one that has passed by the time it arrives is refused
    assert slurm.wait_for_state(job.id, "TIMEOUT").reason == "TimeLimit"
    slurm.wait_for(lambda: not sleeps(slurm, job.id))


@pytest.mark.soak
@pytest.mark.parametrize("happens", [Slurm.crash, Slurm.hang])
def test_slurm_notices_by_itself_that_a_node_is_gone(slurm, running, happens):
    lost = running("--no-requeue")
    again = running(f"--nodelist={lost.node}", "--requeue")
    happens(slurm, lost.node)
    slurm.wait_for_state(lost.id, "NODE_FAIL")
    assert slurm.job(again.id).state == "PENDING"
    slurm.restore(lost.node)
    slurm.wait_for(lambda: {process.name() for process in slurm.processes(lost.node)} == {"slurmd"})
