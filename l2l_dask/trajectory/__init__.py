"""The trajectory: everything that was tried and what came of it, durable in a Zarr group."""

from l2l_dask.trajectory.layout import send
from l2l_dask.trajectory.reader import Individual, Trajectory, load
from l2l_dask.trajectory.record import INITIAL, OPTIMIZER, RETRY, Event, Record
from l2l_dask.trajectory.writer import Writer, create, refuse

__all__ = [
    "INITIAL",
    "OPTIMIZER",
    "RETRY",
    "Event",
    "Individual",
    "Record",
    "Trajectory",
    "Writer",
    "create",
    "load",
    "refuse",
    "send",
]
