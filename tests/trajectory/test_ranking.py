"""The best: by what came of evaluating them again, where that was done; and how far repeats lie apart."""

import math
import warnings

import numpy as np
import pytest
import xarray

from l2l_dask import Objectives, Real, Space, maximize, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Candidates, Evaluation, Status
from l2l_dask.trajectory import FINAL, INITIAL, OPTIMIZER, Writer, create, load

SPACE = Space({"a": Real(0, 1)})
TWO = Objectives([minimize("loss"), maximize("gain")])


@pytest.fixture
def store(tmp_path):
    store = tmp_path / "store.zarr"
    create(store, {"space": SPACE.to_dict(), "objectives": TWO.to_dict()}, SPACE, TWO, 10)
    return store


class Rows:
    """Enters individuals that end at once."""

    def __init__(self, store):
        self.writer, self.event, self.n = Writer(store, SPACE), 0, 0

    def enter(self, *losses, origin=OPTIMIZER, repeats=(), spread=(), info=None):
        ids = np.arange(self.n, self.n + len(losses))
        x = np.array([[id / 100] for id in repeats or ids.tolist()])
        self.writer.asked(self.event, Candidates(x, info or {}, ids), origin, repeats)
        spread = spread or [()] * len(ids)
        for id, loss, sd in zip(ids.tolist(), losses, spread, strict=True):
            done = Evaluation(id, Status.DONE, 1, (loss, -loss), spread=sd)
            self.writer.results([Evaluation(id, Status.FAILED, error="E") if math.isnan(loss) else done])
        self.event, self.n = self.event + 1, self.n + len(ids)

    def ranking(self):
        self.writer.fold()
        trajectory = load(self.writer.layout.root)
        ids = [i.id for i in trajectory.ranking(99)]
        for k in range(len(ids) + 1):
            assert [i.id for i in trajectory.ranking(k)] == ids[:k]
        return ids


def test_those_evaluated_again_at_the_end_come_first_by_their_own_fitness_and_then_the_others(store):
    rows = Rows(store)
    rows.enter(1.0, 2.0, 3.0, 0.5, origin=INITIAL)
    rows.enter(4.0)
    assert rows.ranking() == [3, 0, 1, 2, 4]
    rows.enter(2.5, 1.5, math.nan, origin=FINAL, repeats=[3, 0, 1])
    assert rows.ranking() == [6, 5, 3, 0, 1, 2, 4]
    best = load(store).best
    assert (best.id, best.repeats_of, best.fitness) == (6, 0, {"loss": 1.5, "gain": -1.5})
    assert load(store).individual(0).repeats_of is None
    rows.writer.close()


def test_a_search_that_went_on_forgets_its_last_final_until_there_is_another(store):
    rows = Rows(store)
    rows.enter(1.0, 2.0)
    rows.enter(9.0, 8.0, origin=FINAL, repeats=[0, 1])
    assert rows.ranking()[:2] == [3, 2]
    rows.enter(0.5)
    assert rows.ranking() == [4, 0, 1, 3, 2]
    rows.enter(7.0, origin=FINAL, repeats=[4])
    assert rows.ranking() == [5, 4, 0, 1, 3, 2]
    rows.writer.close()


def test_how_far_repeats_lie_apart_has_an_array_from_the_first_such_on(store):
    rows = Rows(store)
    rows.enter(1.0)
    rows.writer.fold()
    assert "fitness_sd" not in load(store).record.columns
    assert load(store).best.sd is None
    rows.enter(0.5, 2.0, spread=[(0.25, 0.125), ()])
    rows.writer.fold()
    trajectory = load(store)
    assert trajectory.record["fitness_sd"][1].tolist() == [0.25, 0.125]
    assert np.isnan(trajectory.record["fitness_sd"][[0, 2]]).all()
    assert [i.sd for i in trajectory.ranking(3)] == [{"loss": 0.25, "gain": 0.125}, None, None]
    table, dataset = trajectory.to_dataframe(), trajectory.to_xarray()
    assert table["loss_sd"].tolist()[1] == 0.25
    assert table["gain_sd"].tolist()[1] == 0.125
    assert not [name for name in table if name.startswith("fitness_sd")]
    assert dataset["fitness_sd"].dims == ("evaluation", "objective")
    assert dataset["fitness_sd"].sel(objective="gain").values[1] == 0.125
    rows.writer.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert xarray.open_zarr(store).fitness_sd.values[1].tolist() == [0.25, 0.125]


def test_of_equals_the_earlier_comes_first_however_many_are_asked_for(store):
    rows = Rows(store)
    rows.enter(1.0, 0.5, 1.0, math.nan, 1.0, 0.5)
    assert rows.ranking() == [1, 5, 0, 2, 4]
    rows.enter(2.0, 2.0, origin=FINAL, repeats=[5, 1])
    assert rows.ranking() == [6, 7, 1, 5, 0, 2, 4]
    rows.writer.close()


def test_how_far_repeats_lie_apart_is_no_note_of_the_optimizers(store):
    rows = Rows(store)
    with pytest.raises(OptimizerError, match="'fitness_sd'"):
        rows.enter(1.0, info={"fitness_sd": np.zeros(1)})
    rows.enter(1.0, spread=[(0.5, 0.5)], info={"note": np.array([7])})
    rows.writer.close()
    writer = Writer(store, SPACE)
    assert writer.record.info(0) == {"note": 7}
    writer.close()
