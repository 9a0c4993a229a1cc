"""A spiking reservoir in NEST classifies handwritten digits: the hyper-parameters of the reservoir are searched."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from l2l_dask.errors import PluginError
from l2l_dask.evaluation import maximize
from l2l_dask.optimizee import Context, Optimizee
from l2l_dask.space import Floats, Integer, Params, Real, Space
from optimizees._digits import CLASSES, STEP, Coding, Images, Ridge, Showing, accuracy, cross_validated, split
from optimizees._nest import MAX_SEED, fresh_kernel, nest, require_nest
from optimizees._options import check_integer, check_number
from optimizees._reservoir import Reservoir, check_network

_NETWORKS, _UNSEEN = 3, 90_210  # of a check, whose seeds no evaluation has but by chance


class NestReservoir(Optimizee):
    """Search the hyper-parameters of a reservoir of spiking neurons such that digits can be told from its spikes.

    The images of handwritten digits that come with scikit-learn (8 x 8 pixels, ten classes) are shown one after the
    other, each pixel as a spike train, to a random recurrent network (:class:`optimizees._reservoir.Reservoir` has
    its parameters and their units). A linear read-out, fitted by ridge regression to the number of spikes of each
    neuron after the image has gone, names the digit: the network has to keep it in its activity. The fitness
    ``accuracy`` is the share of the images that are named rightly, each of them left out of the fit in its turn. The
    images of :meth:`held_out` take no part in it.

    The wiring and the input's noise follow from the seed of the evaluation, so the fitness is noisy, by about
    one hundredth: what is found is good for any network with these hyper-parameters. Each evaluation saves how
    often which digit (row) was taken for which (column) as ``confusion``. Needs the extra ``l2l-dask[nest]``: NEST,
    and scikit-learn, which is not imported: the images are read from its data files.

    Parameters
    ----------
    neurons
        Of the reservoir, four in five of them excitatory.
    images
        That are shown in an evaluation, of 1797 there are.
    test_images
        Others, for :meth:`held_out`.
    duration
        For which an image is shown, ms.
    pause
        After each image, ms, without input.
    read_from
        From when on an image's spikes are counted, ms after its onset, until the next one comes.
    coding
        Of a pixel's brightness: spikes at equal intervals, from a random moment on (regular), or at random moments
        (poisson), which is noisier.
    """

    source: ClassVar[str] = "Yegenoglu et al. (2022), Frontiers in Computational Neuroscience 16"

    space = Space(
        {
            "input_weight": Real(0.2, 100.0, log=True),
            "input_degree": Integer(1, 32, log=True),
            "weight": Real(0.02, 5.0, log=True),
            "inhibition": Real(1.0, 10.0),
            "indegree": Integer(4, 40, log=True),
            "tau_m": Real(5.0, 50.0, log=True),
            "delay": Integer(1, 5),
            "bias": Real(0.0, 40.0),
            "input_rate": Real(20.0, 500.0, log=True),
            "ridge": Real(1.0, 1e4, log=True),
        }
    )
    objectives = maximize("accuracy")

    def __init__(
        self,
        *,
        neurons: int = 300,
        images: int = 500,
        test_images: int = 1000,
        duration: float = 20.0,
        pause: float = 40.0,
        read_from: float = 40.0,
        coding: Coding = "regular",
    ) -> None:
        self.neurons = check_integer("neurons", neurons)
        check_network(neurons, duration, pause, coding)
        if not 0 <= check_number("read_from", read_from) < duration + pause:
            raise PluginError(
                f"read_from: expected ms from 0 to below duration + pause = {duration + pause:g}, got {read_from!r}"
            )
        require_nest(sklearn="scikit-learn, which brings the digits,")
        self.duration, self.pause = float(duration), float(pause)
        self.read_from = float(read_from)
        self.coding: Coding = coding
        self._numbers = (check_integer("images", images), check_integer("test_images", test_images))
        split(*self._numbers)

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
        """Show all images to a new network and count the spikes: an (images, neurons) array."""
        return self._shown(params, seed, self._images)

    def evaluate(self, params: Params, context: Context) -> float:
        counts = self.simulate(params, context.seed)
        predicted = cross_validated(counts, self._images, params["ridge"])
        confusion = np.zeros((CLASSES, CLASSES), dtype=np.int32)
        np.add.at(confusion, (self._images.labels, predicted), 1)
        context.save("confusion", confusion)
        return accuracy(predicted, self._images)

    def held_out(self, params: Params, seed: int = 1) -> dict[str, float]:
        """Build new networks, fit their read-outs to the images of the search and have them name the test images.

        Returns
        -------
        dict
            ``test_accuracy``, the share of the test images that are named rightly, the mean of three networks.
        """
        shown, known = self._images + self._test, len(self._images)
        shares = []
        for network in np.random.SeedSequence([seed, _UNSEEN]).generate_state(_NETWORKS):
            counts = self._shown(params, 1 + int(network) % (MAX_SEED - 1), shown)
            readout = Ridge.fitted(counts[:known], self._images, params["ridge"])
            shares.append(accuracy(readout.predicted(counts[known:]), self._test))
        return {"test_accuracy": float(np.mean(shares))}

    def pixels_held_out(self, ridge: float = 100.0) -> dict[str, float]:
        """Do the same with the pixels themselves in the place of the spikes: what a reservoir has to compete with."""
        readout = Ridge.fitted(self._images.pixels, self._images, ridge)
        return {"test_accuracy": accuracy(readout.predicted(self._test.pixels), self._test)}

    def _shown(self, params: Params, seed: int, images: Images) -> Floats:
        kernel = fresh_kernel(seed, STEP)
        reservoir = Reservoir.of(params)
        showing = Showing(self.duration, self.pause, reservoir.input_rate, self.coding)
        cells = reservoir.build(kernel, self.neurons, images.pixels, showing, np.random.default_rng(seed))
        recorder = kernel.Create("spike_recorder")
        kernel.Connect(cells, recorder)
        kernel.Simulate(len(images) * showing.period)
        return showing.counts(recorder, cells, len(images), self.read_from)
