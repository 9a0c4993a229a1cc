"""The line above an experiment's pages: what its buttons say and do, and for how long."""

import pytest

from l2l_dask.dashboard import status
from l2l_dask.dashboard.followed import Followed
from l2l_dask.errors import StoreError
from l2l_dask.trajectory.actions import actions
from l2l_dask.trajectory.layout import Layout, write_json


def _told(store, what):
    return f"{store}: told to {what}"


def _refused(store, what):
    raise StoreError("it does not run")


@pytest.fixture
def shown(tmp_path, stores):
    """Show an experiment in a state, or the same one later in another."""
    store = stores.make(tmp_path / "a.zarr", 30, pending=10)
    followed = Followed(store, "a.zarr")

    def shown(state, line=None, command=_told):
        write_json(Layout(store).state, {"state": state, "epoch": 1, "evaluations": 30})
        followed._looked = 0.0
        followed.renew()
        line = line or status.Status(command, "10.0.0.7")
        line.show(followed)
        return line

    shown.store = store
    return shown


def offered(line):
    return [button.label for button in line._buttons.values() if button.visible]


def test_what_was_done_without_a_record_is_told_with_that_and_remains(shown):
    Layout(shown.store).actions.mkdir()  # so that nothing can be written into it
    line = shown("running")
    line._press("pause")
    assert "told to pause; this could not be put on record" in line._said.text
    assert "actions.jsonl" in line._said.text
    shown("paused", line)
    assert line._said.visible


@pytest.mark.parametrize("command", [_told, _refused])
def test_what_came_of_a_button_is_told_until_the_state_is_another(shown, command):
    line = shown("paused", command=command)
    line._press("unpause")
    shown("paused", line)
    assert line._said.visible
    shown("interrupted", line)
    assert not line._said.visible
    shown("paused", line)
    line._press("unpause")
    assert line._said.visible


def test_only_what_was_done_is_on_record(shown):
    shown("running", command=_refused)._press("pause")
    assert actions(shown.store) == []
    shown("running")._press("pause")
    assert [a.what for a in actions(shown.store)] == ["pause"]


def test_to_stop_takes_two_buttons_of_which_neither_reads_like_unpause(shown):
    line = shown("paused")
    line._press("stop")
    assert offered(line) == ["Stop it: sure?", "Do not stop"]
    line._press("keep")
    assert offered(line) == ["Unpause", "Stop"]
    assert actions(shown.store) == []


def test_one_that_waits_for_its_service_can_be_paused_and_taken_back(shown):
    line = shown("queued")
    assert offered(line) == ["Pause", "Unpause", "Stop"]
    line._press("pause")
    assert "told to pause" in line._said.text
    assert offered(shown("finished", line)) == []
