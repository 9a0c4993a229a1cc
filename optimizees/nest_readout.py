"""Spiking output neurons in NEST learn to name handwritten digits: the weights onto them are searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import ClassVar

import numpy as np

from l2l_dask.errors import PluginError
from l2l_dask.evaluation import maximize
from l2l_dask.optimizee import Context, Optimizee
from l2l_dask.space import Floats, Params, Real, Space
from optimizees._digits import CLASSES, STEP, Coding, Images, Showing, split, winners_accuracy
from optimizees._nest import MAX_SEED, fresh_kernel, nest, require_nest
from optimizees._options import check_integer, check_number, check_positive
from optimizees._reservoir import Reservoir, check_network, neuron

_SCALE = 2.0  # mV, of a weight: the spread of the first ensemble
_OUTPUT = neuron(tau_m=10.0, bias=16.0) | {"V_min": -80.0}  # mV: just above threshold, so that any weight tells


class NestReadout(Optimizee):
    """Search the weights from a reservoir to spiking output neurons, one for each digit: for the Kalman filter.

    The images of handwritten digits that come with scikit-learn (8 x 8 pixels) are shown one after the other, each
    pixel as a spike train, to a reservoir (:class:`optimizees._reservoir.Reservoir`), which stays as it is. All
    its neurons excite or inhibit all output neurons, with the weights ``weights``, (neurons, classes), in mV and
    without bounds. The output neuron that spikes most names the digit. The fitness ``accuracy`` is the share of images
    that are named rightly; of k neurons which spike equally often each counts as 1/k.

    Each evaluation saves, for ``enkf`` and whatever else fits observations, the (images, classes) spike counts of the
    output neurons as ``observation``, and what they should be as ``target``: 1 for the neuron of the digit shown, 0 for
    the others, in units of ``wanted_spikes``. The noise of the input is that of the evaluation's seed, the wiring of
    the reservoir is always the same. Needs the extra ``l2l-dask[nest]``: NEST, and scikit-learn, which is not imported:
    the images are read from its data files.

    Parameters
    ----------
    classes
        Digits to tell apart, from 0 on.
    neurons
        Of the reservoir.
    images
        That are shown in an evaluation.
    test_images
        Others, for :meth:`held_out`.
    duration
        For which an image is shown, ms.
    pause
        After each image, ms, in which the network comes to rest.
    wanted_spikes
        Of the right output neuron during an image; the others should be silent.
    coding
        Of a pixel's brightness: spikes at equal intervals, from a random moment on (regular), or at random moments
        (poisson), which is noisier.
    network
        Seed of the reservoir's wiring, to which the weights belong.
    reservoir
        Hyper-parameters of the reservoir in the place of the hand-tuned ones, by the names that nest-reservoir has for
        them: the best that it has found, for example. ``ridge`` is ignored.
    """

    source: ClassVar[str] = "Yegenoglu et al. (2022), Frontiers in Computational Neuroscience 16"

    objectives = maximize("accuracy")

    def __init__(
        self,
        *,
        classes: int = 4,
        neurons: int = 100,
        images: int = 120,
        test_images: int = 300,
        duration: float = 30.0,
        pause: float = 10.0,
        wanted_spikes: float = 8.0,
        coding: Coding = "regular",
        network: int = 1,
        reservoir: dict[str, float] | None = None,
    ) -> None:
        self.classes, self.neurons = check_integer("classes", classes, 2, CLASSES), check_integer("neurons", neurons)
        self.network = check_integer("network", network, 1, MAX_SEED)
        self.wanted_spikes = check_positive("wanted_spikes", wanted_spikes)
        self._numbers = (check_integer("images", images), check_integer("test_images", test_images), self.classes)
        check_network(neurons, duration, pause, coding)
        require_nest(sklearn="scikit-learn, which brings the digits,")
        self.reservoir = _reservoir({} if reservoir is None else reservoir)
        self._showing = Showing(float(duration), float(pause), self.reservoir.input_rate, coding)
        split(*self._numbers)
        self.space = Space({"weights": Real(scale=_SCALE, shape=(self.neurons, self.classes))})

    @property
    def _images(self) -> Images:
        return split(*self._numbers)[0]

    @property
    def _test(self) -> Images:
        return split(*self._numbers)[1]

    def setup(self) -> None:
        """Import NEST."""
        nest()

    def simulate(self, params: Params, seed: int) -> Floats:
        """Show all images and count the spikes of the output neurons: an (images, classes) array."""
        return self._shown(params, seed, self._images)

    def evaluate(self, params: Params, context: Context) -> float:
        counts = self.simulate(params, context.seed)
        context.save("observation", (counts / self.wanted_spikes).astype(np.float32))
        context.save("target", self._images.one_hot.astype(np.float32))
        return winners_accuracy(counts, self._images)

    def held_out(self, params: Params, seed: int = 1) -> dict[str, float]:
        """Show images that the search has not seen, with fresh noise.

        Returns
        -------
        dict
            ``test_accuracy``, the share of the test images that are named rightly.
        """
        return {"test_accuracy": winners_accuracy(self._shown(params, seed, self._test), self._test)}

    def _shown(self, params: Params, seed: int, images: Images) -> Floats:
        kernel = fresh_kernel(self.network, STEP)
        rng = np.random.default_rng(seed)
        cells = self.reservoir.build(kernel, self.neurons, images.pixels, self._showing, rng)
        outputs = kernel.Create("iaf_psc_delta", self.classes, params=_OUTPUT)
        weights = np.asarray(params["weights"], dtype=float).T
        kernel.Connect(cells, outputs, "all_to_all", {"weight": weights, "delay": STEP})
        recorder = kernel.Create("spike_recorder")
        kernel.Connect(outputs, recorder)
        kernel.Simulate(len(images) * self._showing.period)
        return self._showing.counts(recorder, outputs, len(images))


def _reservoir(given: Mapping[str, float]) -> Reservoir:
    known = [field.name for field in fields(Reservoir)]
    if not isinstance(given, Mapping):
        raise PluginError(f"reservoir: expected numbers by their names, some of {', '.join(known)}, got {given!r}")
    unknown = [str(name) for name in given if name not in {*known, "ridge"}]
    if unknown:
        raise PluginError(f"reservoir: expected some of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    for name, value in given.items():
        check_number(f"reservoir: {name}", value)
    try:
        return Reservoir.of(given)
    except PluginError as error:
        raise PluginError(f"reservoir: {error}") from None
