"""Handwritten digits as spike trains, and what reads them out: shared by the optimizees that classify them in NEST."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import PluginError
from l2l_dask.space import Floats

Ints: TypeAlias = NDArray[np.int64]
Coding: TypeAlias = Literal["regular", "poisson"]

PIXELS, CLASSES = 64, 10
STEP = 1.0  # ms: the time step of all these simulations
_BRIGHTEST = 16.0
_FLAT = 0.1  # counts: a neuron that varies less is not scaled up, it is noise


@dataclass(frozen=True)
class Images:
    """Some of the images.

    Attributes
    ----------
    pixels : (n, 64) array
        From 0 to 1.
    labels : (n,) array of int
    """

    pixels: Floats
    labels: Ints

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, other: Images) -> Images:
        return Images(np.vstack([self.pixels, other.pixels]), np.concatenate([self.labels, other.labels]))

    @property
    def one_hot(self) -> Floats:
        """An (n, classes) array: 1 for the right class, 0 elsewhere."""
        return np.eye(int(self.labels.max()) + 1)[self.labels]


@dataclass(frozen=True)
class Showing:
    """How images are shown, one after the other in a single run: ms, ms and spikes/s of the brightest pixel."""

    duration: float
    pause: float
    rate: float
    coding: Coding = "regular"

    @property
    def period(self) -> float:
        return self.duration + self.pause

    def spike_times(self, pixels: Floats, rng: np.random.Generator) -> list[Floats]:
        """Draw the spikes of each pixel, ms, sorted; at most one in a time step.

        Parameters
        ----------
        pixels : (n, 64) array
            Rates relative to ``rate``; image i is shown from ``i * period`` on.
        """
        draw = self._regular if self.coding == "regular" else self._poisson
        return draw(pixels, rng)

    def _regular(self, pixels: Floats, rng: np.random.Generator) -> list[Floats]:
        """Spikes at equal intervals, the first of them at random within one."""
        interval = 1000 / np.maximum(pixels * self.rate, 1e-9)
        number = np.arange(int(self.duration * self.rate / 1000) + 1)
        times = (rng.random(pixels.shape)[..., None] + number) * interval[..., None]  # image, pixel, spike
        seen = times < self.duration
        times = (np.arange(len(pixels)) * self.period)[:, None, None] + STEP * (times // STEP + 1)
        return [times[:, pixel][seen[:, pixel]] for pixel in range(pixels.shape[1])]

    def _poisson(self, pixels: Floats, rng: np.random.Generator) -> list[Floats]:
        steps = int(self.duration / STEP)
        probability = (pixels * (self.rate * STEP / 1000)).astype(np.float32)
        spikes = rng.random((len(pixels), steps, pixels.shape[1]), dtype=np.float32) < probability[:, None, :]
        pixel, image, step = np.nonzero(spikes.transpose(2, 0, 1))
        times = image * self.period + (step + 1) * STEP
        return np.split(times, np.searchsorted(pixel, np.arange(1, pixels.shape[1])))

    def counts(self, recorder: Any, neurons: Any, images: int, start: float = 0.0) -> Floats:
        """Count the recorded spikes of each neuron, (images, neurons), from ``start`` ms on until the next image."""
        events = recorder.events
        sender = events["senders"].astype(np.int64) - neurons[0].global_id  # floats where there are no spikes
        image = np.ceil(events["times"] / self.period).astype(np.int64) - 1
        seen = (image < images) & (events["times"] - image * self.period > start)
        flat = np.bincount(image[seen] * len(neurons) + sender[seen], minlength=images * len(neurons))
        return flat.reshape(images, len(neurons)).astype(float)


@lru_cache
def split(images: int, test_images: int, classes: int = CLASSES) -> tuple[Images, Images]:
    """Choose images for the search, and others that it never sees: the same for the same numbers, at random.

    All splits cut one random order of all images, whatever their classes: the search has the first, the test the last.
    So what one optimizee has found can be handed to another whose test images it has not seen either, as long as both
    leave about the same share to the test.

    Raises
    ------
    PluginError
        If there are not so many, or scikit-learn, which brings them, has none.
    """
    for name, number in (("images", images), ("test_images", test_images)):
        if number < 2 * classes:
            raise PluginError(f"{name}: expected at least {2 * classes}, two for each class, got {number!r}")
    pixels, labels = _load()
    order = np.random.default_rng(0).permutation(len(labels))
    chosen = order[labels[order] < classes]
    if images + test_images > len(chosen):
        raise PluginError(
            f"images, test_images: there are {len(chosen)} images of {classes} classes, got {images} + {test_images}"
        )
    search, test = chosen[:images], chosen[len(chosen) - test_images :]
    return Images(pixels[search], labels[search]), Images(pixels[test], labels[test])


@lru_cache
def _load() -> tuple[Floats, Ints]:
    """Read the digits of the installed scikit-learn without importing it, which takes a second."""
    spec = find_spec("sklearn")
    for place in (spec.submodule_search_locations if spec else None) or []:
        path = Path(place, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            table = np.loadtxt(path, delimiter=",")
            return table[:, :PIXELS] / _BRIGHTEST, table[:, PIXELS].astype(np.int64)
    raise PluginError("the installed scikit-learn has no datasets/data/digits.csv.gz: pip install 'l2l-dask[nest]'")


@dataclass(frozen=True)
class Ridge:
    """Linear regression of classes (as 0 and 1) on standardised features, with a penalty on the squared weights."""

    centre: Floats
    scale: Floats
    weights: Floats
    offset: Floats

    @classmethod
    def fitted(cls, features: Floats, images: Images, penalty: float) -> Ridge:
        centre, scale = _standard(features)
        x, y = (features - centre) / scale, images.one_hot
        offset = y.mean(axis=0)
        gram = x.T @ x + penalty * np.eye(x.shape[1])
        return cls(centre, scale, np.linalg.solve(gram, x.T @ (y - offset)), offset)

    def predicted(self, features: Floats) -> Ints:
        scores = (features - self.centre) / self.scale @ self.weights + self.offset
        return np.asarray(scores.argmax(axis=1))


def cross_validated(features: Floats, images: Images, penalty: float) -> Ints:
    r"""Predict each image by the read-out that is fitted to all others: leave-one-out, in closed form.

    With :math:`h_i = 1/n + x_i^T (X^T X + \lambda I)^{-1} x_i`, the prediction without image i is
    :math:`(\hat y_i - h_i y_i) / (1 - h_i)` (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning,
    2009, section 7.10.1). Features are centred and scaled once, with all images.
    """
    centre, scale = _standard(features)
    x, y = (features - centre) / scale, images.one_hot
    offset = y.mean(axis=0)
    solved = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T)
    leverage = (1 / len(y) + np.einsum("ij,ji->i", x, solved))[:, None]
    fitted = x @ (solved @ (y - offset)) + offset
    return np.asarray(((fitted - leverage * y) / (1 - leverage)).argmax(axis=1))


def _standard(features: Floats) -> tuple[Floats, Floats]:
    return features.mean(axis=0), np.maximum(features.std(axis=0), _FLAT)


def accuracy(predicted: Ints, images: Images) -> float:
    return float((predicted == images.labels).mean())


def winners_accuracy(counts: Floats, images: Images) -> float:
    """Return the share of images whose own neuron spiked most; of k that spiked equally often each counts as 1/k."""
    most = counts == counts.max(axis=1, keepdims=True)
    right = most[np.arange(len(images)), images.labels]
    return float((right / most.sum(axis=1)).mean())
