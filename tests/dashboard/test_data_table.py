"""The table of individuals: filters and orders against plain Python, whatever the columns hold and are called."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2l_dask import Categorical, Real, Space
from l2l_dask.dashboard.data_table import _ranked, cells, columns, page, select
from l2l_dask.errors import ConfigError
from l2l_dask.evaluation import Status
from l2l_dask.trajectory import load

from .measuring import measured
from .stores import EVIL, make


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    store = tmp_path_factory.mktemp("rich") / "s.zarr"
    return load(make(store, 400, objectives=2, rich=True, odd=True, evil=True, generation=20, failures=0.2, pending=7))


def rows(t):
    return t.to_dataframe().reset_index()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("", lambda r: True),
        ("tau >= 0.1", lambda r: r["tau"] >= 0.1),
        ("tau>=0.1 and tau<0.2", lambda r: 0.1 <= r["tau"] < 0.2),
        ('"tau" >= 0.1 and (rule = "stdp" or status = failed)',
         lambda r: r["tau"] >= 0.1 and (r["rule"] == "stdp" or r["status"] == "failed")),
        ("rule = stdp or rule = hebb and tau < 0.1",
         lambda r: r["rule"] == "stdp" or (r["rule"] == "hebb" and r["tau"] < 0.1)),
        ("not (rule == stdp) AND NOT status = done", lambda r: r["rule"] != "stdp" and r["status"] != "done"),
        ("rule ~ b", lambda r: r["rule"] == "hebb"),
        ("window > 50", lambda r: r["window"] > 50),
        ("window != 50", lambda r: r["window"] != 50 and not math.isnan(r["window"])),
        ("w[0,1] < 0", lambda r: r["w[0,1]"] < 0),
        ("id >= 10 and id <= 20", lambda r: 10 <= r["id"] <= 20),
        ("loss = inf", lambda r: r["loss"] == math.inf),
        ("loss < 1e3", lambda r: r["loss"] < 1e3),
        ("generation = 3", lambda r: r["generation"] == 3),
        ('worker = "worker-003"', lambda r: r["worker"] == "worker-003"),
        ("worker != worker-003", lambda r: r["worker"] != "worker-003"),
        ('error ~ "signal 11"', lambda r: "signal 11" in r["error"]),
        ("status != pending and seconds > 20",
         lambda r: r["status"] != "pending" and r["finished"] - r["started"] > 20),
        (f"{json.dumps(EVIL)} = {json.dumps(EVIL)}", lambda r: r[EVIL] == EVIL),
    ],
)  # fmt: skip
def test_a_filter_finds_who_it_says(rich, where, expected):
    table = rows(rich).to_dict("records")
    assert select(rich, where).tolist() == [row["id"] for row in table if expected(row)]


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("tua > 1", "names 'tua', expected a column: loss, rate_of_success, tau"),
        ("tau > much", "compares 'tau' with 'much', expected a number"),
        ("tau ~ 1", "expected one of =, !=, <, <=, >, >=, for it has numbers"),
        ("tau >", "has its end where a value to compare 'tau' with was expected"),
        ("tau", "no comparison after 'tau'"),
        ("tau > 1 g < 2", "has 'g' where 'and' or 'or' was expected"),
        ("(tau > 1", "lacks a '\\)'"),
        ("tau > 1)", "has '\\)' where 'and' or 'or'"),
        ("and", "names 'and'"),
        ("= 3", "has '=' where the name of a column was expected"),
        ('tau > "1', "makes no sense from"),
        ('"t\\q" > 1', "expected text in double quotes"),
        ("tau ! 3", "makes no sense from"),
        ("status = dead", "expected one of \\['pending', 'done'"),
        ("rule > stdp", "expected = or != or ~"),
        ("worker < 3", "expected = or != or ~"),
        ("(" * 60 + "tau > 1" + ")" * 60, "more than 50 brackets"),
        ("not " * 60 + "tau > 1", "more than 50 brackets"),
        ("tau > 1 or " * 2000 + "tau > 1", "longer than 10,000 characters"),
    ],
)
def test_a_filter_that_makes_no_sense_says_what_was_expected(rich, where, problem):
    with pytest.raises(ConfigError, match=problem) as raised:
        select(rich, where)
    assert "\n" not in str(raised.value)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40) | st.text(alphabet='tau=<>!~()" andornot1\\', max_size=60))
def test_whatever_is_typed_is_a_filter_or_a_problem(rich, where):
    try:
        ids = select(rich, where)
    except ConfigError:
        return
    assert len(ids) <= len(rich)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, -1.0, math.inf, -math.inf, math.nan]), max_size=40), st.integers(1, 7))
def test_pages_together_are_all_in_order(values, size):
    values = np.array(values)
    order = sorted(range(len(values)), key=lambda i: (math.isnan(values[i]), 0 if math.isnan(values[i]) else values[i]))
    pages = [_ranked(values, i, min(i + size, len(values))).tolist() for i in range(0, len(values), size)]
    assert [id for ids in pages for id in ids] == order


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", ["id", "loss", "tau", "window", "rule", "status", "seconds", "generation", "told"])
def test_a_page_is_a_part_of_all_in_order(rich, sort, descending):
    values = columns(rich)[sort].values(slice(None)).astype(float)
    known = [i for i in range(400) if not math.isnan(values[i]) and rich.record["status"][i] != Status.FAILED]
    known.sort(key=lambda i: -values[i] if descending else values[i])
    missing = [i for i in range(400) if math.isnan(values[i]) and rich.record["status"][i] != Status.FAILED]
    table = page(rich, "status != failed", sort=sort, descending=descending, number=2, size=30)
    assert table.ids.tolist() == (known + missing)[60:90]
    matching = len(known) + len(missing)
    assert table.shown == f"{matching} of 400 individuals match, 61 to 90 shown"
    assert (table.number, table.pages, table.matching, table.of) == (2, -(-matching // 30), matching, 400)


def test_a_page_beyond_the_last_is_the_last(rich):
    assert page(rich, number=999).ids.tolist() == list(range(350, 400))
    assert page(rich, number=-1).number == 0
    nobody = page(rich, "tau > 1e9", number=4)
    assert (nobody.ids.tolist(), nobody.shown) == ([], "0 of 400 individuals match, none shown")


@pytest.mark.parametrize("sort", ["error", "nothing"])
def test_texts_do_not_sort(rich, sort):
    with pytest.raises(ConfigError, match=f"cannot be sorted by '{sort}'"):
        page(rich, sort=sort)


def test_cells_are_words_and_numbers_that_a_page_can_show(rich):
    table = cells(rich, np.arange(400), list(columns(rich)))
    json.dumps(table, allow_nan=False)
    frame = rows(rich)
    assert table["rule"] == frame["rule"].tolist()
    assert [w is None for w in table["window"]] == frame["window"].isna().tolist()
    assert table["loss"][61 + 1] == "inf"
    assert table["status"] == frame["status"].tolist()


def test_columns_that_would_share_a_name_are_told_apart(tmp_path):
    space = Space({"loss": Real(0, 1), "status": Categorical(["a", "b"]), "id": Real(5, 6), "worker": Real(0, 1)})
    t = load(make(tmp_path / "s.zarr", 20, space=space))
    assert set(columns(t)) >= {"loss", "params.loss", "status", "record.status", "id", "record.id", "record.worker"}
    assert select(t, "id < 5.5 and record.id < 10 and status = a and record.status = done").tolist() == [
        i for i in range(10)
        if t.record["params"][i, 2] < 5.5 and t.record["params"][i, 1] == 0 and t.record["status"][i] == Status.DONE
    ]  # fmt: skip
    assert page(t, sort="id").ids.tolist() == np.argsort(t.record["params"][:, 2]).tolist()
    assert page(t, sort="record.id", descending=True).ids.tolist() == list(range(20))[::-1]


@pytest.mark.slow
def test_a_page_of_a_million_takes_a_tenth_of_a_second(tmp_path):
    t = load(make(tmp_path / "s.zarr", 1_000_000, generation=1000))
    for where, sort in (
        ("", "id"),
        ("", "loss"),
        ("", "status"),
        ("tau > 0.01 and g < 0", "loss"),
        ("status = failed", "tau"),
        ('error ~ "signal"', "id"),
        ("worker = worker-003", "seconds"),
    ):
        with measured() as cost:
            table = page(t, where, sort=sort, descending=True, number=7)
            cells(t, table.ids, list(columns(t)))
        print(f"{1000 * cost.seconds:.0f} ms", repr(where), sort, table.shown)
        assert cost.seconds < 0.3
