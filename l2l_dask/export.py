"""A snapshot of a trajectory in other tools' formats."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from l2l_dask.errors import ConfigError, StoreError
from l2l_dask.trajectory import Trajectory

_SUFFIXES = (".csv", ".parquet", ".nc")


def export(trajectory: Trajectory, out: Path) -> None:
    """Write a trajectory, whole or not at all.

    Parameters
    ----------
    out
        Its suffix says the format: ``.csv``, ``.parquet`` (a table, as
        :meth:`~l2l_dask.trajectory.Trajectory.to_dataframe`) or ``.nc`` (NetCDF-4, as ``to_xarray``).

    Raises
    ------
    ConfigError
        If the suffix is another.
    StoreError
        If it cannot be written.
    """
    if out.suffix not in _SUFFIXES:
        raise ConfigError(f"expected a file that ends in one of {', '.join(_SUFFIXES)}, got {out}")
    temporary = out.with_name(f".{out.name}-{os.getpid()}{out.suffix}")
    try:
        if out.suffix == ".csv":
            trajectory.to_dataframe().to_csv(temporary)
        elif out.suffix == ".parquet":
            _of_one_type(trajectory.to_dataframe()).to_parquet(temporary)
        else:
            trajectory.to_xarray().to_netcdf(temporary, engine="h5netcdf")
        os.replace(temporary, out)
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _of_one_type(table: Any) -> Any:
    """Turn choices of several types into text: a column of Parquet has one."""
    from pandas.api.types import infer_dtype

    mixed = [name for name in table if infer_dtype(table[name]).startswith("mixed")]
    return table.assign(**{name: table[name].map(str, na_action="ignore") for name in mixed})
