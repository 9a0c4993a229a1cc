"""Batch scripts as text; they are submitted to a real Slurm in tests/hpc."""

import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from l2l_dask.cluster.scripts import KINDS, Wanted, script
from l2l_dask.config import ClusterSection
from l2l_dask.errors import L2LError

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples/hpc").glob("*.sbatch"))


def text(kind="one-node", config="my model.toml", store="runs/my model.zarr", **options):
    options = ({"cores": 4} if kind == "allocation" else {}) | options
    return script(Wanted(config, store, kind, **options))


def section(wanted):
    return tomllib.loads(wanted.partition("<<'END'\n")[2].partition("\nEND\n")[0])["cluster"]


@pytest.mark.parametrize("chain", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_script_is_bash_and_goes_on_where_there_is_a_store(kind, chain):
    if chain and kind == "array":
        return
    wanted = text(kind, chain=chain, prologue=["module load NEST"], python="$HOME/my venv/bin/python")
    subprocess.run(["bash", "-n"], input=wanted, text=True, check=True)
    assert 'if [ -e "$store" ]; then set -- resume "$store"; else set -- run "$config" --store "$store"' in wanted
    assert "#SBATCH --signal=B:INT@120\n" in wanted
    assert "#SBATCH --requeue\n" in wanted
    assert wanted.index("module load NEST") < wanted.index("$python")
    for what in ("Submit", "Watch", "Stop", "Continue"):
        assert f"\n# {what}  " in wanted


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_chain_the_search_takes_the_place_of_the_shell(kind):
    assert text(kind).endswith('\nexec "$@"\n')


def test_one_node_is_used_as_a_whole_or_by_so_many_cores():
    assert "--exclusive" in text()
    assert '--workers "$SLURM_CPUS_ON_NODE"' in text()
    assert "--cpus-per-task=8\n#SBATCH --mem=15G\n" in text(cores=8, memory="16 GB")
    assert '--workers "$SLURM_CPUS_PER_TASK"' in text(cores=8)
    assert '--workers "$(( SLURM_CPUS_PER_TASK / 2 ))"' in text(cores=8, takes={"cores": 2})


def test_worker_jobs_ask_for_what_was_wanted():
    wanted = text(
        "workers", workers=8, cores=16, memory="32 GB", walltime="06:00:00", partition="gpu", account="brain", gpus=4,
        prologue=["module load CUDA"], takes={"cores": 4},
    )  # fmt: skip
    found = ClusterSection.model_validate(section(wanted))
    assert (found.profile, found.workers, found.offers, found.resources) == (
        "slurm", 8, {"GPU": 4}, {"GPU": 1, "cores": 4},
    )  # fmt: skip
    assert found.options == {
        "cores": 16, "memory": "32 GB", "walltime": "06:00:00", "queue": "gpu", "account": "brain",
        "job_extra_directives": ["--gres=gpu:4"], "job_script_prologue": ["module load CUDA"],
    }  # fmt: skip
    assert "#SBATCH --partition=gpu\n#SBATCH --account=brain\n" in wanted
    assert "--gres" not in wanted.partition("[cluster]")[0]  # the driver needs none


def test_an_allocation_has_a_task_for_each_evaluation_at_a_time():
    assert "#SBATCH --nodes=4 --ntasks-per-node=12 --cpus-per-task=4\n" in text(
        "allocation", nodes=4, cores=48, takes={"cores": 4}
    )
    assert "srun --cpus-per-task" in text("allocation")
    assert "--kill-on-bad-exit=0" in text("allocation")


@pytest.mark.parametrize(("given", "spec"), [(None, "1-4"), ("20", "1-20"), ("3,5,7-9", "3,5,7-9"), ("1-9%2", "1-9%2")])
def test_an_array_has_a_seed_and_a_store_for_each_number(given, spec):
    wanted = text("array", store="runs/a-$SLURM_ARRAY_TASK_ID.zarr", array=given)
    assert f"#SBATCH --array={spec}\n" in wanted
    assert '--seed "$SLURM_ARRAY_TASK_ID"' in wanted
    assert 'store="runs/a-$SLURM_ARRAY_TASK_ID.zarr"' in wanted


@pytest.mark.parametrize(
    "end", ["2030-01-01T00:00:00", "N/A", "", "2030-01-01T00:00:00\\n2030-01-01T00:00:01", "NOT_SET"]
)
def test_a_job_is_told_its_end_as_a_number_or_not_at_all(end, tmp_path):
    (tmp_path / "squeue").write_text(f"#!/bin/sh\nprintf '{end}\\n'\n")
    (tmp_path / "squeue").chmod(0o755)
    lines = text("array", store="a-$SLURM_ARRAY_TASK_ID.zarr").splitlines()
    at = lines.index("unset L2L_JOB_END")
    asked = "\n".join([*lines[at : at + 3], "echo ${L2L_JOB_END-none}"])
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TZ": "UTC", "L2L_JOB_END": "1000"}  # of another job
    told = subprocess.run(["bash", "-c", asked], env=environment, capture_output=True, text=True, check=True).stdout
    assert told == ("1893456000\n" if end == "2030-01-01T00:00:00" else "none\n")


def test_a_short_job_is_told_of_its_end_after_three_quarters_of_it():
    assert "--signal=B:INT@30\n" in text(walltime="00:02:00")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"nodes": 2}, "--nodes is for --kind allocation, got --kind one-node"),
        ({"kind": "allocation", "cores": None}, "how many cores of each node"),
        ({"kind": "allocation", "nodes": 1, "cores": 2}, "room for at least 3 tasks"),
        ({"gpus": 4}, "--kind workers --workers 1 --gpus 4"),
        ({"kind": "array", "chain": True}, "submit the file again"),
        ({"memory": "much"}, '--memory: expected such as "8 GB"'),
        ({"walltime": "long"}, "walltime: expected such as"),
        ({"partition": "a b"}, "--partition: expected a word"),
        ({"prologue": ["a\nb"]}, "--prologue can be given more than once"),
        ({"cores": 2, "takes": {"cores": 4}}, "an evaluation takes 4"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(options, why):
    with pytest.raises(L2LError, match=why) as refused:
        text(**options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_what_the_command_in_it_prints(path):
    command = next(line for line in path.read_text().splitlines() if line.startswith("# l2l batch-script"))
    words = shlex.split(command)[2:]
    done = subprocess.run(
        [sys.executable, "-m", "l2l_dask", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == path.read_text()


def test_there_is_an_example_of_each_kind():
    assert {path.stem for path in EXAMPLES} == {"one-node", "workers", "array", "gpus", "allocation"}
