"""Sequential neural posterior estimation, by the library sbi."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._latent import Latent
from optimizers._observations import Target
from optimizers._options import check_count, checked_goal

_LEAST = 20  # simulations to train with
_KEPT = 20_000  # simulations, which bounds memory and the time of a training
_AT_ONCE = 100  # proposals drawn together
_ESTIMATORS = ("maf", "nsf")


class _Simulation(NamedTuple):
    z: Floats
    g: Floats
    from_prior: bool


class SNPE(Optimizer):
    r"""Sequential neural posterior estimation (SNPE-C, automatic posterior transformation): all parameters that fit.

    The optimizee saves what it observes, ``context.save("observation", g)``. A normalising flow learns the density
    :math:`q(\theta | g)` from simulations; those of the first round have parameters from the prior (uniform within
    bounds; normal, by ``loc`` and ``scale``, without), those of later rounds from the flow's posterior at the target.
    Rounds are corrected for by the atomic loss ([1]_, eq. 4 and section 3), which takes simulations of any proposals
    together, so that late results of older rounds need no care. Flows work in coordinates in which the prior is
    standard normal, so there are no bounds for them to leak over. Fitness is not used, but to report the best. A
    simulation's random numbers are part of the method: independent seeds, one evaluation each.

    Asynchronous, it never waits: a round's training begins with ``n_per_round`` new results, and until then proposals
    are drawn from the last posterior. With ``synchronous=True`` the results of a round are awaited. Training takes from
    seconds to minutes, on one thread; a search that is resumed trains once, with all that is recorded, so that it goes
    on with another posterior than if it had not been interrupted.

    Needs ``sbi``: ``pip install 'l2l-dask[sbi]'``.

    Parameters
    ----------
    n_initial
        Simulations with parameters from the prior, before the first training.
    n_per_round
        Simulations before each further one.
    target
        What was measured: numbers, or the path of a .npy file of them; ``None`` if the optimizee saves it too,
        ``context.save("target", y)``.
    density_estimator
        The flow: maf (masked autoregressive) or nsf (neural splines: slower, for posteriors of difficult shape).
    hidden_features
        Width of the flow's layers.
    num_transforms
        Layers of the flow.
    max_num_epochs
        Passes over the simulations at which a training ends, if it has not converged before.
    n_iteration
        Rounds after which it is done; ``None`` for as many as the experiment's evaluations allow.
    stop_criterion
        A fitness, in the user's direction, at which it is done.
    synchronous
        Whether to await all results of a round.

    References
    ----------
    .. [1] D. S. Greenberg, M. Nonnenmacher, J. H. Macke, "Automatic posterior transformation for likelihood-free
       inference", ICML 2019.
    .. [2] J. Boelts et al., "sbi reloaded: a toolkit for simulation-based inference workflows", Journal of Open Source
       Software 10, 2025.
    """

    source: ClassVar[str] = "Greenberg, Nonnenmacher and Macke, ICML 2019; sbi, Journal of Open Source Software, 2025"
    spaces: ClassVar[frozenset[str]] = frozenset({"real", "integer", "unbounded"})
    replay: Literal["exact", "tell"] = "tell"
    needs: tuple[str, ...] = ("observation", "target")

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        n_initial: int = 500,
        n_per_round: int = 500,
        target: list[float] | str | None = None,
        density_estimator: str = "maf",
        hidden_features: int = 50,
        num_transforms: int = 5,
        max_num_epochs: int = 1000,
        n_iteration: int | None = None,
        stop_criterion: float | None = None,
        synchronous: bool = False,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        self.n_initial = check_count("n_initial", n_initial, _LEAST)
        self.n_per_round = check_count("n_per_round", n_per_round, 1)
        if density_estimator not in _ESTIMATORS:
            raise OptimizerError(
                f"density_estimator must be one of {', '.join(_ESTIMATORS)}, got {density_estimator!r}"
            )
        self.max_num_epochs = check_count("max_num_epochs", max_num_epochs, 1)
        self._network = {
            # Those of zuko: in nflows' the first parameter of the order does not depend on the observation.
            "model": f"zuko_{density_estimator}",
            "hidden_features": check_count("hidden_features", hidden_features, 1),
            "num_transforms": check_count("num_transforms", num_transforms, 1),
        }
        self.n_iteration = None if n_iteration is None else check_count("n_iteration", n_iteration, 1)
        self._goal = checked_goal(self.objectives, stop_criterion)
        self._target = Target(target)
        self.needs = self._target.needs
        self.asynchronous = not synchronous
        if importlib.util.find_spec("sbi") is None or importlib.util.find_spec("torch") is None:
            raise OptimizerError("snpe needs sbi: pip install 'l2l-dask[sbi]'")
        self.round = 0  # trainings so far
        self.posterior: Any = None  # sbi's, of latent vectors
        self._latent, self._stopped = Latent(space), False
        self._measured: Floats = np.empty(0)
        self._simulations: list[_Simulation] = []
        self._wanted = self._places = n_initial  # results before the next training; those not yet asked
        self._closed = False  # a round of which all results are in, if synchronous
        self._drawn: list[Floats] = []  # from the posterior and not yet asked
        self._flying: dict[int, tuple[Floats, bool]] = {}

    @property
    def done(self) -> bool:
        return self._stopped or (self.n_iteration is not None and self.round >= self.n_iteration)

    @property
    def _due(self) -> bool:
        return self._closed or (self.asynchronous and self._wanted <= 0)

    def _ask(self, n: int) -> Candidates:
        if not self.done and self._due:
            self._train()
        if self.done:
            n = 0
        elif not self.asynchronous:
            n = min(n, self._places)
            self._places -= n
        rows = np.empty((n, self.space.dim))
        for i in range(n):
            rows[i] = self._proposed()
            self._flying[self.n_asked + i] = (rows[i], self.posterior is None)
        info = {"generation": np.full(n, self.round, dtype=np.int64)}
        return Candidates(self._latent.encoded(rows), info)

    def _proposed(self) -> Floats:
        if self.posterior is None:
            return self._latent.sample(self.rng)
        if not self._drawn:
            import torch

            with _apart(torch, int(self.rng.integers(2**31))):
                sampled = self.posterior.sample((_AT_ONCE,), show_progress_bars=False)
            self._drawn = [z for z in sampled.numpy().astype(float)[::-1] if np.isfinite(z).all()]
        return self._drawn.pop() if self._drawn else self._latent.sample(self.rng)

    def _adopt(self, ids: Ids, x: Floats) -> None:
        self._drawn = []  # the random generator has started anew
        for id, z in zip(ids.tolist(), self._latent.latent(x), strict=True):
            self._flying[id] = (z, id < self.n_initial)  # so that a record that is trusted begins with the prior

    def _tell(self, evaluations: Evaluations) -> None:
        for i, id in enumerate(evaluations.ids.tolist()):
            z, from_prior = self._flying.pop(id)
            pair = self._target.pair(evaluations, i)
            if pair is None:
                continue
            if self._simulations and len(self._simulations[0].g) != len(pair[0]):
                raise OptimizerError(
                    f"observation has {len(pair[0])} numbers, expected {len(self._simulations[0].g)} as those before"
                )
            g, self._measured = pair
            self._simulations.append(_Simulation(z, g, from_prior))
            self._wanted -= 1
            self._stopped = self._stopped or float(evaluations.cost[i, 0]) <= self._goal
        del self._simulations[:-_KEPT]
        if not (self.asynchronous or self._places or self._flying):
            self._closed = len(self._simulations) >= _LEAST
            self._places = 0 if self._closed else _LEAST - len(self._simulations)
        if self._due and self.n_iteration == self.round + 1:
            self._train()  # at once: nobody asks any more

    def _train(self) -> None:
        """Fit the flow to all simulations, and propose from its posterior from now on."""
        import torch
        from sbi.inference import NPE_C
        from sbi.neural_nets import posterior_nn

        dim = self.space.dim
        with _apart(torch, int(self.rng.integers(2**31))):
            prior = torch.distributions.MultivariateNormal(torch.zeros(dim), torch.eye(dim))
            network = posterior_nn(**self._network)
            trainer = NPE_C(prior=prior, density_estimator=network, tracker=_NoTracker(), show_progress_bars=False)
            # First on simulations from the prior, by maximum likelihood; then on all of them, by the atomic loss, which
            # alone leaves the density free where there are no atoms, and so is combined with the other.
            for from_prior in (True, False):
                part = [s for s in self._simulations if s.from_prior == from_prior]
                if not part:
                    continue
                theta = torch.tensor(np.array([s.z for s in part]), dtype=torch.float32)
                x = torch.tensor(np.array([s.g for s in part]), dtype=torch.float32)
                trainer.append_simulations(theta, x, proposal=prior if from_prior else self._some_proposal(torch))
                if not from_prior or len(part) >= _LEAST:
                    estimator = trainer.train(
                        num_atoms=min(10, len(self._simulations) // 10),  # a tenth is for validation: no more than that
                        training_batch_size=min(200, max(_LEAST, len(self._simulations) // 10)),
                        max_num_epochs=self.max_num_epochs,
                        use_combined_loss=not from_prior,
                    )
            self.posterior = trainer.build_posterior(estimator)
            self.posterior.set_default_x(torch.tensor(self._measured, dtype=torch.float32)[None])
        self.round += 1
        self._wanted = self._places = self.n_per_round
        self._drawn, self._closed = [], False

    def _some_proposal(self, torch: Any) -> Any:
        """Return what marks simulations as not from the prior; to the atomic loss it does not matter what it is."""
        if self.posterior is not None:
            return self.posterior
        dim = self.space.dim
        return torch.distributions.MultivariateNormal(torch.zeros(dim), torch.eye(dim))


class _NoTracker:
    """A tracker of sbi's that keeps nothing: its default writes files."""

    log_dir = None

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        pass

    def log_params(self, params: dict[str, Any]) -> None:
        pass

    def add_figure(self, name: str, figure: Any, step: int | None = None) -> None:
        pass

    def flush(self) -> None:
        pass


@contextlib.contextmanager
def _apart(torch: Any, seed: int) -> Iterator[None]:
    """Run on one thread with a seed, and leave the process as it was; what sbi prints goes to standard error."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
