"""Bad input: one line that says what to do, exit code 2, nothing on stdout, nothing made and nothing damaged."""

import ctypes
import hashlib
import json
import os
import sys
from pathlib import Path

import pytest

from l2l_dask.cli import main
from l2l_dask.cluster import open as open_cluster
from l2l_dask.config import ClusterSection
from l2l_dask.errors import ClusterError
from l2l_dask.experiment import Experiment

MODEL = """
import threading
LOCK = threading.Lock()
def fitness(params):
    return params["x"]
def locked(params):
    with LOCK:
        return params["x"]
def needs_much(a, b, c):
    return 1.0
number = 3
"""

GOOD = {
    "optimizee": 'name = "model.py:fitness"',
    "space": "x = {low = 0.0, high = 1.0}",
    "objectives": 'f = "minimize"',
    "optimizer": 'name = "random"',
    "run": 'evaluations = 4\nstore = "made.zarr"',
    "cluster": 'profile = "serial"',
}


def toml(**changed):
    """Write a good experiment file with some sections changed, left out (None), or added."""
    sections = {name: text for name, text in (GOOD | changed).items() if text is not None}
    return "\n".join(f"[{name}]\n{text}\n" for name, text in sections.items())


def snapshot(folder):
    """List all there is, with its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }


def assert_one_line(err, *said):
    assert len(err.splitlines()) == 1, err
    assert err.startswith("l2l: ")
    assert err.endswith("\n")
    for word in said:
        assert word in err


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The user's folder, with a model, a good experiment file and a store that one made."""
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "good.toml").write_text(toml())
    Experiment.from_config(tmp_path / "good.toml", store=tmp_path / "done.zarr").run()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(home, monkeypatch, capsys):
    """Run a command line that must be refused, in this process."""

    def refused(*words, said):
        before = snapshot(home)
        monkeypatch.setattr(sys, "argv", ["l2l", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        assert (caught.value.code, out) == (2, ""), err
        assert_one_line(err, *said)
        assert snapshot(home) == before

    return refused


@pytest.fixture
def refused_there(home, l2l):
    """Run a command line that must be refused, in a process of its own."""

    def refused(*words, said, **options):
        before = snapshot(home)
        done = l2l(*words, **options)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert_one_line(done.stderr, *said)
        assert snapshot(home) == before

    return refused


BAD_FILES = {
    "not TOML": ("[optimizee\nname = 1", ["is not valid TOML", "line 1"]),
    "empty": ("", ["[optimizee] is missing"]),
    "no [run]": (toml(run=None), ["[run] is missing"]),
    "unknown section": (toml(optimiser='name = "random"'), ["unknown [optimiser]", "optimizer"]),
    "unknown key": (toml(run="evaluations = 4\nbudget = 4"), ["unknown [run] budget", "evaluations"]),
    "section of the wrong type": ("optimizee = 3\n[run]\nevaluations = 1", ["[optimizee]"]),
    "evaluations of the wrong type": (toml(run='evaluations = "many"'), ["[run] evaluations", "integer", "'many'"]),
    "evaluations is a fraction": (toml(run="evaluations = 1.5"), ["[run] evaluations", "integer"]),
    "evaluations is true": (toml(run="evaluations = true"), ["[run] evaluations", "integer"]),
    "no evaluations": (toml(run="evaluations = 0"), ["[run] evaluations", "greater than 0"]),
    "negative seed": (toml(run="evaluations = 1\nseed = -1"), ["[run] seed"]),
    "timeout of nothing": (toml(run="evaluations = 1\ntimeout = 0"), ["[run] timeout", "greater than 0"]),
    "unknown status": (toml(run='evaluations = 1\nretry_on = ["broken"]'), ["retry_on", "crashed", "'broken'"]),
    "initial outside": (toml(run="evaluations = 1\ninitial = [{x = 2.0}]"), ["initial[0]", "x"]),
    "initial unknown": (toml(run="evaluations = 1\ninitial = [{y = 0.5}]"), ["initial[0]", "y"]),
    "no workers": (toml(cluster="workers = 0"), ["[cluster] workers", "greater than 0"]),
    "unknown profile": (toml(cluster='profile = "slrum"'), ["slrum"]),
    "empty space": (toml(space=""), ["space", "parameter"]),
    "no space": (toml(space=None), ["[space]"]),
    "low above high": (toml(space="x = {low = 1.0, high = 0.0}"), ["x", "low", "high"]),
    "low is high": (toml(space="x = {low = 1.0, high = 1.0}"), ["x", "low", "high"]),
    "low missing": (toml(space="x = {high = 1.0}"), ["x", "low"]),
    "log of zero": (toml(space="x = {low = 0.0, high = 1.0, log = true}"), ["x", "log"]),
    "parameter of no type": (toml(space="x = 3"), ["x"]),
    "parameter of unknown type": (toml(space='x = {low = 0, high = 1, type = "int"}'), ["x", "integer"]),
    "parameter with unknown key": (toml(space="x = {low = 0.0, hihg = 1.0}"), ["x", "hihg"]),
    "bound of the wrong type": (toml(space='x = {low = "a", high = 1.0}'), ["x", "low"]),
    "condition on nothing": (toml(space="x = {low = 0.0, high = 1.0, when = {y = 1}}"), ["x", "y"]),
    "no choices": (toml(space="x = {choices = []}"), ["x", "choice"]),
    "no objectives": (toml(objectives=None), ["[objectives]"]),
    "unknown direction": (toml(objectives='f = "minimise"'), ["minimize", "maximize", "'minimise'"]),
    "unknown optimizer": (toml(optimizer='name = "cma"'), ["'cma'", "cma-es"]),
    "optimizer that is none": (toml(optimizer='name = "model.py:fitness"'), ["optimizer", "model.py:fitness"]),
    "unknown optimizer option": (
        toml(optimizer='name = "steady-state-ga"\noptions = {pop = 3}'),
        ["steady-state-ga", "'pop'", "pop_size"],
    ),
    "optimizer option of the wrong type": (
        toml(optimizer='name = "steady-state-ga"\noptions = {pop_size = "big"}'),
        ["steady-state-ga", "pop_size", "'big'"],
    ),
    "optimizer option out of range": (
        toml(optimizer='name = "steady-state-ga"\noptions = {pop_size = 0}'),
        ["steady-state-ga", "pop_size"],
    ),
    "unknown optimizee": (toml(optimizee='name = "bob"'), ["'bob'", "bbob"]),
    "unknown optimizee option": (toml(optimizee='name = "bbob"\noptions = {fn = 3}'), ["bbob", "'fn'", "function"]),
    "optimizee option out of range": (toml(optimizee='name = "bbob"\noptions = {function = 25}'), ["bbob", "24"]),
    "neither name nor command": (toml(optimizee="options = {}"), ["name", "command"]),
    "both name and command": (toml(optimizee='name = "bbob"\ncommand = "true"'), ["name", "command"]),
    "command with unknown placeholder": (toml(optimizee='command = "sim {y}"'), ["{y}", "x"]),
    "missing file": (toml(optimizee='name = "nowhere.py:fitness"'), ["there is no file", "nowhere.py"]),
    "missing function": (toml(optimizee='name = "model.py:fit"'), ["model.py", "'fit'"]),
    "not a function": (toml(optimizee='name = "model.py:number"'), ["model.py:number", "function"]),
    "function of three": (toml(optimizee='name = "model.py:needs_much"'), ["needs_much", "params"]),
    "options for a function": (toml(optimizee='name = "model.py:fitness"\noptions = {a = 1}'), ["options"]),
    "missing module": (toml(optimizee='name = "no_such_module:f"'), ["no_such_module", "cannot be imported"]),
    "store without .zarr": (toml(run='evaluations = 1\nstore = "made"'), ["must end in .zarr"]),
    "store that exists": (toml(run='evaluations = 1\nstore = "done.zarr"'), ["exists", "l2l resume"]),
    "what cannot be pickled": (toml(optimizee='name = "model.py:locked"'), ["locked", "worker", "setup()"]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_an_experiment_file_is_refused(refused, home, name):
    text, said = BAD_FILES[name]
    (home / "bad.toml").write_text(text)
    refused("run", "bad.toml", said=said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("def fitness(params:\n    return 1\n", ["SyntaxError", "line 1"]),
        ("raise ValueError('two\\nlines')\n", ["ValueError: two lines"]),
        ("import sys\nsys.exit('leaving')\n", ["SystemExit: leaving"]),
        ("import no_such_simulator\n", ["No module named 'no_such_simulator'"]),
    ],
    ids=["syntax error", "raises", "exits", "imports what is missing"],
)
def test_a_users_file_that_cannot_be_imported_is_refused(refused, home, content, said):
    (home / "broken.py").write_text(content)
    (home / "bad.toml").write_text(toml(optimizee='name = "broken.py:fitness"'))
    refused("run", "bad.toml", said=["broken.py cannot be imported", *said])


BAD_LINES = {
    "no such command": (["rnu"], ["No such command 'rnu'", "--help"]),
    "unknown option": (["run", "good.toml", "--evals", "3"], ["--evals", "--evaluations"]),
    "missing argument": (["run"], ["CONFIG", "l2l run --help"]),
    "too many arguments": (["show", "done.zarr", "more"], ["more"]),
    "no evaluations": (["run", "good.toml", "--evaluations", "0"], ["--evaluations", "x>=1"]),
    "word for a number": (["run", "good.toml", "--workers", "two"], ["--workers", "'two'"]),
    "missing experiment file": (["run", "missing.toml"], ["there is no file missing.toml"]),
    "folder for an experiment file": (["run", "."], ["cannot be read"]),
    "binary for an experiment file": (["run", "binary.toml"], ["cannot be read"]),
    "store without .zarr": (["run", "good.toml", "--store", "made"], ["must end in .zarr", "made"]),
    "store that exists": (["run", "good.toml", "--store", "done.zarr"], ["exists", "l2l resume"]),
    "store that is a file": (["run", "good.toml", "--store", "file.zarr"], ["exists"]),
    "store below a file": (["run", "good.toml", "--store", "model.py/a.zarr"], ["model.py/a.zarr"]),
    "missing scheduler file": (["run", "good.toml", "--cluster", "sched.json"], ["sched.json", "dask scheduler"]),
    "scheduler file that is none": (
        ["run", "good.toml", "--cluster", "model.py"],
        ["model.py is not", "dask scheduler"],
    ),
    "retry of what": (["retry", "done.zarr"], ["--failed"]),
    "resume of nothing": (["resume", "missing.zarr"], ["there is no store", "l2l run"]),
    "resume with fewer": (["resume", "done.zarr", "--evaluations", "2"], ["4 evaluations", "2"]),
    "show of nothing": (["show", "missing.zarr"], ["there is no store"]),
    "show of a folder": (["show", "."], ["there is no store"]),
    "show of a file": (["show", "model.py"], ["there is no store"]),
    "show of a foreign store": (["show", "foreign.zarr"], ["not one that l2l_dask wrote"]),
    "show of a damaged store": (["show", "damaged.zarr"], ["damaged"]),
    "show of another version": (["show", "newer.zarr"], ["format 99", "use the version that wrote it"]),
    "resume of another version": (["resume", "newer.zarr"], ["format 99", "use the version that wrote it"]),
    "stop of another version": (["stop", "newer.zarr"], ["format 99"]),
    "stop of what ended": (["stop", "done.zarr"], ["finished", "not running"]),
    "pause of what ended": (["pause", "done.zarr"], ["finished", "not running"]),
    "stop of nothing": (["stop", "missing.zarr"], ["there is no store"]),
    "list of nothing": (["list", "missing"], ["there is no folder missing"]),
    "list of a file": (["list", "model.py"], ["there is no folder model.py"]),
    "export of nothing": (["export", "missing.zarr", "out.csv"], ["there is no store"]),
    "export to what": (["export", "done.zarr", "out.xlsx"], ["out.xlsx", ".csv, .parquet, .nc"]),
    "export to nowhere": (["export", "done.zarr", "missing/out.csv"], ["missing/out.csv", "cannot be written"]),
    "export of netcdf to nowhere": (["export", "done.zarr", "missing/out.nc"], ["cannot be written"]),
    "export of parquet to nowhere": (["export", "done.zarr", "missing/out.parquet"], ["cannot be written"]),
    "report over a program": (["report", "done.zarr", "model.py"], ["model.py exists and is no HTML page"]),
    "report to nowhere": (["report", "done.zarr", "missing/out.html"], ["missing/out.html", "cannot be written"]),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_command_line_is_refused(refused, home, name):
    (home / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (home / "file.zarr").write_text("not a folder")
    for store, content in {
        "foreign.zarr": json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}),
        "damaged.zarr": '{"zarr_format"',
        "newer.zarr": (home / "done.zarr" / "zarr.json").read_text(),
    }.items():
        (home / store).mkdir()
        (home / store / "zarr.json").write_text(content)
    newer = home / "newer.zarr" / "zarr.json"
    described = json.loads(newer.read_text())
    described["attributes"]["l2l_dask"]["format"] = 99
    newer.write_text(json.dumps(described))
    words, said = BAD_LINES[name]
    refused(*words, said=said)


def test_a_scheduler_that_does_not_answer_is_refused(refused_there, home):
    impatient = os.environ | {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "1s"}
    said = ["no Dask scheduler answers", "is it running?"]
    refused_there("run", "good.toml", "--cluster", "tcp://127.0.0.1:1", said=said, env=impatient)
    (home / "stale.json").write_text(json.dumps({"address": "tcp://127.0.0.1:1", "type": "Scheduler", "id": "x"}))
    refused_there("run", "good.toml", "--cluster", "stale.json", said=said, env=impatient)


def test_a_scheduler_file_is_looked_for_before_anything_is_connected():
    section = ClusterSection(profile="missing.json")
    with pytest.raises(ClusterError, match="there is no scheduler file"), open_cluster(section, Path()):
        pass


@pytest.mark.parametrize("package", ["optimizees", "optimizers"])
def test_a_folder_that_hides_the_plug_ins_is_named(refused_there, home, package):
    (home / package).mkdir()
    (home / package / "__init__.py").write_text("")
    (home / "bad.toml").write_text(toml(optimizee='name = "bbob"', space=None, objectives=None))
    refused_there("run", "bad.toml", said=[str(home / package), "rename it"])


def test_the_real_command_refuses_in_one_line_too(refused_there, home):
    (home / "bad.toml").write_text(toml(space="x = {low = 1.0, high = 0.0}"))
    refused_there("run", "bad.toml", said=["low"])
    refused_there("run", "good.toml", "--evaluations", "0", said=["--evaluations"])
    refused_there("show", "missing.zarr", said=["there is no store"])
    refused_there("retry", "done.zarr", said=["--failed"])
    (home / "bad.toml").write_text(toml(optimizee='name = "model.py:fit"'))
    refused_there("run", "bad.toml", said=["'fit'"])


def without_roots_rights():
    """Make permissions count for root too, in a process that is about to start (Linux)."""
    drop, override, read_search = 24, 1, 2
    libc = ctypes.CDLL(None)
    libc.prctl(drop, override)
    libc.prctl(drop, read_search)


@pytest.mark.skipif(sys.platform != "linux", reason="drops capabilities, which Linux has")
@pytest.mark.parametrize(
    ("closed", "mode", "words", "said"),
    [
        (".", 0o500, ["run", "good.toml"], ["made.zarr", "Permission denied", "permissions"]),
        (".", 0o500, ["export", "done.zarr", "out.csv"], ["out.csv", "Permission denied"]),
        (".", 0o500, ["report", "done.zarr", "out.html"], ["out.html", "Permission denied"]),
        ("good.toml", 0o000, ["run", "good.toml"], ["good.toml", "not readable"]),
        ("model.py", 0o000, ["run", "good.toml"], ["model.py", "Permission denied"]),
        ("shut", 0o000, ["run", "good.toml", "--store", "shut/a.zarr"], ["shut/a.zarr", "ermission denied"]),
        ("shut", 0o000, ["list", "shut"], ["shut", "not readable"]),
        ("done.zarr", 0o000, ["show", "done.zarr"], ["done.zarr", "not readable"]),
        ("done.zarr/status", 0o000, ["show", "done.zarr"], ["done.zarr", "ermission"]),
        ("done.zarr/.l2l", 0o500, ["resume", "done.zarr", "--evaluations", "9"], ["done.zarr", "Permission denied"]),
    ],
)
def test_what_may_not_be_read_or_written_is_refused(refused_there, home, closed, mode, words, said):
    (home / "shut").mkdir()
    path = home / closed
    before = path.stat().st_mode
    os.chmod(path, mode)
    try:
        if os.geteuid() == 0:
            refused_there(*words, said=said, preexec_fn=without_roots_rights)
        else:
            refused_there(*words, said=said)
    finally:
        os.chmod(path, before)
