"""A stand-in for the trajectory that optimizees of the original L2L are made with and simulate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_INDIVIDUAL = "individual."


class _Keys(tuple[str, ...]):
    """Names, as an attribute and as a method: ``individual.keys`` and ``individual.keys()``."""

    __slots__ = ()

    def __call__(self) -> _Keys:
        return self


class Group:
    """Named values: as attributes, as items, and in :attr:`params`. One that is missing is None.

    Attributes
    ----------
    params : dict
        The values by their names.
    """

    _prefix = ""

    def __init__(self, params: Mapping[str, Any] | None = None) -> None:
        self.params: dict[str, Any] = {self._prefix + name: value for name, value in (params or {}).items()}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "params":  # pickle and copy ask for these before there is anything
            raise AttributeError(name)
        return self.params.get(name, self.params.get(self._prefix + name))

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.params[name] = value

    def __contains__(self, name: object) -> bool:
        return name in self.params or f"{self._prefix}{name}" in self.params

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys)

    def __repr__(self) -> str:
        return repr(self.params)

    @property
    def keys(self) -> _Keys:
        return _Keys(self.params)

    def get(self, name: str, default: Any = None) -> Any:
        value = getattr(self, name)
        return default if value is None else value

    def f_add_parameter(self, key: str, val: Any, comment: str = "") -> None:  # noqa: ARG002
        self.params[key] = val

    f_add_result = f_add_parameter

    def f_add_result_group(self, name: str, comment: str = "") -> None:  # noqa: ARG002
        self.params[name] = Group()

    def f_add_result_to_group(self, group_name: str, key: str, val: Any, comment: str = "") -> None:
        self._group(group_name).f_add_result(key, val, comment)

    def _group(self, name: str) -> Group:
        group = self.params.get(name)
        if not isinstance(group, Group):
            raise KeyError(f"there is no group {name!r}, only {list(self.params)}")
        return group


class Individual(Group):
    """One individual: its parameters are attributes and items, and in :attr:`params` as ``individual.NAME``."""

    _prefix = _INDIVIDUAL

    def __init__(self, params: Mapping[str, Any] | None = None, generation: int = 0, ind_idx: int = 0) -> None:
        super().__init__(params)
        self.generation, self.ind_idx = generation, ind_idx


class L2LTrajectory:
    """What the constructor of an original optimizee wants as ``traj``, and what its ``simulate`` is given.

    It has what optimizees of the original L2L read: ``traj.individual.NAME``, ``traj.individual["NAME"]``,
    ``traj.individual.params``, ``.keys``, ``.ind_idx`` and ``.generation``, ``traj.individuals``, ``traj.par``,
    ``traj.NAME``, and the methods that add parameters, groups and results. As in the original, a name that there is
    not is None.

    Parameters
    ----------
    parameters
        What else optimizees read off it, by name: ``{"n_batches": 10}``.
    individual
        The individual that is to be simulated.
    retry
        How many attempts at it there were before.
    inner_params
        How many parameter sets the individual has, each parameter a list of as many values; 1 for plain values.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any] | None = None,
        individual: Individual | None = None,
        *,
        retry: int = 0,
        inner_params: int = 1,
    ) -> None:
        self.individual = individual or Individual()
        self.individuals = {self.individual.generation: [self.individual]}
        self.parameters = Group({"n_inner_params": inner_params} | dict(parameters or {}))
        self.parameters["individual"] = self.individual
        self.results = Group({"all_results": Group()})
        self.current_results: dict[str, Any] = {}
        self.retry, self.inner_params = retry, inner_params
        self.v_idx, self.hall_of_fame, self.is_loaded = 0, None, False
        self.debug, self.stop_run, self.timeout = False, True, False

    @property
    def par(self) -> Group:
        return self.parameters

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("parameters", "individual"):
            raise AttributeError(name)
        if name in ("generation", "ind_idx") and name not in self.parameters:
            return getattr(self.individual, name)
        found: Any = self.parameters
        for part in name.split("."):
            found = None if found is None else found[part]
        return found

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __repr__(self) -> str:
        return f"L2LTrajectory({self.parameters!r})"

    def f_add_parameter_group(self, name: str, comment: str = "") -> None:  # noqa: ARG002
        if name != "individual":  # which is there
            self.parameters[name] = Group()

    def f_add_parameter(self, key: str, val: Any, comment: str = "") -> None:  # noqa: ARG002
        self.parameters[key] = val

    f_add_derived_parameter = f_add_parameter

    def f_add_parameter_to_group(self, group_name: str, key: str, val: Any) -> None:
        self.parameters._group(group_name).f_add_parameter(key, val)

    def f_add_result(self, key: str, val: Any, comment: str = "") -> None:
        self.results.f_add_result(key, val, comment)
