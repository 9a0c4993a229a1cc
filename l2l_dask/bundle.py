"""What one future stands for: individuals, each to be evaluated once or several times.

A *job* is one evaluation of one individual. Jobs run in *units*: one by one, or as many at once as the optimizee takes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from l2l_dask.evaluation import Candidate, Evaluation, Status

Key: TypeAlias = tuple[int, int]  # an individual's id, and which of its repeats

_FALSE_STARTS = 2


@dataclass(frozen=True)
class Request:
    """What a process is asked to do.

    Attributes
    ----------
    units
        In this order.
    at_least
        How many of the units are to be done however long they take.
    seconds
        After so many it may stop where no individual is half done.
    stop
        Individuals that are to stop at their next reports.
    """

    units: list[list[Candidate]]
    at_least: int = 1
    seconds: float = math.inf
    stop: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Answer:
    """What a process says of its work.

    Attributes
    ----------
    ended
        What came of the jobs that it named in its answer before.
    begins
        The id and repeat of each job that it begins now; none at the end.
    printed
        How many bytes were printed by now.
    """

    ended: list[Evaluation]
    begins: list[Key]
    printed: int


def key(job: Candidate) -> Key:
    return job.id, job.repeat


class Book:
    """What of a bundle is still to be done, what is under way, and what came of the rest.

    Parameters
    ----------
    candidates
        The individuals.
    size
        How many jobs the optimizee takes at once.
    """

    def __init__(self, candidates: Sequence[Candidate], size: int) -> None:
        self._candidates, self._size = candidates, size
        every = [replace(c, repeat=r) if r else c for c in candidates for r in range(c.repeats)]
        self._todo = {key(job): job for job in every}
        self._under_way: list[Candidate] = []
        self._alone: set[int] = set()
        self._ended: dict[int, dict[int, Evaluation]] = {c.id: {} for c in candidates}
        self._false_starts = 0

    @property
    def over(self) -> bool:
        return not self._todo

    @property
    def may_rest(self) -> bool:
        """Whether something has ended, and nothing is half done: no individual, and no batch that is taken apart."""
        if not any(self._ended.values()):
            return False
        return self.over or (not self._those_alone() and may_stop_before(self.units()[0]))

    def units(self) -> list[list[Candidate]]:
        """Group what is to be done; a batch that is taken apart comes first."""
        together = [job for job in self._todo.values() if job.id not in self._alone]
        grouped = [together[i : i + self._size] for i in range(0, len(together), self._size)]
        return self._those_alone() + grouped

    def _those_alone(self) -> list[list[Candidate]]:
        return [[job] for job in self._todo.values() if job.id in self._alone] if self._alone else []

    def request(self, seconds: float) -> Request:
        """Ask for all that is to be done, or as much of it as can be in that time."""
        return Request(self.units(), max(1, len(self._those_alone())), seconds)

    def begin(self, keys: Sequence[Key]) -> None:
        """Note which jobs are under way."""
        self._under_way = [self._todo[k] for k in keys]

    def end(self, evaluations: Sequence[Evaluation]) -> None:
        """Note what came of the jobs under way; an individual that failed, or was stopped, is not repeated."""
        for job, evaluation in zip(self._under_way, evaluations, strict=True):
            self._ended[job.id][job.repeat] = evaluation
            del self._todo[key(job)]
        for job, evaluation in zip(self._under_way, evaluations, strict=True):
            if evaluation.status is not Status.DONE:
                for r in range(job.repeats):
                    self._todo.pop((job.id, r), None)
        self._under_way = []

    def blame(self, reason: Evaluation) -> None:
        """Note that the process was lost.

        To blame is the one job that was under way. Of several it cannot be told: they are to be done again, each
        alone. If none had begun, the first is to blame when that happens again.
        """
        if len(self._under_way) > 1:
            self._alone |= {job.id for job in self._under_way}
            self._under_way = []
            return
        if not self._under_way:
            self._false_starts += 1
            if self._false_starts < _FALSE_STARTS:
                return
            self._under_way = [next(iter(self._todo.values()))]
        job = self._under_way[0]
        self.end([replace(reason, id=job.id, attempt=job.attempt)])

    def fail(self, reason: Evaluation) -> None:
        """Note that none of what is to be done can be done."""
        while self._todo:
            self._under_way = [next(iter(self._todo.values()))]
            self.blame(reason)

    def results(self) -> list[Evaluation]:
        """Return one result for each individual that is done with, in their order."""
        to_do = {id for id, _ in self._todo}
        return [_merged(c, self._ended[c.id]) for c in self._candidates if c.id not in to_do]


def may_stop_before(unit: Sequence[Candidate]) -> bool:
    """Tell whether all before this unit is whole: the repeats of an individual follow each other, from 0."""
    return unit[0].repeat == 0


def _merged(candidate: Candidate, ended: Mapping[int, Evaluation]) -> Evaluation:
    """Turn an individual's repeats into one result; what it saved is what its first evaluation did."""
    repeats = [ended[r] for r in sorted(ended)]
    first, last = repeats[0], repeats[-1]
    if candidate.repeats == 1:
        return first
    whole = replace(first, finished=last.finished, worker=last.worker, host=last.host)
    for r, e in sorted(ended.items()):
        if e.status is Status.STOPPED:
            return replace(whole, status=e.status, fitness=())
        if e.status is not Status.DONE:
            reason, line, rest = e.error.partition("\n")
            error = f"{reason} (evaluation {r + 1} of {candidate.repeats}){line}{rest}"
            return replace(whole, status=e.status, fitness=(), error=error)
    fitness = np.array([e.fitness for e in repeats])
    with np.errstate(over="ignore", invalid="ignore"):
        mean, spread = fitness.mean(axis=0), fitness.std(axis=0, ddof=1)
    if not np.isfinite(mean).all():
        error = f"EvaluationError: the mean of its repeats is not finite: {mean.tolist()}"
        return replace(whole, status=Status.FAILED, fitness=(), error=error)
    return replace(whole, fitness=tuple(mean.tolist()), spread=tuple(spread.tolist()))
