"""A service on the local twin of a batch system, started by hand as a user would."""

import json
import os
import signal
import subprocess
import sys

import psutil

from l2l_dask.service.place import Place, read
from l2l_dask.trajectory import load

MODEL = """
import time
from optimizers.random_search import RandomSearch

def seconds():
    return float(open("seconds").read())

def fitness(params):
    with open("FOLDER/begun", "a") as file:
        file.write("one\\n")
    time.sleep(seconds())
    return params["x"]

def other(params):
    time.sleep(3 * seconds())
    return params["x"]

class Noting(RandomSearch):
    def _tell(self, evaluations):
        with open("FOLDER/told", "a") as file:
            file.writelines(f"{id}\\n" for id in evaluations.ids)
        super()._tell(evaluations)
"""
EXPERIMENT = """
[optimizee]
name = "model.py:{function}"
[space]
x = {{low = 0.0, high = 1.0}}
[objectives]
error = "minimize"
[optimizer]
name = "model.py:Noting"
[run]
evaluations = {evaluations}
seed = 3
"""


class Site:
    """A folder with a model, experiment files, and a service in ``S``."""

    def __init__(self, folder, l2l, wait_until):
        self.folder, self.root = folder, folder / "S"
        self.place = Place(self.root)
        self.l2l, self.wait_until = l2l, wait_until
        (folder / "model.py").write_text(MODEL.replace("FOLDER", str(folder)))
        self.set_seconds(0.05)

    def set_seconds(self, seconds):
        (self.folder / "new").write_text(str(seconds))
        os.replace(self.folder / "new", self.folder / "seconds")

    def write(self, name, evaluations=40, function="fitness"):
        (self.folder / f"{name}.toml").write_text(EXPERIMENT.format(evaluations=evaluations, function=function))
        return f"{name}.toml"

    def submit(self, name, *options, **experiment):
        done = self.l2l("service", "submit", "S", self.write(name, **experiment), "--name", name, *options)
        assert done.returncode == 0, done.stderr
        return self.root / f"{name}.zarr"

    def start(self, *options, most=2):
        """Start a service in a process of ours, and wait until it listens."""
        before = self.place.connections()
        process = self.l2l.start("service", "start", "S", "--here", "--max", most, *options)
        self.wait_until(lambda: process.poll() is not None or self.place.connections() not in ([], before))
        assert process.poll() is None, process.communicate()
        return process

    def python(self, *words):
        """Run Python as a user's script would."""
        words = [sys.executable, *map(str, words)]
        return subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False)

    def status(self):
        done = self.l2l("service", "status", "S", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def stop(self, process=None, *options):
        done = self.l2l("service", "stop", "S", *options)
        assert done.returncode == 0, done.stderr
        if process is not None:
            process.communicate(timeout=30)
        return done

    def driver(self, name):
        """The process id of an experiment's driver; None if it has none."""
        return read(self.place.state).get("experiments", {}).get(name, {}).get("pid")

    def n_done(self, name):
        store = self.root / f"{name}.zarr"
        return load(store).counts()["done"] if store.exists() else 0

    @property
    def n_begun(self):
        """How many evaluations began, of all experiments."""
        return len((self.folder / "begun").read_text().split())

    def slot_seconds(self):
        """What each experiment used so far."""
        return {name: each["slot_seconds"] for name, each in read(self.place.state)["experiments"].items()}

    def finished(self, *names):
        return all(load(self.root / f"{name}.zarr").state == "finished" for name in names)

    @property
    def told(self):
        return [int(word) for word in (self.folder / "told").read_text().split()]

    def processes(self):
        """The processes that belong to this service: all of them name its folder, or were started by one that does."""
        mine = [p for p in psutil.process_iter(["cmdline"]) if str(self.root) in " ".join(p.info["cmdline"] or ())]
        return {child for p in mine for child in (p, *_children(p))}

    def close(self):
        for p in self.processes():
            try:
                os.kill(p.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _children(process):
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
