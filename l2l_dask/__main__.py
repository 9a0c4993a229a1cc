"""``python -m l2l_dask`` is ``l2l``."""

from l2l_dask.cli import main

main()
