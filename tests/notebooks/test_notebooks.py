"""The notebooks run from top to bottom, in a Jupyter kernel of their own."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs the extra l2l-dask[notebooks]")
nbclient = pytest.importorskip("nbclient", reason="needs the extra l2l-dask[notebooks]")

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


def cut_short(notebook: Any) -> Any:
    """Put small budgets in place of those of the cell with the tag "parameters", as the notebook's metadata say."""
    smoke = notebook.metadata.get("smoke", {})
    tagged = [n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == bool(smoke), "budgets are cut in one cell, with the tag parameters"
    if smoke:
        names = [node for node in ast.walk(ast.parse(notebook.cells[tagged[0]].source)) if isinstance(node, ast.Name)]
        assigned = {name.id for name in names if isinstance(name.ctx, ast.Store)}
        assert smoke.keys() <= assigned
        lines = "\n".join(f"{name} = {value!r}" for name, value in smoke.items())
        notebook.cells.insert(tagged[0] + 1, nbformat.v4.new_code_cell(lines))
    return notebook


@pytest.fixture
def l2l_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let notebooks call the command line; a service that one of them left is stopped."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    yield
    for service in tmp_path.glob("*/.l2l-service"):
        subprocess.run(["l2l", "service", "stop", str(service.parent), "--now"], check=False, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.usefixtures("l2l_on_path")
def test_a_notebook_runs_without_an_error(path: Path, tmp_path: Path) -> None:
    notebook = cut_short(nbformat.read(path, as_version=4))
    for needed in notebook.metadata.get("requires", []):
        if needed.isupper():
            if needed not in os.environ:
                pytest.skip(f"needs {needed} to be set")
        elif find_spec(needed) is None:
            pytest.skip(f"needs {needed}")
    client = nbclient.NotebookClient(
        notebook, timeout=180, iopub_timeout=60, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    errors = [output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert not errors


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook.cells)
