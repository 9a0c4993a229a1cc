"""Experiments from Python: what is given is checked, paths hold, and what was decided once is remembered."""

from __future__ import annotations

import json
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from l2l_dask import Experiment, Integer, Objectives, Real, Space, load, maximize, minimize
from l2l_dask.errors import L2LError
from l2l_dask.registry import find
from l2l_dask.trajectory import send
from l2l_dask.trajectory.layout import Layout, sent

SPACE = Space({"x": Real(-1, 1), "n": Integer(1, 4)})


def loss(params):
    return params["x"] ** 2 + params["n"]


def made(store, function=loss, optimizer="random", **more):
    given = {"space": SPACE, "objectives": minimize("loss"), "evaluations": 8, "cluster": "serial"} | more
    return Experiment(function, optimizer, store=store, **given)


def test_a_relative_store_stays_where_it_was_when_the_optimizee_changes_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    def wandering(params):
        os.chdir(tmp_path / "elsewhere")
        return loss(params)

    ended = made("here.zarr", wandering).run()
    assert ended.counts()["done"] == 8
    assert (tmp_path / "here.zarr").is_dir()
    assert Path.cwd() == tmp_path


def test_an_evaluation_works_in_the_experiments_folder_also_when_resumed_from_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.txt").write_text("3")
    (tmp_path / "model.py").write_text("def f(params):\n    return float(open('data.txt').read()) + params['x']\n")
    (tmp_path / "e.toml").write_text(
        "[optimizee]\nname = 'model.py:f'\n[space]\nx = {low = 0, high = 1}\n[objectives]\nl = 'minimize'\n"
        "[run]\nevaluations = 3\n[cluster]\nprofile = 'serial'\n"
    )
    (tmp_path / "sub").mkdir()
    Experiment.from_config("e.toml").run()
    monkeypatch.chdir(tmp_path / "sub")
    later = Experiment.resume("../runs/e.zarr", evaluations=6)
    assert later.counts()["done"] == 6
    x = later.record["params"][:, 0]
    assert later.record["fitness"][:, 0].tolist() == (3.0 + x).tolist()


@pytest.mark.parametrize(
    ("space", "objectives", "seed", "what"),
    [
        (Space({"x": Real(0, 9)}), minimize("loss"), 0, "space"),
        (SPACE, maximize("loss"), 0, "objectives"),
        (SPACE, minimize("loss"), 5, "seed"),
    ],
)
def test_an_optimizer_made_for_something_else_is_refused(tmp_path, space, objectives, seed, what):
    instance = find("optimizers", "random")(space, Objectives(objectives), seed=seed)
    with pytest.raises(L2LError, match=f"another {what} than the experiment"):
        made(tmp_path / "s.zarr", optimizer=instance)
    assert not (tmp_path / "s.zarr").exists()


def test_an_optimizer_instance_runs_and_resumes_like_its_name(tmp_path):
    instance = find("optimizers", "random")(SPACE, Objectives(minimize("loss")), seed=0)
    ours = made(tmp_path / "instance.zarr", optimizer=instance)
    ours.run()
    later = Experiment.resume(tmp_path / "instance.zarr", evaluations=12)
    named = made(tmp_path / "name.zarr", evaluations=12).run()
    assert later.record["x"].tolist() == named.record["x"].tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"evaluations": 0}, "evaluations"),
        ({"evaluations": np.int64(8), "retry_on": "crushed"}, "retry_on"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": "x"}, "timeout"),
        ({"workers": "2"}, "workers"),
        ({"seed": -1}, "seed"),
        ({"initial": [{"x": 7, "n": 1}]}, r"initial\[0\]"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_in_one_line_before_anything_is_written(tmp_path, given, message):
    with pytest.raises(L2LError, match=message) as caught:
        made(tmp_path / "s.zarr", **given)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_numpy_numbers_are_taken_as_numbers(tmp_path):
    ended = made(tmp_path / "s.zarr", evaluations=np.int64(4), seed=np.int64(3)).run()
    assert (len(ended), ended.experiment["run"]["seed"]) == (4, 3)


def test_commands_sent_between_two_looks_are_all_obeyed_in_their_order(tmp_path):
    experiment = made(tmp_path / "s.zarr")
    experiment.create()
    for command in ("pause", "stop", "unpause"):
        send(tmp_path / "s.zarr", command)
    assert sent(Layout(tmp_path / "s.zarr"), 0) == ["pause", "stop", "unpause"]
    assert sent(Layout(tmp_path / "s.zarr"), 2) == ["unpause"]


def test_who_looks_on_cannot_end_the_experiment(tmp_path):
    def broken(progress):
        raise BrokenPipeError

    ended = made(tmp_path / "s.zarr", lambda params: time.sleep(0.1) or loss(params)).run(on_progress=broken)
    assert ended.state == "finished"


def test_a_record_that_was_trusted_once_is_trusted_ever_after(tmp_path):
    store = tmp_path / "s.zarr"
    made(store).run()
    content = json.loads((store / "zarr.json").read_text())
    content["attributes"]["l2l_dask"]["experiment"]["run"]["seed"] = 99  # as if the optimizer's code had changed
    (store / "zarr.json").write_text(json.dumps(content))
    with pytest.raises(L2LError, match="--trust-record"):
        Experiment.resume(store, evaluations=10)
    once = Experiment.resume(store, evaluations=12, trust_record=True)
    again = Experiment.resume(store, evaluations=16)
    assert again.record["x"][:12].tolist() == once.record["x"].tolist()
    assert len(np.unique(again.record["x"], axis=0)) == 16


def test_a_project_that_was_moved_is_resumed_where_it_is_now(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    (before / "model.py").write_text("def f(params):\n    return params['x']\n")
    (before / "e.toml").write_text(
        "[optimizee]\nname = 'model.py:f'\n[space]\nx = {low = 0, high = 1}\n[objectives]\nl = 'minimize'\n"
        "[run]\nevaluations = 3\n[cluster]\nprofile = 'serial'\n"
    )
    Experiment.from_config(before / "e.toml").run()
    before.rename(after)
    assert Experiment.resume(after / "runs" / "e.zarr", evaluations=5).counts()["done"] == 5


def test_a_space_is_pickled_by_its_parameters_alone():
    again = pickle.loads(pickle.dumps(SPACE))
    assert again.to_dict() == SPACE.to_dict()
    assert SPACE.__reduce__()[1] == (dict(SPACE),)


def test_a_second_ctrl_c_ends_a_serial_run_at_once_and_it_can_be_resumed(tmp_path, l2l, wait_until):
    (tmp_path / "model.py").write_text(
        "import pathlib, signal, socket, time\ndef f(params):\n    ours, theirs = socket.socketpair()\n"
        "    theirs.setblocking(False)\n    signal.set_wakeup_fd(theirs.fileno())\n    pathlib.Path('begun').touch()\n"
        "    ours.recv(1)\n    pathlib.Path('heard').touch()\n    time.sleep(1000)\n    return 1.0\n"
    )
    (tmp_path / "e.toml").write_text(
        "[optimizee]\nname = 'model.py:f'\n[space]\nx = {low = 0, high = 1}\n[objectives]\nl = 'minimize'\n"
        "[run]\nevaluations = 3\n"
    )
    run = l2l.start("run", "e.toml", "--cluster", "serial")
    wait_until(lambda: (tmp_path / "begun").exists() or run.poll() is not None)
    run.send_signal(signal.SIGINT)
    wait_until(lambda: (tmp_path / "heard").exists() or run.poll() is not None)  # two that come together are one
    assert run.poll() is None
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "l2l resume" in said
    assert load(tmp_path / "runs" / "e.zarr").counts()["pending"] == 1
