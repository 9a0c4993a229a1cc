"""What an evaluation prints in the driver's own process: kept, not shown, unless a person or a debugger asks for it."""

import ctypes
import gc
import logging
import os
import subprocess
import sys
import threading

import pytest

from l2l_dask.capture import Capture


@pytest.fixture
def capture():
    made = Capture()
    yield made
    made.close()


def print_everywhere():
    print("from Python")
    print("to standard error", file=sys.stderr)
    os.write(1, b"below Python\n")
    ctypes.CDLL(None).puts(b"from C, buffered")
    subprocess.run(["echo", "from a program"], check=True)


def test_nothing_that_is_printed_reaches_the_terminal_and_all_of_it_is_kept(capture, capfd):
    with capture():
        print_everywhere()
    print("shown")
    assert capfd.readouterr() == ("shown\n", "")
    kept = capture.tail()
    assert kept.startswith("\nprinted:\n")
    said = {"from Python", "to standard error", "below Python", "from C, buffered", "from a program"}
    assert said == set(kept.splitlines()[2:])


def test_what_was_printed_before_is_not_taken(capture, capfd):
    ctypes.CDLL(None).printf(b"before ")
    with capture():
        pass
    assert capture.tail() == ""
    assert capfd.readouterr().out == "before "


def test_each_block_begins_anew_and_only_the_end_of_much_is_quoted(capture):
    with capture():
        print("first")
    with capture():
        print("x" * 10_000 + "end")
    assert "first" not in capture.tail()
    assert len(capture.tail()) < 5000
    assert capture.tail().endswith("end")


def test_what_went_wrong_gives_the_terminal_back(capture, capfd):
    before = sys.stdout, sys.stderr, sys.breakpointhook
    with pytest.raises(KeyboardInterrupt), capture():
        raise KeyboardInterrupt
    assert (sys.stdout, sys.stderr, sys.breakpointhook) == before
    os.write(2, b"back")
    assert capfd.readouterr().err == "back"


def test_another_thread_takes_nothing_from_the_one_that_the_user_works_in(capture, capfd):
    def evaluate():
        with capture():
            print("in the background")

    thread = threading.Thread(target=evaluate)
    thread.start()
    thread.join()
    assert capture.tail() == ""
    assert capfd.readouterr().out == "in the background\n"


def test_a_breakpoint_gives_the_terminal_to_the_debugger(capture, capfd, monkeypatch):
    monkeypatch.setattr(sys, "breakpointhook", lambda: print("(Pdb)"))
    with capture():
        print("kept")
        breakpoint()
        print("seen while debugging")
    assert capfd.readouterr().out == "(Pdb)\nseen while debugging\n"
    with capture():
        print("kept again")
    assert capfd.readouterr().out == ""
    assert capture.tail() == "\nprinted:\nkept again"


def test_no_descriptor_is_left_open(capture):
    def count():
        return len(os.listdir("/proc/self/fd"))

    gc.collect()  # which closes what earlier tests left behind
    before = count()
    for _ in range(20):
        with capture():
            print("x")
    assert count() == before


def test_who_keeps_a_stream_of_the_block_prints_on_after_it(capture, capfd):
    with capture():
        handler = logging.StreamHandler()  # as a simulator's logger does, when it is imported in an evaluation
        kept = sys.stdout
    capture.close()
    handler.emit(logging.LogRecord("n", logging.WARNING, "", 0, "a warning", (), None))
    print("a line", file=kept)
    assert capfd.readouterr() == ("a line\n", "a warning\n")
