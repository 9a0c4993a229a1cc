"""The page on clusters: what it shows runs on a real Slurm."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.soak
def test_every_block_of_the_page_on_clusters_runs(slurm, tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "page/examples", ignore=shutil.ignore_patterns("runs"))
    done = subprocess.run(
        [sys.executable, "-P", ROOT / "tests/docs/_page.py", ROOT / "docs/hpc.md", tmp_path],
        cwd=tmp_path / "page",
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    slurm.wait_for(lambda: all(job.ended for job in slurm.jobs()))
