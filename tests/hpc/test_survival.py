"""A night on a cluster in a quarter of an hour: everything goes wrong once, and the search is whole in the end."""

import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from l2l_dask import load
from l2l_dask.errors import L2LError

EVALUATIONS, JOBS, CORES = 2000, 6, 2
SLOTS = JOBS * CORES
MODEL = """
import time
def slow(params, context):
    time.sleep(1 + 2 * context.rng.random())
    return (params["x"] - 0.3) ** 2
"""
SEARCH = f"""
[optimizee]
name = "model.py:slow"
[space]
x = {{low = -1.0, high = 1.0}}
[objectives]
loss = "minimize"
[optimizer]
name = "steady-state-ga"
[run]
evaluations = {EVALUATIONS}
seed = 1
timeout = 20
"""
CLUSTER = f"""
[cluster]
profile = "slurm"
options = {{cores = {CORES}, memory = "1 GB", walltime = "00:03:00", interface = "lo"}}
"""


def l2l(home: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "l2l_dask", *words], cwd=home, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Witness:
    """Notes what was told while it was told, and says in the end whether any of it was changed."""

    store: Path
    seen: dict = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)
    changed: list = field(default_factory=list)

    def watch(self):
        while not self.over.wait(2.0):
            with suppress(L2LError, OSError):
                record = load(self.store).record
                for id in np.flatnonzero(record["told"] >= 0).tolist():
                    told = (int(record["told"][id]), record["x"][id].tolist(), record["fitness"][id].tolist())
                    if self.seen.setdefault(id, told) != told:
                        self.changed.append((id, self.seen[id], told))


@dataclass
class Night:
    """What happens, and when it did."""

    slurm: object
    home: Path
    happened: list = field(default_factory=list)

    def note(self, what):
        self.happened.append((time.time(), what))
        print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)

    def status(self):
        return json.loads(l2l(self.home, "service", "status", "here", "--json"))

    def jobs(self, *, service):
        return [
            job for job in self.slurm.jobs() if job.state == "RUNNING" and job.name.startswith("l2l-service") == service
        ]

    def node_of_workers(self):
        of_service = {job.node for job in self.jobs(service=True)}
        return next(job.node for job in self.jobs(service=False) if job.node not in of_service)

    def pass_(self):
        slurm = self.slurm
        time.sleep(30)
        slurm.cancel(self.jobs(service=False)[0].id)
        self.note("scancel of a worker job")
        time.sleep(30)
        crashed = self.node_of_workers()
        slurm.crash(crashed)
        self.note(f"kill -9 of a node, {crashed}")
        time.sleep(60)
        slurm.restore(crashed)
        hung = self.node_of_workers()
        slurm.hang(hung)
        self.note(f"a hung node, {hung}")
        time.sleep(75)
        slurm.resume_hung(hung)
        slurm.restore(hung)
        time.sleep(15)
        slurm.refuse_jobs()
        slurm.cancel(self.jobs(service=False)[0].id)
        self.note("sbatch fails for 20 s, and a worker job is cancelled")
        time.sleep(20)
        slurm.accept_jobs()
        time.sleep(30)
        slurm.stop_controller()
        self.note("slurmctld is down for a minute")
        time.sleep(60)
        slurm.start_controller()
        time.sleep(30)
        own = self.jobs(service=True)[0].node
        slurm.crash(own)
        self.note(f"kill -9 of the service's own node, {own}")
        time.sleep(60)
        slurm.restore(own)


def running(record, at):
    """Count the evaluations that ran at given times, of those that came to something."""
    started, finished = np.sort(record["started"]), np.sort(record["finished"])
    return np.searchsorted(started, at, side="right") - np.searchsorted(finished, at, side="right")


def back_at_full_strength(record, since):
    times = np.arange(since + 2, record["finished"].max() - 5, 0.5)
    full = times[running(record, times) >= SLOTS]
    return float(full[0] - since) if len(full) else float("nan")


def longest_idle(record):
    """Return for how long a slot of a worker was idle at most, between the first and the last that it did."""
    longest = 0.0
    for worker in set(record["worker"].tolist()):
        mine = {name: record[name][record["worker"] == worker] for name in ("started", "finished")}
        times = np.arange(mine["started"].min() + 1, mine["finished"].max() - 1, 0.25)
        full = np.flatnonzero(running(mine, times) >= CORES)
        gaps = np.diff(np.concatenate([[0], full, [len(times)]]))
        longest = max(longest, 0.25 * float(gaps.max(initial=1) - 1))
    return longest


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_search_of_2000_evaluations_survives_all_that_can_happen_and_nothing_told_is_lost(
    slurm, tmp_path, monkeypatch
):
    for name, text in (("model.py", MODEL), ("search.toml", SEARCH), ("cluster.toml", CLUSTER)):
        (tmp_path / name).write_text(text)
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    l2l(tmp_path, "service", "start", "here", "--cluster", "cluster.toml", "--min", f"{JOBS}", "--max", f"{JOBS}",
        "--walltime", "00:06:00", "--memory", "500 MB")  # fmt: skip
    l2l(tmp_path, "service", "submit", "here", "search.toml")
    witness = Witness(tmp_path / "here/search.zarr")
    watching = threading.Thread(target=witness.watch, daemon=True)
    watching.start()
    night = Night(slurm, tmp_path)
    night.pass_()
    until = time.monotonic() + 1500
    while load(witness.store).state != "finished":
        assert time.monotonic() < until, night.status()
        time.sleep(2)
    witness.over.set()
    watching.join()
    starts = night.status()["epoch"]
    l2l(tmp_path, "service", "stop", "here")
    record = load(witness.store).record

    print(f"\n{EVALUATIONS} evaluations on {SLOTS} slots, {record['finished'].max() - record['started'].min():.0f} s")
    print(f"sum of their durations / slots: {(record['finished'] - record['started']).sum() / SLOTS:.0f} s")
    again = {what: back_at_full_strength(record, at) for at, what in night.happened}
    for what, seconds in again.items():
        print(f"{what}: full strength after {seconds:.0f} s")
    print(f"longest time that a connected worker was idle: {longest_idle(record):.1f} s")
    print(f"workers: {len(set(record['worker'].tolist()))}, starts of the service: {starts}")

    counts = load(witness.store).counts()
    assert counts["done"] == counts["total"] == EVALUATIONS
    assert not witness.changed
    for id, told in witness.seen.items():
        assert told == (int(record["told"][id]), record["x"][id].tolist(), record["fitness"][id].tolist())
    assert len(witness.seen) > 0.9 * EVALUATIONS
    assert longest_idle(record) < 60
    # Slurm takes half a minute to notice that a node hangs, and may have put the replacement there.
    assert all(seconds < (75 if "hung" in what else 60) for what, seconds in again.items()), again
    assert starts >= 2
    slurm.wait_for(lambda: not [job for job in slurm.jobs() if not job.ended], 30)
