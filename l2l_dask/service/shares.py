"""Who may use how many slots: decisions alone, without clock or I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

_EPSILON = 1e-9
_HORIZON = 2.0  # seconds in which to make up for what one is behind,
_MOST = 0.5  # with no more than such a part of its share
_MEMORY = 60.0  # seconds of one's share that are made up for at most


@dataclass(frozen=True)
class Claim:
    """What one experiment lays claim to.

    Attributes
    ----------
    weight
        Its share, relative to those of others.
    wanted
        How many evaluations it could have running now.
    cost
        Slots that one of them takes.
    behind
        Slot-seconds that it was due and did not get.
    """

    weight: float
    wanted: int
    cost: float = 1.0
    behind: float = 0.0


def due(claims: Mapping[str, Claim], slots: float) -> dict[str, float]:
    """Divide slots by weight; what one does not want goes to the others, by weight again.

    Returns
    -------
    Slots for each, not whole ones.
    """
    shares, left = dict.fromkeys(claims, 0.0), float(slots)
    weights = math.fsum(claim.weight for claim in claims.values())
    modest_first = sorted(claims, key=lambda name: claims[name].wanted * claims[name].cost / claims[name].weight)
    for name in modest_first:
        claim = claims[name]
        part = left * min(1.0, claim.weight / weights) if weights > 0 else left
        shares[name] = min(claim.wanted * claim.cost, part)
        left = max(0.0, left - shares[name])
        weights -= claim.weight
    return shares


def quotas(claims: Mapping[str, Claim], slots: float) -> dict[str, int]:
    """Say how many evaluations each may have running: in whole numbers that follow what each is due and lacks."""
    goals = _goals(claims, slots)
    granted = {name: math.floor(goals[name] / claim.cost + _EPSILON) for name, claim in claims.items()}
    left = slots - math.fsum(granted[name] * claim.cost for name, claim in claims.items())
    first = sorted(claims, key=lambda name: (granted[name] - goals[name] / claims[name].cost, name))
    given = True
    while given:
        given = False
        for name in first:
            claim = claims[name]
            if granted[name] < claim.wanted and claim.cost <= left + _EPSILON:
                granted[name] += 1
                left -= claim.cost
                given = True
    return granted


def _goals(claims: Mapping[str, Claim], slots: float) -> dict[str, float]:
    """Move what is due towards those that are further behind than others that want more, too."""
    shares = due(claims, slots)
    short = _short(claims, shares)
    weights = math.fsum(claims[name].weight for name in short)
    common = math.fsum(claims[name].behind for name in short) / weights if weights else 0.0
    goals = dict(shares)
    for name in short:
        claim = claims[name]
        moved = (claim.behind - common * claim.weight) / _HORIZON
        most = max(claim.cost, _MOST * shares[name])
        goals[name] = min(claim.wanted * claim.cost, max(0.0, shares[name] + min(most, max(-most, moved))))
    total = math.fsum(goals.values())
    return {name: goal * slots / total for name, goal in goals.items()} if total > slots else goals


def _short(claims: Mapping[str, Claim], shares: Mapping[str, float]) -> list[str]:
    """List those that want more than they are due."""
    return [name for name, claim in claims.items() if shares[name] < claim.wanted * claim.cost - _EPSILON]


class Ledger:
    """Keeps accounts of slot-seconds.

    Parameters
    ----------
    used
        What each used before.

    Attributes
    ----------
    used : dict
        What each used so far.
    """

    def __init__(self, used: Mapping[str, float] | None = None) -> None:
        self.used: dict[str, float] = dict(used or {})
        self._behind: dict[str, float] = {}

    def behind(self, name: str) -> float:
        """Tell how many slot-seconds one was due and did not get."""
        return self._behind.get(name, 0.0)

    def enter(self, claims: Mapping[str, Claim], slots: float, running: Mapping[str, float], seconds: float) -> None:
        """Enter what was used for some seconds; what nobody used is nobody's loss.

        Parameters
        ----------
        running
            Slots in use, by name.
        """
        shares = due(claims, slots)
        used = {name: running.get(name, 0.0) * seconds for name in claims}
        short = _short(claims, shares)
        wanted = math.fsum(shares[name] for name in short) * seconds
        part = min(1.0, math.fsum(used[name] for name in short) / wanted) if wanted else 0.0
        for name in short:
            limit = _MEMORY * max(claims[name].cost, shares[name])
            behind = self.behind(name) + shares[name] * seconds * part - used[name]
            self._behind[name] = min(limit, max(-limit, behind))
        for name in claims:
            self.used[name] = self.used.get(name, 0.0) + used[name]
        for name in self._behind.keys() - set(short):
            del self._behind[name]
