"""A service on the local twin of a batch system."""

import pytest

from .site import Site


@pytest.fixture
def site(tmp_path, l2l, wait_until):
    """A folder with a model and, once started, a service."""
    site = Site(tmp_path, l2l, wait_until)
    yield site
    site.close()
