"""The batch scripts in examples/hpc, submitted to a real Slurm as they stand."""

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
MODEL = """
import os, time

def fitness(params, context):
    with open("begun", "a") as file:
        file.write(f"{context.id} {os.environ.get('CUDA_VISIBLE_DEVICES')} {os.environ.get('L2L_JOB_END')}\\n")
    time.sleep(float(open("seconds").read()))
    return params["tau"] + params["omega"]
"""


@pytest.fixture
def place(tmp_path, slurm):
    """A folder with the examples and an environment, where evaluations take as long as the file ``seconds`` says."""
    return Place(tmp_path, slurm)


class Place:
    def __init__(self, folder, slurm):
        self.folder, self.slurm = folder, slurm
        shutil.copytree(ROOT / "examples/hpc", folder / "examples/hpc")
        (folder / "examples/my_model.py").write_text(MODEL)
        (folder / ".venv").symlink_to(Path(sys.prefix))
        self.budget(40, 0)

    def budget(self, evaluations, seconds):
        text = (ROOT / "examples/my-model.toml").read_text()
        text = re.sub(r"evaluations = \d+", f"evaluations = {evaluations}", text).replace("steady-state-ga", "random")
        (self.folder / "examples/my-model.toml").write_text(text)
        self.set_seconds(seconds)

    def set_seconds(self, seconds):
        """Say how long evaluations take from now on."""
        (self.folder / "examples/new").write_text(f"{seconds}")
        os.replace(self.folder / "examples/new", self.folder / "examples/seconds")

    def edit(self, script, *changes):
        path = self.folder / f"examples/hpc/{script}.sbatch"
        text = path.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)

    def submit(self, script, *options):
        command = ("sbatch", "--parsable", f"--chdir={self.folder}", *options, f"examples/hpc/{script}.sbatch")
        before = os.getcwd()
        os.chdir(self.folder)
        try:
            return self.slurm.run(*command).strip()
        finally:
            os.chdir(before)

    def begun(self):
        begun = self.folder / "examples/begun"
        return len(begun.read_text().splitlines()) if begun.exists() else 0

    def shown(self, store="my-model"):
        from l2l_dask.trajectory import load

        return load(self.folder / f"examples/runs/{store}.zarr")

    def ended(self, job, *, seconds=120):
        """Wait for a job's end; what it printed says why, if it is another."""
        self.slurm.wait_for(lambda: self.slurm.job(job).ended, seconds)
        return self.slurm.job(job).state

    def printed(self):
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.out")))

    def successors(self):
        return [job for job in self.slurm.jobs() if job.state == "PENDING" and job.reason == "Dependency"]

    def hold_successor(self):
        """Let it wait until it is released, that what its predecessor left can be looked at."""
        [successor] = self.successors()
        self.slurm.run("scontrol", "hold", successor.id)
        return successor.id

    def release(self, job):
        self.slurm.run("scontrol", "release", job)

    def none_is_left(self):
        self.slurm.wait_for(lambda: all(job.ended for job in self.slurm.jobs()))

    def tell(self, job):
        """What --signal does before a walltime."""
        self.slurm.run("scancel", "--signal=INT", "--batch", job)

    def all_evaluated(self, n, store="my-model"):
        found = self.shown(store)
        assert found.state == "finished", self.printed()
        assert found.counts()["done"] == found.counts()["total"] == n
        return True


def test_one_node_finishes_what_was_interrupted_and_leaves_alone_what_has_finished(place):
    place.budget(40, 0.5)
    job = place.submit("one-node", "--cpus-per-task=1")
    place.slurm.wait_for(lambda: place.begun() > 5)
    place.tell(job)
    place.ended(job)
    interrupted = place.shown()
    assert (interrupted.state, interrupted.details["reason"]) == ("stopped", "interrupted by SIGINT"), place.printed()
    assert 5 < interrupted.counts()["done"] < 40

    place.set_seconds(0)
    for _ in range(2):  # what has finished is left alone
        assert place.ended(place.submit("one-node", "--cpus-per-task=1")) == "COMPLETED", place.printed()
        assert place.all_evaluated(40)
        assert place.begun() == 40  # none of them twice: what ran was let end


def test_an_array_searches_with_a_seed_and_a_store_for_each_number(place):
    job = place.submit("array", "--array=1-2", "--cpus-per-task=1")
    for number in (1, 2):
        assert place.ended(f"{job}_{number}") == "COMPLETED", place.printed()
        assert place.all_evaluated(40, f"my-model-{number}")
    first, second = (place.shown(f"my-model-{number}") for number in (1, 2))
    assert first.individual(0).params != second.individual(0).params


def test_each_element_of_an_array_knows_its_own_end(place):
    place.budget(20, 0.2)
    job = place.submit("array", "--array=1-2", "--cpus-per-task=1")
    for number in (1, 2):  # one of them has the array's own id
        place.ended(f"{job}_{number}")
    ends = [line.split()[2] for line in (place.folder / "examples/begun").read_text().splitlines()]
    assert len(ends) == 40
    assert all(1000 < float(end) - time.time() <= 1800 for end in ends)


def test_each_evaluation_of_a_job_with_gpus_sees_its_own(place):
    # This Slurm has no GPUs to give: the variable that it would set stands in.
    gres = ('job_extra_directives = ["--gres=gpu:4"]\n', "")
    devices = ('["source .venv/bin/activate"]', '["source .venv/bin/activate", "export CUDA_VISIBLE_DEVICES=0,1,2,3"]')
    place.edit("gpus", gres, devices, ("workers = 2", "workers = 1"))
    place.budget(40, 0.1)
    assert place.ended(place.submit("gpus", "--mem=1G")) == "COMPLETED", place.printed()
    assert place.all_evaluated(40)
    seen = {line.split()[1] for line in (place.folder / "examples/begun").read_text().splitlines()}
    assert seen == {"0", "1", "2", "3"}
    place.none_is_left()


def test_a_chain_goes_on_by_itself_and_ends_when_the_search_has_finished(place):
    place.edit("workers", ("workers = 4", "workers = 1"), ("cores = 4", "cores = 2"))
    place.budget(40, 1)
    job = place.submit("workers", "--mem=1G")
    place.slurm.wait_for(lambda: place.begun() > 5)
    successor = place.hold_successor()
    place.tell(job)
    place.ended(job)
    assert place.shown().counts()["done"] < 40
    place.set_seconds(0)
    place.release(successor)
    assert place.ended(successor) == "COMPLETED", place.printed()
    assert place.all_evaluated(40)
    place.none_is_left()
    assert place.begun() == 40


def test_a_chain_that_is_cancelled_ends(place):
    place.budget(4000, 0.1)
    job = place.submit("workers", "--mem=1G")
    place.slurm.wait_for(lambda: place.begun() > 0)
    assert len(place.successors()) == 1
    place.slurm.cancel(job)
    place.none_is_left()


def roles(slurm):
    """Find the tasks of an allocation by their numbers."""
    found = {}
    for process in slurm.processes():
        try:
            if "allocation" in process.cmdline() and process.name() != "srun":
                found.setdefault(int(process.environ()["SLURM_PROCID"]), process)
        except (psutil.Error, KeyError):
            continue
    return found


def test_an_allocation_survives_the_death_of_a_worker_and_goes_on_after_its_walltime(place):
    place.budget(100, 0.5)
    size = ("--nodes=2", "--ntasks-per-node=2")
    job = place.submit("allocation", *size)
    place.slurm.wait_for(lambda: place.begun() > 5)
    [meeting] = place.folder.glob("examples/runs/my-model.jobs/allocation-*")
    assert meeting.stat().st_mode & 0o777 == 0o700
    assert json.loads((meeting / "scheduler.json").read_text())["address"].startswith("tls://")
    before = place.begun()
    roles(place.slurm)[3].kill()
    place.slurm.wait_for(lambda: place.begun() > before + 10)
    successor = place.hold_successor()
    place.tell(job)
    place.ended(job)
    assert place.shown().details["reason"] == "interrupted by SIGINT", place.printed()
    place.set_seconds(0)
    place.release(successor)
    assert place.ended(successor) == "COMPLETED", place.printed()
    assert place.all_evaluated(100)
    place.none_is_left()
    assert not meeting.parent.exists()


def test_a_task_that_comes_when_the_search_is_over_holds_up_nobody(place):
    late = place.folder / "late"
    late.write_text('#!/bin/bash\n[ "$SLURM_PROCID" = 3 ] && sleep 10\nexec python "$@"\n')
    late.chmod(0o755)
    place.edit("allocation", ("python=python\n", f"python={late}\n"))
    job = place.submit("allocation", "--nodes=2", "--ntasks-per-node=2")
    assert place.ended(job, seconds=120) == "COMPLETED", place.printed()  # it would wait for 180 s
    assert place.all_evaluated(40)
    assert not (place.folder / "examples/runs/my-model.jobs").exists()


@pytest.mark.soak
def test_what_remains_of_an_allocation_ends_when_its_driver_is_killed(place):
    place.budget(400, 0.1)
    job = place.submit("allocation", "--nodes=1", "--ntasks-per-node=3")
    place.slurm.wait_for(lambda: place.begun() > 5)
    roles(place.slurm)[1].kill()
    place.ended(job)
    assert not (place.folder / "examples/runs/my-model.jobs").exists()


@pytest.mark.soak
def test_slurm_tells_a_job_of_its_walltime_and_nothing_is_lost(place):
    place.budget(150, 0.2)
    place.edit("one-node", ("INT@120", "INT@20"))
    job = place.submit("one-node", "--cpus-per-task=1")
    place.slurm.wait_for(lambda: place.begun() > 5)
    place.slurm.end_soon(job, 22)
    place.ended(job, seconds=90)
    assert place.shown().details["reason"] == "interrupted by SIGINT", place.printed()
    assert place.ended(place.submit("one-node", "--cpus-per-task=1")) == "COMPLETED", place.printed()
    assert place.all_evaluated(150)
    assert place.begun() == 150


@pytest.mark.soak
def test_an_allocation_survives_the_crash_of_a_node_of_workers(place):
    place.budget(300, 0.3)
    job = place.submit("allocation", "--nodes=2", "--ntasks-per-node=3")
    place.slurm.wait_for(lambda: place.begun() > 5)
    driver, worker = (node_of(place.slurm, rank) for rank in (1, 5))
    assert driver != worker
    place.slurm.crash(worker)
    place.ended(job, seconds=240)
    assert place.all_evaluated(300)
    place.none_is_left()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_chain_whose_node_crashed_goes_on_in_the_same_job_with_the_same_successor(place):
    place.edit("workers", ("workers = 4", "workers = 1"), ("cores = 4", "cores = 2"))
    place.budget(300, 0.3)
    job = place.submit("workers", "--mem=1G")
    place.slurm.wait_for(lambda: place.begun() > 5)
    [successor] = place.successors()
    node = place.slurm.job(job).node
    place.slurm.crash(node)
    place.slurm.notice(node)
    place.slurm.wait_for(lambda: place.slurm.job(job).state == "RUNNING", 300)
    before = place.begun()
    place.slurm.wait_for(lambda: place.begun() > before + 10, 120)
    assert [each.id for each in place.successors()] == [successor.id]
    assert place.ended(job, seconds=240) == "COMPLETED", place.printed()
    assert place.all_evaluated(300)
    place.none_is_left()


def node_of(slurm, rank):
    return next(node for node in slurm.nodes if roles(slurm)[rank] in slurm.processes(node))
