"""``python -m l2l_dask.service DIR``: what the job of a service runs."""

from l2l_dask.service.serving import main

main()
