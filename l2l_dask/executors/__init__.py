"""Where candidates run: in place, on a virtual cluster, or on Dask (imported only when it is used)."""

from l2l_dask.executors.base import Executor
from l2l_dask.executors.serial import Serial
from l2l_dask.executors.simulated import Simulated

__all__ = ["Executor", "Serial", "Simulated"]
