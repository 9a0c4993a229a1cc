"""The tasks of an srun, as their environment tells them; they run on a real Slurm in tests/hpc."""

import asyncio
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from l2l_dask.cluster import allocation
from l2l_dask.cluster import meeting as meetings
from l2l_dask.cluster.allocation import Task
from l2l_dask.cluster.meeting import EndedError, Meeting
from l2l_dask.errors import ClusterError

EXAMPLE = str(Path(__file__).parents[2] / "examples/my-model.toml")
TASK = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "1", "SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "5"}


def test_a_worker_has_what_slurm_gave_its_task():
    given = {"SLURM_CPUS_PER_TASK": "4", "SLURM_MEM_PER_CPU": "500", "CUDA_VISIBLE_DEVICES": "2,3"}
    task = Task.of(TASK | given)
    assert (task.rank, task.tasks, task.start) == (2, 5, "7-0-1")
    assert task.offers == {"cores": 4, "GPU": 2}
    assert task.memory == 2000 * 2**20


def test_a_worker_has_its_share_of_its_node_s_memory():
    given = {"SLURM_CPUS_PER_TASK": "2", "SLURM_MEM_PER_NODE": "8000", "SLURM_CPUS_ON_NODE": "8"}
    assert Task.of(TASK | given).memory == 2000 * 2**20
    assert Task.of(TASK).memory is None


def test_a_job_that_begins_again_is_another_start():
    assert Task.of(TASK | {"SLURM_RESTART_COUNT": "2"}).start == "7-2-1"


@pytest.mark.parametrize("words", [("run", EXAMPLE), ("resume", "a.zarr")])
def test_outside_of_srun_a_line_says_what_to_do(l2l, words):
    ended = l2l(*words, "--cluster", "allocation", env={"PATH": "/usr/bin:/bin"})
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "`srun l2l run CONFIG --cluster allocation`" in ended.stderr


def test_a_batch_script_that_forgot_srun_is_outside_of_it():
    with pytest.raises(ClusterError, match="expected to be started by srun"):
        Task.of({name: value for name, value in TASK.items() if name != "SLURM_STEP_ID"})


def test_too_few_tasks_are_refused_by_one_of_them():
    with pytest.raises(ClusterError, match=r"expected at least 3 tasks .* got 2: srun --ntasks=3 or more"):
        Task.of(TASK | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"})
    with pytest.raises(SystemExit):
        Task.of(TASK | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"})


def test_who_is_no_driver_of_an_allocation_is_told_so():
    with pytest.raises(ClusterError, match='profile "allocation" is for the tasks of one srun'):
        allocation.client()


def test_the_meeting_is_for_its_owner_alone_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(meetings, "listed", lambda _: {"7", "8"})
    for old in ("allocation-7-0-0", "allocation-6-0-0", "allocation-8-0-0"):
        (tmp_path / "a.jobs" / old).mkdir(parents=True)
    meeting = Meeting(tmp_path / "a.jobs/allocation-7-1-0")
    meeting.open("7")
    assert stat.S_IMODE(meeting.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((meeting.folder / "key.pem").stat().st_mode) == 0o600
    # Of earlier starts of this job, and of jobs that have ended, nothing remains; a job that runs is left alone.
    assert {path.name for path in meeting.folder.parent.iterdir()} == {"allocation-7-1-0", "allocation-8-0-0"}
    (tmp_path / "a.jobs/allocation-8-0-0").rmdir()
    meeting.close()
    assert list(tmp_path.iterdir()) == []


def test_tasks_wait_for_the_address_or_learn_why_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(meetings, "listed", lambda _: None)
    meeting = Meeting(tmp_path / "allocation-7-0-0", encrypted=False)

    async def wait():
        waiting = asyncio.ensure_future(meeting.address(2))
        await asyncio.sleep(0)
        meeting.open("7")
        meeting.tell(address="tcp://a:1")
        return await waiting

    assert asyncio.run(wait()) == "tcp://a:1"
    meeting.tell(error="no interface ib7")
    with pytest.raises(ClusterError, match="no interface ib7"):
        asyncio.run(meeting.address(2))


def test_who_comes_when_all_is_over_learns_that_and_who_is_about_to_join_is_waited_for(
    tmp_path, monkeypatch, wait_until
):
    monkeypatch.setattr(meetings, "listed", lambda _: None)
    meeting = Meeting(tmp_path / "a.jobs/allocation-7-0-0", encrypted=False)
    meeting.open("7")
    meeting.tell(address="tcp://a:1")
    assert asyncio.run(meeting.address(1)) == asyncio.run(meeting.address(2)) == "tcp://a:1"
    meeting.note("joined", 1)
    meeting.note("came", 5)
    os.utime(meeting.folder / "came-5", (0, 0))  # it died long ago
    assert not meeting.is_over

    dismissing = threading.Thread(target=meeting.dismiss)
    dismissing.start()
    wait_until(lambda: meeting.is_over)
    with pytest.raises(EndedError):
        asyncio.run(meeting.address(3))
    assert dismissing.is_alive()  # the second has not joined
    meeting.note("joined", 2)
    dismissing.join(20)
    assert not dismissing.is_alive()

    closing = threading.Thread(target=meeting.close, args=(5, time.monotonic() + 60))
    closing.start()
    assert meeting.folder.exists()
    with pytest.raises(EndedError):
        asyncio.run(meeting.address(4))
    closing.join(20)
    assert meeting.is_over
    assert list(tmp_path.iterdir()) == []
    meeting.open("7")
    meeting.close(5, time.monotonic() - 1)  # nobody is waited for for ever
    assert list(tmp_path.iterdir()) == []
