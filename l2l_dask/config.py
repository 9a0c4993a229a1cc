"""An experiment's description: from a TOML file, validated, and back from the store that records it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from l2l_dask.errors import ConfigError, L2LError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def in_bytes(size: str | int) -> int:
    """Read a size in memory as Dask does: ``"2 GB"``, ``"512MiB"``, or bytes.

    Raises
    ------
    ValueError
        If it is no size, or none at all.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?i?)b?", str(size).strip().lower())
    n = int(float(found[1]) * _UNITS.get(found[2], 0)) if found else 0
    if n < 1:
        raise ValueError('expected a size such as "2 GB"')
    return n


def _checked(size: Any) -> str | int:
    if isinstance(size, str | int):
        with suppress(ValueError):
            in_bytes(size)
            return size
    raise PydanticCustomError("size", 'expected a size such as "2 GB"')


ALLOCATION = "allocation"  # the profile of an srun, whose tasks take their parts before anything is opened


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Options = dict[str, Any]
Number = Annotated[float, Field(allow_inf_nan=False, strict=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=False)]


class OptimizeeSection(_Section):
    """``[optimizee]``: a registered name, ``file.py:name`` or ``module:name``; or a command line."""

    name: str | None = None
    command: str | list[str] | None = None
    options: Options = {}


class OptimizerSection(_Section):
    """``[optimizer]``: a registered name, ``file.py:name`` or ``module:name``."""

    name: str = "auto"
    options: Options = {}


class RunSection(_Section):
    """``[run]``: how much, and what to do when something fails."""

    evaluations: Annotated[int, Field(gt=0)]
    seed: Annotated[int, Field(ge=0)] = 0
    timeout: Positive | None = None
    retries: Annotated[int, Field(ge=0)] = 1
    retry_on: list[str] = ["crashed"]
    max_failures_in_a_row: Annotated[int, Field(ge=0)] = 20
    initial: list[Options] = []
    store: str | None = None
    target: Number | dict[str, Number] | None = None
    wall_time: Positive | None = None
    repeats: Annotated[int, Field(gt=0)] = 1
    seeds: Literal["independent", "common"] = "independent"
    final: Annotated[int, Field(ge=0)] = 0
    final_repeats: Annotated[int, Field(gt=0)] = 10


class ClusterSection(_Section):
    """``[cluster]``: where the evaluations run."""

    profile: str = "local"
    workers: Annotated[int, Field(gt=0)] | None = None
    options: Options = {}
    offers: dict[str, Positive] = {}
    tls: bool = True
    bundle: bool = False
    resources: dict[str, Positive] = {}
    memory: Annotated[str | int, BeforeValidator(_checked)] | None = None
    show_output: bool = False


class Config(_Section):
    """A whole experiment file."""

    optimizee: OptimizeeSection
    space: dict[str, Any] | None = None
    objectives: dict[str, str] | None = None
    optimizer: OptimizerSection = OptimizerSection()
    run: RunSection
    cluster: ClusterSection = ClusterSection()

    def changed(self, **settings: Any) -> Config:
        """Return this with what is not None in its place, validated.

        Parameters
        ----------
        settings
            Keys of ``[run]`` and ``[cluster]``.
        """
        content = self.model_dump()
        for name, value in settings.items():
            if value is not None:
                content["cluster" if name in ClusterSection.model_fields else "run"][name] = value
        return parse(content)


def read(path: str | os.PathLike[str]) -> Config:
    """Read an experiment file.

    Raises
    ------
    ConfigError
        If it is missing, not TOML, or has a section or key that is unknown, missing or of the wrong type.
    """
    content = _content(Path(path))
    try:
        return parse(content)
    except L2LError as error:
        raise ConfigError(f"{path}: {error}") from None


def store(path: str | os.PathLike[str], run: RunSection) -> Path:
    """Tell where the store of an experiment file lies, if nobody says otherwise."""
    return Path(path).parent / (run.store or f"runs/{Path(path).stem}.zarr")


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def parse(content: Mapping[str, Any]) -> Config:
    """Validate the content of an experiment file.

    Raises
    ------
    ConfigError
        Naming the first key that is wrong, what was expected and what came.
    """
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(_first(error)) from None
    section = config.optimizee
    if (section.name is None) == (section.command is None):
        raise ConfigError('[optimizee] needs either name = "..." or command = "..."')
    if section.command is not None and (config.space is None or config.objectives is None):
        raise ConfigError("a command needs a [space] and [objectives]")
    return config


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    *sections, key = [str(part) for part in first["loc"]]
    where = f"[{'.'.join(sections)}] {key}" if sections else f"[{key}]"
    if first["type"] == "extra_forbidden":
        known = _fields(sections)
        return f"unknown {where}" + (f": expected one of {', '.join(known)}" if known else "")
    if first["type"] == "missing":
        return f"{where} is missing"
    return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}, got {first['input']!r}"


def _fields(sections: list[str]) -> list[str]:
    model: Any = Config
    for section in sections:
        model = model.model_fields[section].annotation if section in getattr(model, "model_fields", {}) else None
    return sorted(getattr(model, "model_fields", {}))


def cluster(where: str, folder: Path) -> dict[str, Any]:
    """Read what ``--cluster`` names: keys of ``[cluster]``, to be put in place of what is there.

    Parameters
    ----------
    where
        A profile's name, an address, or a file: TOML with a ``[cluster]`` section, or a scheduler file.
    folder
        Where relative paths start.

    Raises
    ------
    ConfigError
        If it is a TOML file that cannot be read or has no such section.
    """
    if not where.endswith(".toml"):
        return {"profile": str(folder / where) if (folder / where).is_file() else where}
    path = folder / where
    content = _content(path)
    if set(content) != {"cluster"} or not isinstance(content["cluster"], dict):
        raise ConfigError(f"{path}: expected a [cluster] section and nothing else, got {sorted(content)}")
    try:
        ClusterSection.model_validate(content["cluster"])
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first(error)}") from None
    found: dict[str, Any] = content["cluster"]
    return found
