"""The pages: what they show runs, and what they link to is there."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUNNER = Path(__file__).with_name("_page.py")

ON_SLURM = {"hpc.md"}  # tests/hpc carries these out

LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
SECONDS = 1200


def carry_out(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a page's blocks in a folder that has the examples, in a process group of its own."""
    (folder / "page").mkdir()
    shutil.copytree(ROOT / "examples", folder / "page" / "examples", ignore=shutil.ignore_patterns("runs"))
    process = subprocess.Popen(
        [sys.executable, "-P", RUNNER, page, folder],
        cwd=folder / "page",
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=SECONDS)
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return subprocess.CompletedProcess([], process.returncode, output)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in ON_SLURM], ids=lambda page: page.name)
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    done = carry_out(page, tmp_path)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:]


@pytest.mark.parametrize(
    ("language", "code", "why"),
    [
        ("python", "assert 1 > 2", "AssertionError"),
        ("python", ">>> 1 + 1\n3", "the output is another"),
        ("console", "$ l2l show nothing.zarr", "ended with exit status 2"),
        ("console", "$ l2l show nothing.zarr  # exit status 2\nl2l: another message", "the page says"),
        ("console", "$ rm -r .", "neither a command that is run"),
        ("haskell", "main", "a block of 'haskell'"),
    ],
)
def test_a_block_that_does_not_do_what_the_page_says_fails(language: str, code: str, why: str, tmp_path: Path) -> None:
    page = tmp_path / "wrong.md"
    page.write_text(f"Text.\n\n```{language}\n{code}\n```\n")
    done = carry_out(page, tmp_path)
    assert done.returncode == 1
    assert why in done.stdout
    assert "wrong.md, the block at line 4" in done.stdout


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_relative_links_point_to_what_is_there(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path) if path else page
        assert found.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name} links to {target}, there is {sorted(anchors(found))}"


def anchors(page: Path) -> set[str]:
    """List the anchors of a page's headings, as GitHub and GitLab make them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S), re.M
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
