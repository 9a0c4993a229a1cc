"""What happened is written down before anybody acts on it."""

from l2l_dask import Experiment, Real, Space, minimize
from l2l_dask.executors import Serial
from l2l_dask.registry import find
from l2l_dask.trajectory.journal import read
from l2l_dask.trajectory.layout import Layout

RandomSearch = find("optimizers", "random")


def test_nothing_is_evaluated_or_told_before_it_is_in_the_journal(tmp_path):
    journal = Layout(tmp_path / "a.zarr").journal(1)

    class Watching(RandomSearch):
        def _tell(self, evaluations):
            *_, results, tell = read(journal)
            assert results["id"] == tell["ids"] == evaluations.ids.tolist()

    def watched(params, context):
        *_, ask = read(journal)
        assert (ask["kind"], ask["first"]) == ("ask", context.id)
        return params["a"]

    class Prompt(Serial):
        def submit(self, candidates):
            *_, ask = read(journal)
            assert (ask["kind"], ask["first"]) == ("ask", candidates[0].id)
            super().submit(candidates)

    space, store = Space({"a": Real(0, 1)}), tmp_path / "a.zarr"
    ended = Experiment(
        watched, Watching, space=space, objectives=minimize("f"), store=store, evaluations=30, cluster="serial"
    ).run(Prompt())
    assert (ended.state, ended.counts()["done"]) == ("finished", 30)
