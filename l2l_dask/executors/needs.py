"""How long an evaluation may need, from how long others of the search took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from l2l_dask.evaluation import Candidate, Evaluation

_MARGIN = 1.2


class Needs:
    """Learns what an evaluation needs.

    Parameters
    ----------
    timeout
        Seconds per evaluation, as declared; None for no limit.

    Attributes
    ----------
    number : int
        How often it changed: who hears of several knows the newest.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._longest, self._warned = 0.0, False
        self.number = 0

    def note(self, candidates: Iterable[Candidate], ended: Iterable[Evaluation]) -> None:
        """Take into account how long individuals took, which were evaluated so often as their candidates say."""
        repeats: Mapping[int, int] = {c.id: c.repeats for c in candidates}
        for evaluation in ended:
            self.saw(evaluation.seconds / repeats.get(evaluation.id, 1))

    def saw(self, seconds: float) -> None:
        """Take into account that an evaluation took so long, at least; what is not a number says nothing."""
        if seconds > self._longest:
            self._longest = seconds
            self.number += 1

    @property
    def seconds(self) -> float:
        """What an evaluation may need: 0 as long as nothing is known."""
        if not self._longest:
            return self._timeout or 0.0
        return min(_MARGIN * self._longest, self._timeout or float("inf"))

    def warning(self, whole: float) -> str:
        """Say, once, that an evaluation may take longer than the jobs of workers let it.

        Parameters
        ----------
        whole
            What a worker can give it.
        """
        if self._warned or not self._timeout or self._timeout <= whole:
            return ""
        self._warned = True
        return (
            f"an evaluation may take {self._timeout:g} s (timeout), but the jobs of the workers leave it {whole:.0f} s "
            "at most: until the first has ended, they begin on new workers alone; give worker jobs more walltime, or "
            "set a shorter timeout"
        )
