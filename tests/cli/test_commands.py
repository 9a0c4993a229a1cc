"""The commands, as a user calls them: what they print, what they return, and what they write."""

import csv
import json
import os
import re

import pandas as pd
import pytest
import xarray as xr

from l2l_dask.trajectory import load

SUMMARY = {
    "store",
    "state",
    "reason",
    "evaluations",
    "objectives",
    "explanation",
    "front",
    "optimizer",
    "optimizee",
    "best",
    "ranking",
    "seconds",
}
COUNTS = {
    "total",
    "budget",
    "final",
    "retried",
    "pending",
    "done",
    "failed",
    "timed_out",
    "crashed",
    "stopped",
    "cancelled",
}


def test_run_prints_one_json_object_and_nothing_else_on_stdout(home, store, l2l, only_json):
    done = l2l("run", "e.toml", "--json")
    shown = only_json(done)
    assert done.returncode == 0
    assert set(shown) == SUMMARY
    assert set(shown["evaluations"]) == COUNTS
    assert shown["store"] == str(store)
    assert shown["state"] == "finished"
    assert (shown["evaluations"]["total"], shown["evaluations"]["done"], shown["evaluations"]["budget"]) == (12, 12, 12)
    assert shown["objectives"] == {"error": "minimize", "score": "maximize"}
    ended = load(store)
    best = int(ended.record["fitness"][:, 0].argmin())
    assert shown["best"]["id"] == best
    assert shown["best"]["fitness"] == {"error": ended.record["fitness"][best, 0], "score": best}
    assert shown["best"]["params"]["x"] == shown["best"]["fitness"]["error"]
    assert shown["best"]["params"]["kind"] in ("a", "b")
    assert [one["id"] for one in shown["front"]] == [i.id for i in ended.front]
    assert "12/12" in done.stderr
    assert (store / "report.html").stat().st_size > 10_000


def test_run_without_json_prints_nothing_on_stdout_and_says_what_next(home, store, l2l):
    done = l2l("run", "e.toml", "--no-report", "--evaluations", "3", "--seed", "5", "--store", "b.zarr")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines()[-1] == f"l2l show {home / 'b.zarr'}"
    assert "finished: all evaluations done" in done.stderr
    assert "3 of 3 evaluations: 3 done" in done.stderr
    assert f"\nPareto front: {len(load(home / 'b.zarr').front)} individual(s)" in done.stderr
    assert not (home / "b.zarr" / "report.html").exists()
    assert load(home / "b.zarr").experiment["run"]["seed"] == 5
    assert not store.exists()


def test_show_prints_the_same_object_as_run_and_the_best_on_request(finished, l2l, only_json):
    shown = only_json(l2l("show", finished, "--json", "--best", "5"))
    assert set(shown) == SUMMARY
    assert len(shown["ranking"]) == 5
    errors = [individual["fitness"]["error"] for individual in shown["ranking"]]
    assert errors == sorted(errors)
    assert shown["ranking"][0] == shown["best"]


def test_show_says_it_in_words(finished, l2l):
    text = l2l("show", finished).stdout
    assert "finished" in text
    assert "random on model.py:fitness" in text
    assert "12 of 12 evaluations: 12 done" in text
    assert re.search(r"individual \d+ .*error = ", text)


def test_list_finds_all_stores_below_a_folder(finished, home, l2l, only_json):
    l2l("run", "e.toml", "--no-report", "--store", "runs/deep/b.zarr", "--evaluations", "2")
    (home / "runs" / "c.zarr").mkdir()
    experiments = only_json(l2l("list", home, "--json"))["experiments"]
    assert [os.path.relpath(row["store"], home) for row in experiments] == [
        "runs/a.zarr",
        "runs/c.zarr",
        "runs/deep/b.zarr",
    ]
    assert [row.get("state") for row in experiments] == ["finished", None, "finished"]
    assert "there is no store" in experiments[1]["problem"]
    assert set(experiments[0]) == SUMMARY
    text = l2l("list", home).stdout
    assert text.split("\n")[0].split() == ["store", "state", "done", "stopped", "failed", "of", "best"]
    assert text.count("finished") == 2
    assert text.count("unreadable") == 1


def test_export_writes_a_table_with_a_row_for_each_individual(finished, home, l2l):
    for suffix in ("csv", "parquet", "nc"):
        done = l2l("export", finished, f"out.{suffix}")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert f"out.{suffix}" in done.stderr
    ended = load(finished)
    with (home / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == list(range(12))
    assert [float(row["error"]) for row in rows] == ended.record["fitness"][:, 0].tolist()
    assert {row["kind"] for row in rows} == {"a", "b"}
    table = pd.read_parquet(home / "out.parquet")
    assert table["error"].tolist() == ended.record["fitness"][:, 0].tolist()
    assert table["kind"].tolist() == [row["kind"] for row in rows]
    with xr.open_dataset(home / "out.nc", engine="h5netcdf") as dataset:
        assert dataset.sizes == {
            "evaluation": 12,
            "parameter": 2,
            "objective": 2,
            "dimension": dataset.sizes["dimension"],
        }
        assert dataset["fitness"].sel(objective="error").values.tolist() == ended.record["fitness"][:, 0].tolist()
    assert sorted(path.name for path in home.glob("*out*")) == ["out.csv", "out.nc", "out.parquet"]


def test_choices_of_mixed_types_are_exported_too(home, store, l2l):
    toml = home / "e.toml"
    toml.write_text(toml.read_text().replace('["a", "b"]', '[1, "b", true, 0.5]'))
    assert l2l("run", "e.toml", "--no-report").returncode == 0
    for suffix in ("csv", "parquet", "nc"):
        done = l2l("export", store, f"out.{suffix}")
        assert done.returncode == 0, done.stderr


def test_optimizers_are_described_in_plain_words(home, l2l):
    text = " ".join(l2l("optimizers", "cross-entropy", "nsga-2").stdout.split())
    assert "gaussian, noisy-gaussian, bayesian-gaussian-mixture or noisy-mixture" in text
    assert "; 1 objective; asynchronous" in text
    assert "; any number of objectives; asynchronous" in text


def test_optimizers_of_a_name_are_shown_alone_and_a_wrong_name_names_the_near_ones(home, l2l, only_json):
    shown = only_json(l2l("optimizers", "cma-es", "random", "--json"))
    assert [plugin["name"] for plugin in shown] == ["cma-es", "random"]
    refused = l2l("optimizers", "cmaes")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert "no optimizer is called 'cmaes'" in refused.stderr
    assert "cma-es" in refused.stderr


@pytest.mark.parametrize(("command", "known"), [("optimizers", "steady-state-ga"), ("optimizees", "bbob")])
def test_plug_ins_are_listed_with_their_options(l2l, command, known):
    plugins = {plugin["name"]: plugin for plugin in json.loads(l2l(command, "--json").stdout)}
    assert plugins[known]["doc"]
    assert all(set(option) == {"default", "doc"} for option in plugins[known]["options"].values())
    assert all(option["doc"] for option in plugins[known]["options"].values())
    text = l2l(command).stdout
    assert all(name in text for name in plugins)


def test_resume_goes_on_with_a_larger_budget(finished, l2l, only_json):
    before = load(finished).record["fitness"].tolist()
    shown = only_json(l2l("resume", finished, "--evaluations", "20", "--json", "--no-report"))
    assert (shown["state"], shown["evaluations"]["done"], shown["evaluations"]["budget"]) == ("finished", 20, 20)
    assert load(finished).record["fitness"][:12].tolist() == before


def test_a_failed_experiment_exits_with_1_and_says_why(home, store, l2l, only_json):
    (home / "model.py").write_text("def fitness(params):\n    return params['y']\n")
    done = l2l("run", "e.toml", "--json", "--evaluations", "100", "--no-report")
    assert done.returncode == 1
    shown = only_json(done)
    assert (shown["state"], shown["evaluations"]["failed"], shown["best"]) == ("failed", 20, None)
    assert "20 evaluations failed in a row, the first: KeyError: 'y'" in done.stderr
    assert "Traceback" in done.stderr
    assert f"l2l resume {store}" in done.stderr
    assert "individual 0 failed" in l2l("show", store).stdout


def test_retry_evaluates_the_failed_ones_again_as_new_rows(home, store, l2l, only_json):
    (home / "broken").touch()
    shown = only_json(l2l("run", "e.toml", "--json", "--no-report"))
    assert (shown["evaluations"]["done"], shown["evaluations"]["failed"]) == (6, 6)
    (home / "broken").unlink()
    shown = only_json(l2l("retry", store, "--failed", "--json", "--no-report"))
    assert (shown["evaluations"]["done"], shown["evaluations"]["failed"], shown["state"]) == (12, 6, "finished")
    ended = load(store)
    assert ended.record["retry_of"][12:].tolist() == [1, 3, 5, 7, 9, 11]
    assert ended.record["x"][12:].tolist() == ended.record["x"][1:12:2].tolist()


CURIOUS = """
from l2l_dask.evaluation import Candidates
from l2l_dask.optimizer import Optimizer

class Curious(Optimizer):
    max_objectives = None

    def __init__(self, space, objectives, *, seed=0, workers: int | None = None):
        super().__init__(space, objectives, seed=seed)
        self.explanation = f"chose for {workers}"

    def _ask(self, n):
        return Candidates(self.space.sample(self.rng, n))

    def _tell(self, evaluations):
        pass
"""


def test_run_says_what_the_optimizer_chose_with_the_workers_that_it_has(home, store, l2l, only_json):
    (home / "curious.py").write_text(CURIOUS)
    experiment = (home / "e.toml").read_text().replace('name = "random"', 'name = "curious.py:Curious"')
    (home / "e.toml").write_text(experiment)
    done = l2l("run", "e.toml", "--no-report")
    assert [line for line in done.stderr.splitlines() if line.startswith("chose")] == ["chose for 1"]
    assert only_json(l2l("show", store, "--json"))["explanation"] == "chose for 1"
