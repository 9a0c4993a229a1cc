"""Random search."""

from __future__ import annotations

from typing import ClassVar

from l2l_dask.evaluation import Candidates, Evaluations
from l2l_dask.optimizer import Optimizer


class RandomSearch(Optimizer):
    """Independent uniform samples: the baseline that every other algorithm must beat.

    Bounded parameters are uniform on their (possibly logarithmic) scale, unbounded ones normal around ``loc`` with
    standard deviation ``scale``. It learns nothing from results and takes any number of objectives.

    References
    ----------
    .. [1] J. Bergstra, Y. Bengio, "Random search for hyper-parameter optimization", Journal of Machine Learning
       Research 13, 2012.
    """

    source: ClassVar[str] = "Bergstra and Bengio, Journal of Machine Learning Research 13, 2012"
    max_objectives: int | None = None

    def _ask(self, n: int) -> Candidates:
        return Candidates(self.space.sample(self.rng, n))

    def _tell(self, evaluations: Evaluations) -> None:
        pass
