"""The trajectory against an oracle of plain dicts: whatever is recorded, folded, killed and opened again."""

import copy
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from l2l_dask import Categorical, Integer, Objectives, Real, Space, maximize, minimize
from l2l_dask.evaluation import Candidates, Evaluation, Status
from l2l_dask.trajectory import Writer, columns, create, load, writer
from l2l_dask.trajectory.chunks import Chunks
from l2l_dask.trajectory.layout import Layout, read_json, write_json

SPACE = Space({"kind": Categorical(["a", "b"]), "n": Integer(1, 8, when={"kind": ["b"]}), "w": Real(-1, 1, shape=2)})
OBJECTIVES = Objectives([minimize("loss"), maximize("gain")])
EXPERIMENT = {"space": SPACE.to_dict(), "objectives": OBJECTIVES.to_dict()}
NOBODY = 2**22 + 1  # Linux gives no process a larger id than 2**22
INFO = {
    "generation": lambda id: id // 3,
    "parents": lambda id: [id - 1, -1],
    "budget": lambda id: id / 7,
    "noise": lambda id: [id / 3, -id / 3, 0.5],
}
MISSING = {"generation": -1, "parents": [-1, -1], "budget": np.nan, "noise": [np.nan] * 3}
ENDED = [Status.DONE, Status.FAILED, Status.TIMED_OUT, Status.CRASHED, Status.STOPPED, Status.CANCELLED]


def killed(writer):
    """Leave a writer as kill -9 does: its lease is a dead process's, and what was not appended is gone."""
    writer._lease._over.set()
    writer._lease._thread.join()
    writer._journal.close()
    write_json(writer.layout.lease, read_json(writer.layout.lease) | {"pid": NOBODY})


def as_rows(trajectory):
    """Return a trajectory's rows as plain dicts, to compare with the oracle's."""
    listed = {name: values.tolist() for name, values in trajectory.record.columns.items() if name != "params"}
    return [{name: values[i] for name, values in listed.items()} for i in range(len(trajectory))]


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    """Make chunks so small that a few rows cross their bounds, and segments that a few records fill."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "_MIN_ROWS", 4)
        patch.setattr(columns, "_MAX_ROWS", 4)
        patch.setattr(writer, "_SEGMENT_BYTES", 1000)
        yield


class Oracle(RuleBasedStateMachine):
    """``rows`` is what was recorded; ``folded`` what a reader may see; ``journal`` what a crash may leave of it."""

    @initialize(capacity=st.integers(1, 20))
    def begin(self, capacity):
        self.folder = tempfile.TemporaryDirectory(prefix="l2l-oracle-")
        self.store = Path(self.folder.name) / "store.zarr"
        create(self.store, EXPERIMENT, SPACE, OBJECTIVES, capacity)
        self.capacity, self.event, self.names = capacity, 0, set()
        self.rows, self.folded, self.seen = [], [], []
        self.open()

    def open(self):
        self.writer = Writer(self.store, SPACE)
        # States after each record, not yet appended, and appended: (end, rows, observations).
        self.recorded, self.appended = [], []
        self.folded, self.seen_then = copy.deepcopy(self.rows), list(self.seen)
        self.note_what_is_on_the_disk()
        record = self.writer.record
        assert len(record) == len(self.rows)
        assert record.pending.tolist() == self.ids(lambda row: row["status"] == Status.PENDING)
        assert record.untold.tolist() == self.ids(lambda row: row["status"] != Status.PENDING and row["told"] < 0)
        assert [(e.number, e.reports, e.stop) for e in record.observations()] == self.seen
        numbers = [-1, *(max(row["asked"], row["told"]) for row in self.rows), *(event for event, _, _ in self.seen)]
        assert record.n_events == 1 + max(numbers)
        assert [e.number for e in record.events()] == sorted({*numbers, *(row["asked"] for row in self.rows)} - {-1})
        self.event = record.n_events

    def note_what_is_on_the_disk(self):
        """Note how long the journal is when the arrays are written, and which chunks there are when they are synced."""
        self.folded_at = self.writer._journal.size
        if not self.writer._chunks._files.written:
            self.synced = {path for path in self.store.rglob("c/**/*") if path.is_file()}

    def ids(self, wanted):
        return [i for i, row in enumerate(self.rows) if wanted(row)]

    def note(self):
        self.recorded.append((copy.deepcopy(self.rows), list(self.seen)))
        self.event += 1

    @rule(data=st.data(), n=st.integers(1, 6), names=st.sets(st.sampled_from(sorted(INFO)), max_size=3))
    def ask(self, data, n, names):
        first, origin = len(self.rows), data.draw(st.integers(0, 2))
        x = np.array(data.draw(st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=n, max_size=n)))
        info = {name: np.array([INFO[name](first + i) for i in range(n)]) for name in sorted(names)}
        self.names |= names
        again = data.draw(st.lists(st.integers(0, first - 1), min_size=n, max_size=n)) if first and origin == 2 else []
        self.writer.asked(self.event, Candidates(x, info, np.arange(first, first + n)), origin, again)
        for i in range(first, first + n):
            nothing = {"fitness": [np.nan] * 2, "error": "", "saved": "", "worker": "", "host": "", "attempt": 0}
            times = dict.fromkeys(("submitted", "started", "finished"), np.nan)
            named = {name: INFO[name](i) for name in names}
            asked = {"x": x[i - first].tolist(), "asked": self.event, "told": -1, "origin": origin}
            asked["retry_of"] = again[i - first] if again else -1
            self.rows.append(nothing | times | asked | named | {"status": Status.PENDING})
        self.note()

    @precondition(lambda self: self.ids(lambda row: row["status"] == Status.PENDING))
    @rule(data=st.data(), saved=st.booleans(), attempt=st.integers(1, 3))
    def some_end(self, data, saved, attempt):
        pending = self.ids(lambda row: row["status"] == Status.PENDING)
        ended = []
        for id in data.draw(st.lists(st.sampled_from(pending), min_size=1, max_size=3, unique=True)):
            status = data.draw(st.sampled_from(ENDED))
            fitness = (float(-id), id / 3) if status is Status.DONE else ()
            error = "" if fitness else data.draw(st.text(max_size=10))
            places = {"worker": f"w{id}", "host": "köln\0", "submitted": 0.5, "started": 1e9 + id, "finished": 2e9}
            names = ("trace",) if saved else ()
            ended.append(
                Evaluation(id, status, attempt, fitness, error=error + "\ntrace" * bool(error), saved=names, **places)
            )
            where = f"saved/000000/{id}-{self.writer.epoch}-{attempt}" if saved else ""
            first = error.partition("\n")[0].encode("utf-8", "replace").decode()
            self.rows[id] |= places | {"status": status, "attempt": attempt, "error": first, "saved": where}
            self.rows[id] |= {"fitness": list(fitness)} if fitness else {}
        self.writer.results(ended)
        self.note()

    @precondition(lambda self: self.ids(lambda row: row["status"] != Status.PENDING and row["told"] < 0))
    @rule(data=st.data())
    def tell(self, data):
        untold = self.ids(lambda row: row["status"] != Status.PENDING and row["told"] < 0)
        ids = sorted(data.draw(st.lists(st.sampled_from(untold), min_size=1, unique=True)))
        self.writer.told(self.event, ids)
        for id in ids:
            self.rows[id]["told"] = self.event
        self.note()

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def observe(self, data):
        point = st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
        ids = st.sampled_from(range(len(self.rows)))
        reports = data.draw(st.dictionaries(ids, st.lists(point, min_size=1, max_size=3), min_size=1, max_size=3))
        stop = tuple(sorted(data.draw(st.sets(st.sampled_from(sorted(reports))))))
        self.writer.observed(self.event, reports, stop)
        self.seen.append((self.event, reports, stop))
        self.note()

    @rule()
    def commit(self):
        end = self.writer._journal.size
        for record, (rows, seen) in zip(self.writer._journal._pending, self.recorded, strict=True):
            end += len(record)
            self.appended.append((end, rows, seen))
        self.recorded = []
        self.writer.commit(durable=False)
        assert self.writer._journal.path.stat().st_size == end

    @rule()
    def fold(self):
        segments = len(self.writer.layout.segments())
        self.writer.fold()
        self.recorded, self.appended = [], []
        self.folded, self.seen_then = copy.deepcopy(self.rows), list(self.seen)
        if len(self.writer.layout.segments()) > segments:
            assert not self.writer._chunks._files.written, "a segment was started before the arrays were on the disk"
        self.note_what_is_on_the_disk()

    @rule(more=st.integers(0, 9))
    def reserve(self, more):
        self.writer.reserve(len(self.rows) + more)

    @rule(again=st.booleans())
    def kill_and_open_again(self, again):
        killed(self.writer)
        _, rows, seen = self.appended[-1] if self.appended else (0, self.folded, self.seen_then)
        self.rows, self.seen = copy.deepcopy(rows), list(seen)
        self.open()
        if again:
            killed(self.writer)
            self.open()

    def cut(self, data):
        """Cut the journal at any byte that was not there when the arrays were written."""
        killed(self.writer)
        journal = self.writer._journal.path
        at = data.draw(st.integers(self.folded_at, journal.stat().st_size))
        os.truncate(journal, at)
        kept = [(0, self.folded, self.seen_then), *(kept for kept in self.appended if kept[0] <= at)]
        self.rows, self.seen = copy.deepcopy(kept[-1][1]), list(kept[-1][2])

    @rule(data=st.data())
    def tear_the_journal_and_open_again(self, data):
        self.cut(data)
        self.open()

    @rule(data=st.data())
    def fail_the_power_and_open_again(self, data):
        """Spoil what was not synced: the end of the journal, and the chunks written since the last segment began."""
        written = sorted(self.writer._chunks._files.written)
        self.cut(data)
        for path in (self.store / key for key in written):
            whole = path.read_bytes() if path.exists() else b""
            left = data.draw(st.sampled_from([whole, whole, whole, b"", whole[: len(whole) // 2], bytes(len(whole))]))
            if path.exists():
                path.write_bytes(left)
                if not left and path not in self.synced and path.name != "zarr.json" and data.draw(st.booleans()):
                    path.unlink()
        self.open()

    @rule(trim=st.booleans())
    def close_and_open_again(self, trim):
        self.writer.close(trim=trim)
        self.folded, self.seen_then = copy.deepcopy(self.rows), list(self.seen)
        self.a_reader_sees_what_was_folded()
        if trim:
            assert Chunks(self.store, lambda: None).capacity == max(1, len(self.rows))
        self.open()

    @rule()
    def a_reader_sees_what_was_folded(self):
        trajectory = load(self.store)
        found = as_rows(trajectory)
        for row, expected in zip(found, self.folded, strict=True):
            absent = {name: MISSING[name] for name in set(row) & set(MISSING)}
            np.testing.assert_equal(row, absent | expected)
        params = trajectory.record["params"]
        assert np.isfinite(params[:, [0, 2, 3]]).all()
        assert np.array_equal(np.isnan(params[:, 1]), params[:, 0] == 0), "n is active for kind b alone"
        assert trajectory.counts()["total"] == len(self.folded)
        assert trajectory.counts()["done"] == sum(row["status"] == Status.DONE for row in self.folded)

    def teardown(self):
        if hasattr(self, "folder"):
            self.fold()
            self.a_reader_sees_what_was_folded()
            self.writer.close()
            assert not list(Layout(self.store).private.glob(".*")), "temporary files are left"
            self.folder.cleanup()


TestAgainstTheOracle = Oracle.TestCase
TestAgainstTheOracle.pytestmark = [pytest.mark.timeout(900)]
TestAgainstTheOracle.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
