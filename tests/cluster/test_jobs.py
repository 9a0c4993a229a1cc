"""Jobs as text, for every batch system; submitted for real to this machine, and in tests/hpc to a Slurm."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from l2l_dask.cluster import jobs, tls
from l2l_dask.cluster.profiles import Profile
from l2l_dask.cluster.systems import SYSTEMS
from l2l_dask.errors import ClusterError

SIZE = {"cores": 4, "memory": "8 GB"}
OPTIONS = {"htcondor": SIZE | {"disk": "1 GB"}, "oar": SIZE | {"memory_per_core_property_name": "mem_core"}}
WITH_WALLTIME = [name for name in SYSTEMS if name != "htcondor"]
BATCH = [name for name in SYSTEMS if name != "local"]
LOCAL = Profile("local", {"cores": 1, "memory": "1 GB"})


def profile(system, **more):
    return Profile(system, OPTIONS.get(system, SIZE) | more)


def script(system, **more):
    return jobs.worker_job(profile(system, **more), "l2l-1", "tcp://10.0.0.1:8786", None).job_script()


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_worker_job_is_one_worker_process_of_as_many_slots_as_the_job_has_cores(system):
    text = script(system)
    assert "distributed.cli.dask_worker tcp://10.0.0.1:8786" in text
    assert "--nthreads 4" in text
    assert "--nworkers" not in text
    assert re.search(r"--resources '?'?cores=4", text)
    assert f"{sys.executable} -P -m" in text  # a user's folder named dask hides nothing
    assert "--dashboard-address 127.0.0.1:0" in text


@pytest.mark.parametrize("system", WITH_WALLTIME)
def test_a_job_knows_when_it_will_be_ended(system):
    text = script(system, walltime="00:30:00")
    line = next(line for line in text.splitlines() if "L2L_JOB_END" in line)
    before = int(time.time())
    told = subprocess.run(["bash", "-c", f"{line}; echo $L2L_JOB_END"], capture_output=True, text=True, check=True)
    assert before + 1800 <= int(told.stdout) <= time.time() + 1800
    assert text.index("L2L_JOB_END") < text.index("dask_worker")


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_prologue_comes_before_the_worker(system):
    text = script(system, job_script_prologue=["module load NEST"])
    assert text.index("module load NEST") < text.index("dask_worker")


@pytest.mark.parametrize(
    ("system", "directive"),
    [("slurm", "#SBATCH --no-requeue"), ("pbs", "#PBS -r n"), ("sge", "#$ -r n"), ("lsf", "#BSUB -rn")],
)
def test_the_batch_system_does_not_start_a_worker_job_again(system, directive):
    assert directive in script(system).splitlines()


@pytest.mark.parametrize(
    ("system", "directive"),
    [
        ("slurm", "#SBATCH --dependency=afterany:77"),
        ("pbs", "#PBS -W depend=afterany:77"),
        ("sge", "#$ -hold_jid 77"),
        ("lsf", '#BSUB -w "ended(77)"'),
        ("oar", "#OAR -a 77"),
    ],
)
def test_a_successor_waits_for_the_end_of_another_job_however_it_comes(system, directive):
    job = jobs.command_job(profile(system), "next", ["python", "-m", "it"], after="77")
    assert directive in job.job_script().splitlines()


@pytest.mark.parametrize("system", [name for name in BATCH if SYSTEMS[name].variable])
def test_a_job_knows_itself_by_the_id_that_it_was_submitted_with(system, monkeypatch):
    variable = SYSTEMS[system].variable
    monkeypatch.setenv(variable, "1234.server.site" if system == "pbs" else "1234")
    assert jobs.own_id(profile(system)) == "1234"
    monkeypatch.delenv(variable)
    assert jobs.own_id(profile(system)) is None


@pytest.mark.parametrize("system", [name for name in BATCH if SYSTEMS[name].after])
def test_a_command_takes_the_place_of_the_shell_so_that_signals_reach_it(system):
    job = jobs.command_job(profile(system), "it", ["python", "-m", "it", "a folder"])
    assert re.search(r"exec python -m it '+a folder'", job.job_script())


def test_a_job_asks_for_what_the_profile_says():
    wanted = {"queue": "gpu", "account": "brain", "walltime": "02:00:00", "job_extra_directives": ["--gres=gpu:4"]}
    job = jobs.worker_job(profile("slurm", **wanted), "l2l-1", "tcp://a:1", None, offers={"GPU": 4})
    lines = job.job_script().splitlines()
    for line in ("-p gpu", "-A brain", "-t 02:00:00", "--gres=gpu:4", "-n 1", "--cpus-per-task=4", "--mem=8G"):
        assert f"#SBATCH {line}" in lines
    assert "--resources 'cores=4 GPU=4'" in job.job_script()


def test_a_job_s_script_holds_no_secret(tmp_path):
    secured = tls.make(tmp_path / "tls")
    text = jobs.worker_job(profile("slurm"), "l2l-1", "tls://a:1", secured).job_script()
    assert f"--tls-key {secured.key}" in text
    assert "PRIVATE" not in text
    assert "PRIVATE KEY" in secured.key.read_text()


def test_the_key_can_be_read_by_its_owner_alone(tmp_path):
    before = os.umask(0)
    try:
        secured = tls.make(tmp_path / "tls")
    finally:
        os.umask(before)
    assert stat.S_IMODE(secured.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secured.folder.iterdir()} == {0o600}
    secured.remove()
    assert not secured.folder.exists()


def test_importing_a_batch_system_leaves_ctrl_c_as_it_was():
    code = (
        "import signal; before = signal.getsignal(signal.SIGINT)\n"
        "from l2l_dask.cluster.systems import SYSTEMS; SYSTEMS['slurm'].job_class()\n"
        "assert signal.getsignal(signal.SIGINT) is before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_batch_system_s_commands_it_is_said_where_to_be(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ClusterError, match="sbatch is not installed here: is this machine a login node"):
        jobs.submit(jobs.worker_job(profile("slurm"), "l2l-1", "tcp://a:1", None))


def command(folder: Path, *lines: str):
    path = folder / "sbatch"
    path.write_text("#!/bin/bash\n" + "\n".join(lines))
    path.chmod(0o755)


def test_a_refusal_is_told_in_the_batch_system_s_own_words(tmp_path, monkeypatch):
    command(tmp_path, "echo 'sbatch: error: invalid partition specified: bach' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ClusterError) as error:
        jobs.submit(jobs.worker_job(profile("slurm"), "l2l-1", "tcp://a:1", None))
    assert str(error.value) == "`sbatch` refused a job: sbatch: error: invalid partition specified: bach"


def test_a_job_that_is_submitted_from_within_another_takes_nothing_from_it(tmp_path, monkeypatch):
    command(tmp_path, f"env > {tmp_path}/seen; echo 'Submitted batch job 12'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "500")
    monkeypatch.setenv("L2L_JOB_END", "1")
    monkeypatch.setenv("SBATCH_PARTITION", "other")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    assert jobs.submit(jobs.worker_job(profile("slurm"), "l2l-1", "tcp://a:1", None)) == "12"
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines() if "=" in line)
    assert [name for name in seen if name.startswith(("SLURM", "SBATCH", "L2L_"))] == ["SLURM_CONF"]


def test_jobs_that_cannot_be_cancelled_are_named_with_the_command_that_does_it(tmp_path, monkeypatch, caplog):
    for name in ("scancel", "squeue"):
        command(tmp_path, "echo 'error: Unable to contact slurm controller' >&2; exit 1")
        (tmp_path / "sbatch").rename(tmp_path / name)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    jobs.cancel(profile("slurm"), ["7", "8"])
    assert "the batch system does not answer; once it does: scancel 7 8" in caplog.text
    command(tmp_path, "echo '9 RUNNING None'")
    (tmp_path / "sbatch").rename(tmp_path / "squeue")
    caplog.clear()
    jobs.cancel(profile("slurm"), ["7", "8"])  # which ended meanwhile
    assert not caplog.text


INTERRUPTED = """
import signal
from l2l_dask.cluster import jobs
from l2l_dask.cluster.profiles import Profile
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background may have it ignore
jobs.submit(jobs.worker_job(Profile("slurm", {"cores": 1, "memory": "1 GB"}), "l2l-1", "tcp://a:1", None))
"""


def test_a_job_that_ctrl_c_came_upon_is_cancelled_once_its_id_is_known(tmp_path):
    command(tmp_path, f"touch {tmp_path}/asked; sleep 1; echo Submitted batch job 7")
    (tmp_path / "scancel").write_text(f"#!/bin/bash\necho $* > {tmp_path}/cancelled")
    (tmp_path / "scancel").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as driver:
        until((tmp_path / "asked").exists)
        os.killpg(driver.pid, signal.SIGINT)
        assert "KeyboardInterrupt" in driver.communicate(timeout=60)[1]
    assert (tmp_path / "cancelled").read_text() == "7\n"


# Processes of this machine, the twin of a batch system


def run(command, tmp_path, **more):
    return jobs.submit(jobs.command_job(LOCAL, "it", command, logs=tmp_path, **more))


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_process_is_submitted_watched_and_cancelled_with_what_it_started(tmp_path, alive):
    id = run(["bash", "-c", f"sleep 600 & echo $! > {tmp_path}/child; wait"], tmp_path)
    until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
    assert jobs.states(LOCAL, [id]) == {id: ("running", "")}
    jobs.cancel(LOCAL, [id])
    until(lambda: jobs.states(LOCAL, [id]) == {})
    child = int((tmp_path / "child").read_text())
    until(lambda: not alive(child))
    jobs.cancel(LOCAL, [id])  # once more does no harm


def test_a_process_that_waits_for_another_begins_when_that_was_killed(tmp_path):
    first = run(["sleep", "600"], tmp_path)
    second = run(["touch", f"{tmp_path}/begun"], tmp_path, after=first)
    time.sleep(0.5)
    assert not (tmp_path / "begun").exists()
    os.kill(int(first.partition("-")[0]), signal.SIGKILL)
    os.waitpid(int(first.partition("-")[0]), 0)
    until((tmp_path / "begun").exists)
    until(lambda: not jobs.states(LOCAL, [second]))
