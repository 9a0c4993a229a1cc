"""The notebook on clusters, as it stands, on a real Slurm."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs the extra l2l-dask[notebooks]")
nbclient = pytest.importorskip("nbclient", reason="needs the extra l2l-dask[notebooks]")

NOTEBOOK = Path(__file__).parents[2] / "notebooks/cluster.ipynb"
FEWER = "evaluations = 1000"


@pytest.fixture
def l2l_on_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    yield
    # Where the notebook did not come so far.
    subprocess.run(["l2l", "service", "stop", "lab", "--now"], cwd=tmp_path, check=False, capture_output=True)


@pytest.mark.slow
def test_the_notebook_on_clusters_runs_on_slurm_and_leaves_no_job(slurm, l2l_on_path, tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (tagged,) = (n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    notebook.cells.insert(tagged + 1, nbformat.v4.new_code_cell(FEWER))
    client = nbclient.NotebookClient(
        notebook, timeout=180, iopub_timeout=60, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    (waits,) = (n for n, cell in enumerate(notebook.cells) if "search.wait(" in cell.source)
    before, after = (
        str([cell.get("outputs") for cell in part]) for part in (notebook.cells[:waits], notebook.cells[waits:])
    )
    assert "the service is job" in before
    assert "night: finished" not in before  # it was left while it ran
    assert "'done': 1000" in after
    slurm.wait_for(lambda: all(job.ended for job in slurm.jobs()), 30)
    slurm.wait_for(lambda: {process.name() for process in slurm.processes()} == {"slurmd"})
