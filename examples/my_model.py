"""A model of your own: a function of the parameters that returns how well they do."""

import math


def fitness(params):
    times = [0.1 * i for i in range(100)]
    target = [math.exp(-t / 3.0) * math.cos(2.0 * t) for t in times]
    found = [math.exp(-t / params["tau"]) * math.cos(params["omega"] * t) for t in times]
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(found, target, strict=True)) / len(times))
