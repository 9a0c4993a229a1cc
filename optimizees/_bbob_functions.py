"""The 24 noiseless BBOB functions by formula.

N. Hansen, S. Finck, R. Ros, A. Auger: Real-parameter black-box optimization benchmarking 2009: noiseless functions
definitions. INRIA research report RR-6829, 2009. Symbols are the report's: z is the transformed x, Lambda^alpha the
conditioning, T_osz and T_asy^beta the irregularities, f_pen the boundary penalty. Each function is given without f_opt.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from l2l_dask.space import Floats
from optimizees._bbob_instances import Instance

Formula: TypeAlias = Callable[[Floats, Instance], float]


@lru_cache(maxsize=64)
def ramp(dim: int) -> Floats:
    """(i - 1) / (D - 1) for i = 1 .. D."""
    values = np.arange(dim) / (dim - 1)
    values.flags.writeable = False
    return values


@lru_cache(maxsize=64)
def conditioning(alpha: float, dim: int) -> Floats:
    """Diagonal of Lambda^alpha: alpha^((i - 1) / (2 (D - 1)))."""
    values: Floats = alpha ** (0.5 * ramp(dim))
    values.flags.writeable = False
    return values


def t_osz(x: Floats) -> Floats:
    """T_osz: smooth, small irregularities."""
    positive = x > 0
    log = np.log(np.abs(np.where(x == 0, 1.0, x)))
    c1, c2 = np.where(positive, 10.0, 5.5), np.where(positive, 7.9, 3.1)
    bent: Floats = np.sign(x) * np.exp(log + 0.049 * (np.sin(c1 * log) + np.sin(c2 * log)))
    return bent


def t_asy(x: Floats, beta: float) -> Floats:
    """T_asy^beta: breaks the symmetry about the optimum."""
    positive = np.where(x > 0, x, 0.0)
    bent: Floats = np.where(x > 0, positive ** (1 + beta * ramp(len(x)) * np.sqrt(positive)), x)
    return bent


def f_pen(x: Floats) -> float:
    """f_pen: squared distance from the search domain [-5, 5]^D."""
    return float((np.maximum(0.0, np.abs(x) - 5) ** 2).sum())


def _rastrigin_sum(z: Floats) -> float:
    return float(10 * (len(z) - np.cos(2 * np.pi * z).sum()) + z @ z)


def _rosenbrock_terms(z: Floats) -> Floats:
    terms: Floats = 100 * (z[:-1] ** 2 - z[1:]) ** 2 + (z[:-1] - 1) ** 2
    return terms


def sphere(x: Floats, p: Instance) -> float:
    """f1."""
    z = x - p.x_opt
    return float(z @ z)


def ellipsoid(x: Floats, p: Instance) -> float:
    """f2, separable."""
    z = t_osz(x - p.x_opt)
    return float((10.0 ** (6 * ramp(p.dim)) * z**2).sum())


def rastrigin(x: Floats, p: Instance) -> float:
    """f3, separable."""
    return _rastrigin_sum(conditioning(10, p.dim) * t_asy(t_osz(x - p.x_opt), 0.2))


def bueche_rastrigin(x: Floats, p: Instance) -> float:
    """f4."""
    z = t_osz(x - p.x_opt)
    s = 10.0 ** (0.5 * ramp(p.dim))
    s[::2] = np.where(z[::2] > 0, 10 * s[::2], s[::2])
    return _rastrigin_sum(s * z) + 100 * f_pen(x)


def linear_slope(x: Floats, p: Instance) -> float:
    """f5: the optimum lies on a corner of the domain."""
    s = np.sign(p.x_opt) * 10.0 ** ramp(p.dim)
    z = np.where(p.x_opt * x < 5**2, x, p.x_opt)
    return float((5 * np.abs(s) - s * z).sum())


def attractive_sector(x: Floats, p: Instance) -> float:
    """f6."""
    z = p.q @ (conditioning(10, p.dim) * (p.r @ (x - p.x_opt)))
    s = np.where(z * p.x_opt > 0, 100.0, 1.0)
    return float(t_osz(((s * z) ** 2).sum()) ** 0.9)


def step_ellipsoid(x: Floats, p: Instance) -> float:
    """f7: plateaus."""
    z_hat = conditioning(10, p.dim) * (p.r @ (x - p.x_opt))
    z_tilde = np.where(np.abs(z_hat) > 0.5, np.floor(0.5 + z_hat), np.floor(0.5 + 10 * z_hat) / 10)
    z = p.q @ z_tilde
    return float(0.1 * max(abs(z_hat[0]) / 1e4, (10.0 ** (2 * ramp(p.dim)) * z**2).sum())) + f_pen(x)


def rosenbrock(x: Floats, p: Instance) -> float:
    """f8, original."""
    return float(_rosenbrock_terms(p.rosenbrock_scale * (x - p.x_opt) + 1).sum())


def rosenbrock_rotated(x: Floats, p: Instance) -> float:
    """f9."""
    return float(_rosenbrock_terms(p.rosenbrock_scale * (p.r @ x) + 0.5).sum())


def ellipsoid_rotated(x: Floats, p: Instance) -> float:
    """f10."""
    z = t_osz(p.r @ (x - p.x_opt))
    return float((10.0 ** (6 * ramp(p.dim)) * z**2).sum())


def discus(x: Floats, p: Instance) -> float:
    """f11."""
    z = t_osz(p.r @ (x - p.x_opt))
    return float(1e6 * z[0] ** 2 + z[1:] @ z[1:])


def bent_cigar(x: Floats, p: Instance) -> float:
    """f12."""
    z = p.r @ t_asy(p.r @ (x - p.x_opt), 0.5)
    return float(z[0] ** 2 + 1e6 * (z[1:] @ z[1:]))


def sharp_ridge(x: Floats, p: Instance) -> float:
    """f13."""
    z = p.q @ (conditioning(10, p.dim) * (p.r @ (x - p.x_opt)))
    return float(z[0] ** 2 + 100 * np.sqrt(z[1:] @ z[1:]))


def different_powers(x: Floats, p: Instance) -> float:
    """f14."""
    z = p.r @ (x - p.x_opt)
    return float(np.sqrt((np.abs(z) ** (2 + 4 * ramp(p.dim))).sum()))


def rastrigin_rotated(x: Floats, p: Instance) -> float:
    """f15."""
    z = p.r @ (conditioning(10, p.dim) * (p.q @ t_asy(t_osz(p.r @ (x - p.x_opt)), 0.2)))
    return _rastrigin_sum(z)


def weierstrass(x: Floats, p: Instance) -> float:
    """f16."""
    z = p.r @ (conditioning(1 / 100, p.dim) * (p.q @ t_osz(p.r @ (x - p.x_opt))))
    k = np.arange(12)
    half, three = 0.5**k, 3.0**k
    f_0 = (half * np.cos(np.pi * three)).sum()
    mean = (half * np.cos(2 * np.pi * three * (z[:, None] + 0.5))).sum() / p.dim
    return float(10 * (mean - f_0) ** 3 + 10 / p.dim * f_pen(x))


def _schaffers(x: Floats, p: Instance, alpha: float) -> float:
    z = conditioning(alpha, p.dim) * (p.q @ t_asy(p.r @ (x - p.x_opt), 0.5))
    s = np.sqrt(z[:-1] ** 2 + z[1:] ** 2)
    mean = (np.sqrt(s) * (1 + np.sin(50 * s**0.2) ** 2)).sum() / (p.dim - 1)
    return float(mean**2) + 10 * f_pen(x)


def schaffers(x: Floats, p: Instance) -> float:
    """f17, Schaffers' F7."""
    return _schaffers(x, p, 10)


def schaffers_ill_conditioned(x: Floats, p: Instance) -> float:
    """f18."""
    return _schaffers(x, p, 1000)


def griewank_rosenbrock(x: Floats, p: Instance) -> float:
    """f19, composite Griewank-Rosenbrock F8F2."""
    s = _rosenbrock_terms(p.rosenbrock_scale * (p.r @ x) + 0.5)
    return float(10 / (p.dim - 1) * (s / 4000 - np.cos(s)).sum() + 10)


def schwefel(x: Floats, p: Instance) -> float:
    """f20."""
    twice = 2 * np.abs(p.x_opt)
    z_hat = 2 * p.signs * x
    z_hat[1:] += 0.25 * (z_hat[:-1] - twice[:-1])
    z = 100 * (conditioning(10, p.dim) * (z_hat - twice) + twice)
    return float(-(z * np.sin(np.sqrt(np.abs(z)))).sum() / (100 * p.dim) + 4.189828872724339 + 100 * f_pen(z / 100))


def gallagher(x: Floats, p: Instance) -> float:
    """f21 (101 peaks) and f22 (21 peaks)."""
    peaks = p.peaks
    distance = (x - peaks.centres) @ p.r.T
    hills = peaks.heights * np.exp(-0.5 / p.dim * (peaks.scales * distance**2).sum(axis=1))
    return float(t_osz(10 - hills.max()) ** 2 + f_pen(x))


def katsuura(x: Floats, p: Instance) -> float:
    """f23."""
    z = p.q @ (conditioning(100, p.dim) * (p.r @ (x - p.x_opt)))
    two = 2.0 ** np.arange(1, 33)
    scaled = two * z[:, None]
    sums = (np.abs(scaled - np.round(scaled)) / two).sum(axis=1)
    product = np.prod((1 + np.arange(1, p.dim + 1) * sums) ** (10 / p.dim**1.2))
    return float(10 / p.dim**2 * (product - 1)) + f_pen(x)


def lunacek(x: Floats, p: Instance) -> float:
    """f24, Lunacek's bi-Rastrigin."""
    mu_0, d = 2.5, 1.0
    s = 1 - 1 / (2 * np.sqrt(p.dim + 20) - 8.2)
    mu_1 = -np.sqrt((mu_0**2 - d) / s)
    x_hat = 2 * p.signs * x
    z = p.q @ (conditioning(100, p.dim) * (p.r @ (x_hat - mu_0)))
    basins = min(((x_hat - mu_0) ** 2).sum(), d * p.dim + s * ((x_hat - mu_1) ** 2).sum())
    return float(basins + 10 * (p.dim - np.cos(2 * np.pi * z).sum()) + 1e4 * f_pen(x))


FORMULAS: tuple[Formula, ...] = (
    sphere,
    ellipsoid,
    rastrigin,
    bueche_rastrigin,
    linear_slope,
    attractive_sector,
    step_ellipsoid,
    rosenbrock,
    rosenbrock_rotated,
    ellipsoid_rotated,
    discus,
    bent_cigar,
    sharp_ridge,
    different_powers,
    rastrigin_rotated,
    weierstrass,
    schaffers,
    schaffers_ill_conditioned,
    griewank_rosenbrock,
    schwefel,
    gallagher,
    gallagher,
    katsuura,
    lunacek,
)
