"""The trajectory: everything that was tried and what came of it, durable in a Zarr group."""

from l2l_dask.trajectory.creating import create, refuse
from l2l_dask.trajectory.following import Change, Following, News
from l2l_dask.trajectory.layout import send
from l2l_dask.trajectory.live import underway
from l2l_dask.trajectory.reader import Individual, Trajectory, load, look
from l2l_dask.trajectory.record import FINAL, INITIAL, OPTIMIZER, RETRY, Event, Record
from l2l_dask.trajectory.writer import Writer, mended

__all__ = [
    "FINAL",
    "INITIAL",
    "OPTIMIZER",
    "RETRY",
    "Change",
    "Event",
    "Following",
    "Individual",
    "News",
    "Record",
    "Trajectory",
    "Writer",
    "create",
    "load",
    "look",
    "mended",
    "refuse",
    "send",
    "underway",
]
