"""The journal: whatever is torn off or damaged, what is read is an exact prefix of what was written."""

import multiprocessing
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2l_dask.trajectory.journal import Journal, claim, pack, read

VALUES = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(max_size=20), st.binary(max_size=40), st.floats(0, 1))
RECORDS = st.lists(st.dictionaries(st.text(max_size=8), VALUES, max_size=4), max_size=8)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("journal") / "journal.log"


def written(file, data):
    file.write_bytes(data)
    return list(read(file))


def whole_before(records, position):
    """Count the records that end at or before a byte's position."""
    end, n = 0, 0
    for record in records:
        end += len(pack(record))
        n += end <= position
    return n


@given(records=RECORDS, data=st.data())
def test_a_journal_cut_at_any_byte_yields_the_records_before_it(file, records, data):
    content = b"".join(map(pack, records))
    cut = data.draw(st.integers(0, len(content)))
    assert written(file, content[:cut]) == records[: whole_before(records, cut)]


@given(records=RECORDS.filter(bool), data=st.data())
def test_a_journal_with_a_flipped_bit_yields_the_records_before_it(file, records, data):
    content = bytearray(b"".join(map(pack, records)))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << data.draw(st.integers(0, 7))
    assert written(file, bytes(content)) == records[: whole_before(records, position)]


@given(records=RECORDS, rubbish=st.one_of(st.binary(max_size=60), st.integers(1, 5000).map(bytes)))
def test_rubbish_or_zeros_after_the_end_are_never_taken_for_a_record(file, records, rubbish):
    assert written(file, b"".join(map(pack, records)) + rubbish) == records


def test_what_is_added_is_written_by_the_next_append_and_only_then(tmp_path):
    path = tmp_path / "journal.log"
    assert claim(path)
    journal = Journal(path)
    journal.add({"a": 1})
    journal.add({"b": b"\0"})
    assert list(read(path)) == []
    journal.append(durable=False)
    journal.append(durable=True)
    journal.add({"c": None})
    journal.append(durable=True)
    journal.close()
    assert list(read(path)) == [{"a": 1}, {"b": b"\0"}, {"c": None}]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from l2l_dask.errors import StoreError
from l2l_dask.trajectory.journal import Journal, claim, read

path, durable = Path(sys.argv[1]), sys.argv[2] == "durable"
claim(path)
journal = Journal(path)
journal.add({"first": 1})
journal.append(durable=durable)
size = path.stat().st_size
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
journal.add({"small": 2})
journal.add({"large": b"x" * 1000})
try:
    journal.append(durable=durable)
except StoreError as error:
    print(error)
print(path.stat().st_size - size, list(read(path)))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append(durable=durable)
print([sorted(record) for record in read(path)])
"""


@pytest.mark.parametrize("durable", ["durable", "fast"])
def test_a_full_disk_is_one_line_and_leaves_the_journal_as_it_was_and_appendable(tmp_path, durable):
    path = tmp_path / "journal.log"
    run = subprocess.run([sys.executable, "-c", FULL_DISK, path, durable], capture_output=True, text=True, check=False)
    assert run.stderr == ""
    assert run.stdout.splitlines() == [
        f"{path} cannot be written: File too large",
        "0 [{'first': 1}]",
        "[['first'], ['small'], ['large']]",
    ]


def _claims(path, gate, won):
    gate.wait()
    won.put(claim(path))


def test_of_many_processes_that_claim_at_once_one_succeeds(tmp_path):
    context = multiprocessing.get_context("fork")
    for trial in range(5):
        gate, won = context.Barrier(8), context.SimpleQueue()
        path = tmp_path / f"{trial}.log"
        takers = [context.Process(target=_claims, args=(path, gate, won)) for _ in range(8)]
        for taker in takers:
            taker.start()
        results = [won.get() for _ in takers]
        for taker in takers:
            taker.join()
        assert sorted(results) == [False] * 7 + [True]


def test_a_claim_leaves_what_is_there_alone(tmp_path):
    path = tmp_path / "journal.log"
    path.write_bytes(pack({"a": 1}))
    assert not claim(path)
    assert list(read(path)) == [{"a": 1}]
