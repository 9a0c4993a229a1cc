"""Batch scripts for Slurm, as text for someone who keeps and edits them: each starts a search, and goes on with it."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dask

from l2l_dask.cluster.profiles import seconds
from l2l_dask.cluster.systems import SYSTEMS
from l2l_dask.errors import ConfigError
from l2l_dask.walltime import JOB_END

KINDS = ("one-node", "workers", "allocation", "array")
_NOTICE = 120  # seconds before its walltime at which a job is told to end; less if it is short
_WHERE = {
    "one-node": "on the cores of one node",
    "workers": "by a small job that submits worker jobs, and replaces those that end",
    "allocation": "on all nodes of one job",
    "array": "several times with different seeds, each on one node",
}
_WORD = re.compile(r"[\w.,:@%+=/-]+")


@dataclass(frozen=True)
class Wanted:
    """What a script is to do and to ask for.

    Attributes
    ----------
    config, store
        The experiment's file, and its store, as they are to be written.
    kind
        One of :data:`KINDS`.
    nodes
        Of an allocation.
    workers
        How many worker jobs.
    cores, memory, gpus
        Of a node that is used, or of a worker job; without cores a node is taken as a whole.
    walltime, partition, account
        As Slurm takes them; of worker jobs too.
    array
        How many searches, or which: ``"20"``, ``"3,5,7-9"``, ``"1-100%10"``.
    prologue
        Commands that come first.
    python
        The interpreter that has l2l_dask.
    chain
        Whether the job submits its own successor.
    takes
        What one evaluation takes: the ``resources`` of the experiment's file.
    command
        By which the script was wanted.
    """

    config: str
    store: str
    kind: str = "one-node"
    nodes: int | None = None
    workers: int | None = None
    cores: int | None = None
    memory: str | None = None
    walltime: str = "01:00:00"
    partition: str | None = None
    account: str | None = None
    gpus: int = 0
    array: str | None = None
    prologue: Sequence[str] = ()
    python: str = "python"
    chain: bool = False
    takes: Mapping[str, float] = field(default_factory=dict)
    command: str = "l2l batch-script"

    def __post_init__(self) -> None:
        self._refuse_what_makes_no_sense()
        seconds(self.walltime, SYSTEMS["slurm"])
        if self.memory is not None:
            _memory(self.memory)
        for name in ("walltime", "partition", "account", "array"):
            given = getattr(self, name)
            if given is not None and not _WORD.fullmatch(given):
                raise ConfigError(f"--{name}: expected a word as Slurm takes it, got {given!r}")
        for line in (*self.prologue, self.python, self.config, self.store, self.command):
            if "\n" in line:
                raise ConfigError(f"expected one line, got {line!r}: --prologue can be given more than once")
        if self.cores is not None and self.cores < self.each:
            raise ConfigError(
                f"--cores: an evaluation takes {self.each} (resources of {self.config}), got {self.cores}"
            )

    def _refuse_what_makes_no_sense(self) -> None:
        for name, kind in (("nodes", "allocation"), ("workers", "workers"), ("array", "array")):
            if getattr(self, name) is not None and self.kind != kind:
                raise ConfigError(f"--{name} is for --kind {kind}, got --kind {self.kind}")
        if self.kind == "allocation" and self.cores is None:
            raise ConfigError("--kind allocation: how many cores of each node? --cores 48")
        if self.gpus > 1 and self.kind in ("one-node", "array"):
            # Local workers are processes of one slot each, which all would see the first device.
            raise ConfigError(
                f"--gpus {self.gpus}: for one node with several, --kind workers --workers 1 --gpus {self.gpus}"
            )
        if self.gpus and self.kind == "allocation":
            raise ConfigError(
                "--gpus: not for --kind allocation, whose tasks would share them; --kind workers gives each its own"
            )
        if self.chain and self.kind == "array":
            raise ConfigError(
                "--chain is not for --kind array: submit the file again, elements that have finished end at once"
            )

    @property
    def each(self) -> int:
        """Cores that one evaluation takes."""
        return max(1, math.ceil(self.takes.get("cores", 1)))

    @property
    def name(self) -> str:
        """Of the job."""
        stem = self.store.rsplit("/", 1)[-1].removesuffix(".zarr").replace("$SLURM_ARRAY_TASK_ID", "")
        return "l2l-" + (re.sub(r"[^\w.-]+", "-", stem).strip("-") or "search")

    @property
    def notice(self) -> int:
        return max(1, min(_NOTICE, int(seconds(self.walltime, SYSTEMS["slurm"]) / 4)))


def script(wanted: Wanted) -> str:
    """Write a script."""
    parts = [_header(wanted), _directives(wanted), _settings(wanted)]
    if wanted.kind == "workers":
        parts.append(_cluster(wanted))
    parts += [_what(wanted), _CHAINED if wanted.chain else _PLAIN]
    return "\n".join(parts)


def _header(wanted: Wanted) -> str:
    array, store = wanted.kind == "array", _shown(wanted)
    look = f"l2l list {_folder(wanted)}" if array else f"l2l show {store}"
    lines = [
        f"Searches {wanted.config} {_WHERE[wanted.kind]}.",
        "",
        f"Submit     sbatch THIS_FILE, from the folder in which {wanted.config} is found under this name.",
        f"Watch      {look}; squeue --me; the job's output, {_output(wanted)}.",
        f"Stop       l2l stop {store}: what runs may end. scancel JOB{'_NUMBER' if array else ''}: at once.",
        "Continue   Submit this file again: the search goes on where it was, whatever ended it: walltime,",
        "           preemption, a crash. One that has finished stays as it is.",
    ]
    if wanted.chain:
        lines += [
            "Chain      Each job submits its successor, which waits for its end and goes on. A search that has",
            "           finished, failed or was stopped (also by scancel) cancels it.",
        ]
    lines += ["", "Printed by the following command, and in need of nothing else: edit it as you like.", wanted.command]
    return "#!/bin/bash\n" + "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _shown(wanted: Wanted) -> str:
    return (
        shlex.quote(wanted.store) if "$" not in wanted.store else wanted.store.replace("$SLURM_ARRAY_TASK_ID", "NUMBER")
    )


def _folder(wanted: Wanted) -> str:
    return shlex.quote(wanted.store.rpartition("/")[0] or ".")


def _output(wanted: Wanted) -> str:
    return f"{wanted.name}-JOB{'_NUMBER' if wanted.kind == 'array' else ''}.out"


def _directives(wanted: Wanted) -> str:
    output = "%x-%A_%a.out" if wanted.kind == "array" else "%x-%j.out"
    lines = [f"#SBATCH --job-name={wanted.name}", f"#SBATCH --output={output}"]
    lines += ["#SBATCH --open-mode=append"]
    lines += _size(wanted)
    lines.append(f"#SBATCH --time={wanted.walltime}")
    if wanted.partition:
        lines.append(f"#SBATCH --partition={wanted.partition}")
    if wanted.account:
        lines.append(f"#SBATCH --account={wanted.account}")
    if wanted.kind == "array":
        spec = wanted.array or "4"
        lines += ["# One search for each of these numbers, which are their seeds; %8 behind them: eight at a time."]
        lines += [f"#SBATCH --array={'1-' + spec if spec.isdigit() else spec}"]
    lines += [
        f"# Told {wanted.notice} s before its walltime, it asks for no more, and lets end what runs.",
        f"#SBATCH --signal=B:INT@{wanted.notice}",
        "# After preemption or the crash of a node Slurm starts it again.",
        "#SBATCH --requeue",
    ]
    return "\n".join(lines) + "\n"


def _size(wanted: Wanted) -> list[str]:
    """List what the job itself asks for."""
    memory = [f"#SBATCH --mem={_memory(wanted.memory)}"] if wanted.memory else []
    if wanted.kind == "workers":
        return ["# For the driver alone.", "#SBATCH --nodes=1 --ntasks=1 --cpus-per-task=1", "#SBATCH --mem=4G"]
    if wanted.kind == "allocation":
        assert wanted.cores is not None
        tasks = wanted.cores // wanted.each
        nodes = wanted.nodes or 2
        if nodes * tasks < 3:
            raise ConfigError(
                "--kind allocation: expected room for at least 3 tasks (a scheduler, a driver, workers) of "
                f"{wanted.each} core(s), got {nodes} node(s) of {wanted.cores}"
            )
        return [
            "# A task for each evaluation at a time; two of them are the scheduler and the driver. Fewer and larger",
            "# tasks, with a slot for each core, need less memory for Python itself.",
            f"#SBATCH --nodes={nodes} --ntasks-per-node={tasks} --cpus-per-task={wanted.each}",
            *memory,
            "# The loss of a node does not end the job.",
            "#SBATCH --no-kill",
        ]
    if wanted.cores is None:
        lines = ["# A whole node.", "#SBATCH --nodes=1 --ntasks=1 --exclusive", *(memory or ["#SBATCH --mem=0"])]
    else:
        lines = [f"#SBATCH --nodes=1 --ntasks=1 --cpus-per-task={wanted.cores}", *memory]
    return lines + ([f"#SBATCH --gres=gpu:{wanted.gpus}"] if wanted.gpus else [])


def _settings(wanted: Wanted) -> str:
    store = wanted.store
    # An element of an array may have the array's own id, which means all of them.
    job = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID" if wanted.kind == "array" else "$SLURM_JOB_ID"
    lines = (
        [*wanted.prologue] if wanted.prologue else ["# module load ..., source ... : what your simulation needs, here."]
    )
    lines += [
        "",
        "# No evaluation begins that the walltime would cut short.",
        f"unset {JOB_END}",
        f'end=$(squeue --noheader --jobs="{job}" --format=%e) && [[ $end == *T* ]] &&',
        f'    end=$(date --date="$end" +%s) && export {JOB_END}="$end"',
    ]
    lines += ["", f"python={_double(wanted.python)}", f"config={_double(wanted.config)}"]
    lines += [f"store={_double(store)}" if "$" not in store else f'store="{store}"']
    refused = 'echo "there is no $config in $PWD: submit this from another folder" >&2; exit 2;'
    lines += [f'[ -f "$config" ] || {{ {refused} }}']
    return "\n".join(lines) + "\n"


def _double(text: str) -> str:
    """Quote for bash, with its ``$HOME`` and the like alive."""
    escaped = re.sub(r'(["`\\])', r"\\\1", text)
    return f'"{escaped}"' if not re.fullmatch(r"[\w./-]+", text) else text


def _cluster(wanted: Wanted) -> str:
    cores = wanted.cores or wanted.each
    directives = [f"--gres=gpu:{wanted.gpus}"] if wanted.gpus else []
    options: dict[str, object] = {"cores": cores, "memory": wanted.memory or "4 GB", "walltime": wanted.walltime}
    if wanted.partition:
        options["queue"] = wanted.partition
    if wanted.account:
        options["account"] = wanted.account
    if directives:
        options["job_extra_directives"] = directives
    if wanted.prologue:
        options["job_script_prologue"] = list(wanted.prologue)
    lines = ["[cluster]", 'profile = "slurm"', f"workers = {wanted.workers or 4}"]
    if wanted.gpus:
        taken = {"GPU": 1.0} | dict(wanted.takes)
        inside = ", ".join(f"{name} = {amount:g}" for name, amount in taken.items())
        lines += ["# What a worker has, and what an evaluation takes of it: each sees the GPUs that are its own."]
        lines += [f"offers = {{GPU = {wanted.gpus}}}", f"resources = {{{inside}}}"]
    lines += ["[cluster.options]", *(f"{name} = {json.dumps(value)}" for name, value in options.items())]
    return (
        "# What each worker job asks for. An evaluation takes a core of it, or what `resources` under [cluster] says;\n"
        "# none begins on a worker whose time is too short for it.\n"
        'cluster="${store%.zarr}.cluster.toml"\n'
        'mkdir -p "$(dirname "$store")"\n'
        "cat > \"$cluster\" <<'END'\n" + "\n".join(lines) + "\nEND\n"
    )


def _where(wanted: Wanted) -> str:
    """Write the options that say where it runs, of run and resume alike."""
    if wanted.kind == "workers":
        return '--cluster "$cluster"'
    if wanted.kind == "allocation":
        return "--cluster allocation"
    cores = "SLURM_CPUS_PER_TASK" if wanted.cores else "SLURM_CPUS_ON_NODE"
    return (
        f'--cluster local --workers "${cores}"'
        if wanted.each == 1
        else (f'--cluster local --workers "$(( {cores} / {wanted.each} ))"')
    )


def _what(wanted: Wanted) -> str:
    run = 'run "$config" --store "$store"' + (' --seed "$SLURM_ARRAY_TASK_ID"' if wanted.kind == "array" else "")
    command = f'"$python" -P -m l2l_dask "$@" {_where(wanted)}'
    lines = ["# Goes on where there is something to go on with."]
    lines += [f'if [ -e "$store" ]; then set -- resume "$store"; else set -- {run}; fi']
    if wanted.kind == "allocation":
        lines += [
            "# All tasks run this; by their numbers the first is the scheduler, the second the driver, all others are",
            "# workers. The death of one leaves the others alone; signals go to the driver.",
        ]
        options = "--kill-on-bad-exit=0 --no-kill --wait=0 --disable-status --mpi=none"
        command = f'srun --cpus-per-task="$SLURM_CPUS_PER_TASK" {options} \\\n    {command}'
    return "\n".join(lines) + f"\nset -- {command}\n"


_PLAIN = '# In place of this shell, so that signals reach it.\nexec "$@"\n'


_CHAINED = """\
# The successor, unless one waits already (this job may have been requeued). It is to take nothing of this job's.
next=$(squeue --me --noheader --states=PENDING --name="$SLURM_JOB_NAME" --format=%A | head -n 1)
[ -n "$next" ] || next=$(
    after="afterany:$SLURM_JOB_ID" name=$SLURM_JOB_NAME
    unset $(compgen -v SLURM_ | grep -vx SLURM_CONF)
    sbatch --parsable --dependency="$after" --job-name="$name" "$0" | cut -d ";" -f 1
)
echo "job ${next:-(none: it could not be submitted)} goes on if this one cannot finish" >&2
no_more() { [ -z "$next" ] || scancel "$next"; }

# Told of its walltime, the driver ends and the successor goes on; cancelled before that, nothing does.
told=
trap 'told=yes; kill -INT "$driver"' INT
trap '[ "$told" ] || no_more; kill -TERM "$driver"' TERM
set -m # or the driver would ignore INT
"$@" &
driver=$!
wait "$driver"; status=$?
while kill -0 "$driver" 2>/dev/null; do wait "$driver"; status=$?; done # a signal ends a wait early

# 0: finished or stopped, 1: failed, 2: could not begin. Else it was interrupted; but if that was at once and nobody
# told it to end, it would be again and again.
if [ "$status" -le 2 ] || { [ -z "$told" ] && [ "$SECONDS" -lt 60 ]; }; then
    no_more
fi
exit "$status"
"""


def _memory(text: str) -> str:
    """Write memory as Slurm takes it; its G are dask-jobqueue's GB.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    try:
        n: int = dask.utils.parse_bytes(text)
    except (ValueError, TypeError):
        raise ConfigError(f'--memory: expected such as "8 GB", got {text!r}') from None
    return f"{math.ceil(n / 2**30)}G" if n >= 2**30 else f"{math.ceil(n / 2**20)}M"
