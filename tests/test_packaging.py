"""What the distribution promises: its files agree with each other, and nothing in the repository is out of place."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("l2l_dask", "optimizers", "optimizees")

# The extras that environment.yml carries, and the packages that have another name on conda-forge.
CONDA_EXTRAS = ("algorithms", "arbor", "jupyter", "notebooks", "dev")
CONDA_NAMES = {"msgpack-python": "msgpack", "playwright-python": "playwright", "pyribs": "ribs"}


def lower_bounds(requirements):
    """Return name -> version of requirements that must all read ``name>=version``."""
    bounds = {}
    for requirement in map(Requirement, requirements):
        (specifier,) = requirement.specifier
        assert specifier.operator == ">=", f"{requirement}: give a tested lower bound and nothing else"
        bounds[requirement.name] = specifier.version
    return bounds


def pins(name):
    """Return name -> version of a constraints file, in which each line must read ``name==version``."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    requirements = [Requirement(line) for line in lines]
    assert all(str(r.specifier).startswith("==") and r.url is None for r in requirements)
    return {r.name.lower().replace("_", "-"): str(r.specifier).removeprefix("==") for r in requirements}


def all_requirements():
    extras = PROJECT["optional-dependencies"].values()
    return [*PROJECT["dependencies"], *(requirement for extra in extras for requirement in extra)]


@pytest.fixture(scope="module")
def tracked():
    """The files that git tracks and that are there, relative to the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names of the files in the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(command, cwd=folder, check=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_environment_yml_is_pyproject_toml():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    named = [row for row in conda if isinstance(row, str)]
    by_pip = [requirement for row in conda if isinstance(row, dict) for requirement in row["pip"]]
    in_conda = lower_bounds([row for row in named if row != "pip"] + by_pip)

    extras = [requirement for extra in CONDA_EXTRAS for requirement in PROJECT["optional-dependencies"][extra]]
    in_pyproject = lower_bounds([*PROJECT["dependencies"], *extras])
    in_pyproject["python"] = PROJECT["requires-python"].removeprefix(">=")

    assert {CONDA_NAMES.get(name, name): version for name, version in in_conda.items()} == in_pyproject


def test_constraints_satisfy_the_bounds():
    tested = pins("constraints.txt")
    for requirement in map(Requirement, all_requirements()):
        assert requirement.name in tested, f"constraints.txt lacks {requirement.name}"
        assert requirement.specifier.contains(Version(tested[requirement.name])), requirement


def test_lowest_constraints_are_the_lower_bounds():
    assert pins("constraints-lowest.txt") == lower_bounds(all_requirements())


def entry_points():
    groups = {"scripts": PROJECT["scripts"], **PROJECT["entry-points"]}
    return [pytest.param(target, id=f"{group}:{name}") for group in groups for name, target in groups[group].items()]


@pytest.mark.parametrize("target", entry_points())
def test_entry_point_exists(target):
    module, attribute = target.split(":")
    assert callable(getattr(importlib.import_module(module), attribute))


def test_wheel_holds_every_file_of_the_packages(wheel, tracked):
    of_packages = {path.as_posix() for path in tracked if path.parts[0] in PACKAGES}
    assert {f"{package}/__init__.py" for package in PACKAGES} <= of_packages
    assert "l2l_dask/py.typed" in of_packages
    assert of_packages <= set(wheel)


def test_wheel_holds_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)


def test_import_has_no_side_effects(tmp_path):
    program = """
import logging, os, signal, sys, threading
interrupt = signal.getsignal(signal.SIGINT)
import l2l_dask
heavy = {"dask", "distributed", "dask_jobqueue", "zarr", "bokeh", "pandas", "optimizers", "optimizees"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert not logging.getLogger().handlers
assert threading.active_count() == 1
assert signal.getsignal(signal.SIGINT) is interrupt
assert not os.listdir()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_readme_and_license():
    assert "l2l" in (ROOT / "README.md").read_text()
    assert (ROOT / "LICENSE").read_text().startswith("BSD 3-Clause License")
    assert PROJECT["license"] == "BSD-3-Clause"


def test_no_tracked_file_names_a_registry_or_a_local_file(tracked):
    hosts = "|".join(["python" + "hosted", "py" + "pi", "npm" + "js", "debian", "ubuntu", "anaconda"])
    pattern = re.compile(rf"https?://[^\s/\"']*(?:{hosts})|(?:{hosts})\.(?:org|com)|file:" + "//", re.IGNORECASE)
    found = {
        str(path): match.group()
        for path in tracked
        if (match := pattern.search((ROOT / path).read_text(encoding="utf-8", errors="ignore")))
    }
    assert not found


def test_no_tracked_file_is_over_a_megabyte(tracked):
    assert not [path for path in tracked if (ROOT / path).stat().st_size > 1_000_000]


def test_no_module_is_over_400_lines(tracked):
    lengths = {str(path): len((ROOT / path).read_text().splitlines()) for path in tracked if path.suffix == ".py"}
    assert not {path: length for path, length in lengths.items() if length > 400}


def test_no_function_is_over_60_lines(tracked):
    too_long = []
    for path in (path for path in tracked if path.suffix == ".py"):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > 60:
                    too_long.append(f"{path}:{node.lineno} {node.name} ({length})")
    assert not too_long
