"""A real Slurm for the tests on it, one for the whole session."""

import pytest

from l2l_dask import load

from .lab import Slurm, missing

_LAB = pytest.StashKey[Slurm]()


@pytest.fixture(scope="session")
def _lab(request):
    if reason := missing():
        pytest.skip(reason)
    with Slurm() as lab:
        request.config.stash[_LAB] = lab
        yield lab
    del request.config.stash[_LAB]


@pytest.fixture
def slurm(_lab, monkeypatch):
    """The Slurm, all well and with no job running; what this test starts finds it, and what it leaves is ended."""
    for name, value in _lab.environment.items():
        monkeypatch.setenv(name, value)
    yield _lab
    _lab.reset()


@pytest.fixture
def workers():
    """Tell who has evaluated so far: ``workers(store)``."""

    def workers(store):
        return set(load(store).record["worker"].tolist()) - {""} if store.exists() else set()

    return workers


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Show what Slurm has logged, where a test that used it failed."""
    report = yield
    lab = item.config.stash.get(_LAB, None)
    if report.failed and lab is not None and "slurm" in item.fixturenames:
        report.sections.append(("Slurm's logs", lab.logs()))
    return report
