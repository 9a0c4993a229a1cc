"""Who may use how many slots: decisions alone, without clock or I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

_EPSILON = 1e-9


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
        Slot-seconds that it was due and did not get: who is behind most gets what cannot be divided.
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
    """Say how many evaluations each may have running: its due rounded down, and what is left to those behind most."""
    shares = due(claims, slots)
    granted = {name: math.floor(shares[name] / claim.cost + _EPSILON) for name, claim in claims.items()}
    left = slots - math.fsum(granted[name] * claim.cost for name, claim in claims.items())
    first = sorted(claims, key=lambda name: (-claims[name].behind / claims[name].weight, name))
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
