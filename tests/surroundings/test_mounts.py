"""Disks that are full, read-only, broken or forbidden, for real: one line, a store that is whole, and a way on.

Each test runs in a mount namespace of its own, by a script that mounts, breaks and mends what it needs.
"""

import json
import os
import subprocess
import sys

import pytest

PRELUDE = '''
import ctypes, json, os, subprocess, sys, time
from l2l_dask import load

MODEL = """
import os, time
import numpy as np

def fitness(params, context):
    time.sleep(float(os.environ["SECONDS"]))
    if "SAVE" in os.environ:
        context.save("trace", np.full(int(os.environ["SAVE"]), context.id % 256, dtype="u1"))
    return params["x"]
"""
os.makedirs("disk")
said = {}

def sh(*words, check=True):
    return subprocess.run(words, capture_output=True, text=True, check=check).stdout.strip()

def prepare(n):
    for name, text in (("disk/model.py", MODEL), ("disk/e.toml", CONFIG.replace("6000", str(n)))):
        with open(name, "w") as file:
            file.write(text)
    os.sync()

def l2l(*words, save=0, seconds=0.01, **options):
    command = [sys.executable, "-m", "l2l_dask", *map(str, words), "--no-report"]
    env = os.environ | {"SECONDS": str(seconds)} | ({"SAVE": str(save)} if save else {})
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=env, **options)

def until(condition):
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)

def done():
    return load("disk/a.zarr").counts()["done"] if os.path.exists("disk/a.zarr") else 0

def ended(process, name):
    err = process.communicate(timeout=60)[1]
    said[name] = {"status": process.returncode, "err": err}
    if os.path.exists("disk/a.zarr"):
        store = load("disk/a.zarr")
        record = store.record
        evaluated = record["status"] == 1
        said[name] |= {"state": store.state, "done": int(evaluated.sum()), "told": int((record["told"] >= 0).sum())}
        said[name]["right"] = bool((record["fitness"][evaluated] == record["params"][evaluated]).all())

def without_rights():
    """Root or not: permissions count."""
    for capability in (1, 2):  # to override them, and for reading and searching
        ctypes.CDLL(None).prctl(24, capability)
'''

FULL = """
sh("mount", "-t", "tmpfs", "-o", "size=4m", "none", "disk")
prepare(200)
ended(l2l("run", "disk/e.toml", *WHERE, save=40_000, seconds=0.03), "failed")  # some are told before it is full
sh("mount", "-o", "remount,size=100m", "disk")
ended(l2l("resume", "disk/a.zarr", *WHERE, save=40_000), "resumed")
store = load("disk/a.zarr")
said["wrong"] = [i for i in range(len(store)) if store.saved(i)["trace"].tobytes() != bytes([i % 256]) * 40_000]
"""
BROKEN = """
sh("truncate", "-s", "64M", "image")
sh("mkfs.ext4", "-q", "-F", "image")
sh("mount", "-o", "loop,errors=remount-ro", "image", "disk")
device = os.path.basename(sh("findmnt", "-n", "-o", "SOURCE", "disk"))
prepare(200)
run = l2l("run", "disk/e.toml", "--cluster", "serial", seconds=0.1)
until(lambda: done() >= 10)
with open(f"/sys/fs/ext4/{device}/trigger_fs_error", "w") as file:
    file.write("1")
ended(run, "failed")
sh("umount", "disk")
sh("e2fsck", "-fy", "image", check=False)
sh("mount", "-o", "loop", "image", "disk")
ended(l2l("resume", "disk/a.zarr", "--cluster", "serial"), "resumed")
"""
READ_ONLY = """
sh("mount", "-t", "tmpfs", "none", "disk")
prepare(200)
run = l2l("run", "disk/e.toml", "--cluster", "serial", seconds=0.1)
until(lambda: done() >= 10)
sh("mount", "--bind", "disk", "disk")  # what is open stays writable; what is opened from now on is not
sh("mount", "-o", "remount,bind,ro", "disk")
ended(run, "failed")
ended(l2l("resume", "disk/a.zarr", "--cluster", "serial"), "refused")
ended(l2l("run", "disk/e.toml", "--store", "disk/b.zarr", "--cluster", "serial"), "not begun")
sh("umount", "disk")
ended(l2l("resume", "disk/a.zarr", "--cluster", "serial"), "resumed")
"""
FORBIDDEN = """
prepare(200)
run = l2l("run", "disk/e.toml", "--cluster", "serial", preexec_fn=without_rights, seconds=0.1)
until(lambda: done() >= 10)
sh("chmod", "-R", "a-w", "disk/a.zarr", check=False)  # a temporary file may be gone by then
ended(run, "failed")
ended(l2l("resume", "disk/a.zarr", "--cluster", "serial", preexec_fn=without_rights), "refused")
sh("chmod", "-R", "u+w", "disk/a.zarr")
ended(l2l("resume", "disk/a.zarr", "--cluster", "serial", preexec_fn=without_rights), "resumed")
"""


@pytest.fixture
def played(unshare, experiment_file, tmp_path):
    """Run a script in a mount namespace; what it said."""

    def played(script, **names):
        config = experiment_file(evaluations=6000, optimizer="random")
        names = "".join(f"{name} = {value!r}\n" for name, value in ({"CONFIG": config} | names).items())
        code = f"{PRELUDE}{names}{script}\nprint(json.dumps(said))"
        run = subprocess.run(
            [*unshare, sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return json.loads(run.stdout.splitlines()[-1])

    return played


def check(said, reason):
    failed, resumed = said["failed"], said["resumed"]
    assert failed["status"] == 1, failed
    assert "Traceback" not in failed["err"]
    (line,) = [line for line in failed["err"].splitlines() if line.startswith("l2l: ")]
    assert "cannot be written" in line
    assert reason in line
    assert failed["state"] == "interrupted"
    assert failed["right"]
    assert resumed["status"] == 0, resumed
    assert (resumed["state"], resumed["done"], resumed["told"]) == ("finished", 200, 200)
    assert resumed["right"]
    assert 0 < failed["told"] < 200


@pytest.mark.parametrize(
    "where",
    [["--cluster", "serial"], pytest.param(["--workers", "2"], marks=pytest.mark.soak)],
    ids=["serial", "local"],
)
def test_a_disk_that_fills_up_with_saved_arrays(played, where):
    said = played(FULL, WHERE=where)
    check(said, "No space left on device")
    assert said["wrong"] == []


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/loop-control"), reason="mounts a disk in a file")
def test_a_disk_that_breaks_and_is_then_read_only(played):
    check(played(BROKEN), "Read-only file system")


def test_a_mount_that_becomes_read_only(played):
    said = played(READ_ONLY)
    check(said, "Read-only file system")
    for name in ("refused", "not begun"):
        assert said[name]["err"].startswith("l2l: ")
        assert "Read-only file system" in said[name]["err"]
        assert len(said[name]["err"].splitlines()) == 1
        assert said[name]["done"] == said["failed"]["done"], "and can still be read"


def test_a_permission_that_is_taken_away(played):
    said = played(FORBIDDEN)
    check(said, "Permission denied")
    assert said["refused"]["err"].startswith("l2l: ")
    assert len(said["refused"]["err"].splitlines()) == 1
