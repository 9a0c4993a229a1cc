"""An optimizee as the original L2L has them, unchanged, and the line that makes it one of l2l_dask.

Here it needs no base class; yours, which has the original's, needs `pip install --no-deps l2lforhpc` to be imported.
"""

import numpy as np

from optimizees import L2LTrajectory, from_l2l


class RateOptimizee:
    """The rates of a leaky integrate-and-fire neuron at several currents, fitted to those of another."""

    def __init__(self, traj, currents):
        traj.f_add_parameter_group("individual", "Contains parameters of the optimizee")
        self.random_state = np.random.RandomState(seed=1)
        self.currents = np.asarray(currents)  # nA
        self.target = self.rates(tau_m=20.0, resistance=100.0, t_ref=2.0)

    def rates(self, tau_m, resistance, t_ref, threshold=15.0):
        """In spikes per second, of a membrane in ms, MOhm and mV."""
        drive = np.maximum(resistance * self.currents, threshold * 1.0001)
        return 1000.0 / (t_ref + tau_m * np.log(drive / (drive - threshold)))

    def create_individual(self):
        return {
            "tau_m": self.random_state.uniform(5.0, 50.0),
            "resistance": self.random_state.uniform(20.0, 400.0),
            "t_ref": self.random_state.uniform(0.0, 10.0),
        }

    def bounding_func(self, individual):
        return {
            "tau_m": np.clip(individual["tau_m"], 5.0, 50.0),
            "resistance": np.clip(individual["resistance"], 20.0, 400.0),
            "t_ref": np.clip(individual["t_ref"], 0.0, 10.0),
        }

    def simulate(self, traj):
        found = self.rates(traj.individual.tau_m, traj.individual.resistance, traj.individual.t_ref)
        return (np.sqrt(np.mean((found - self.target) ** 2)),)


problem = from_l2l(RateOptimizee(L2LTrajectory(), currents=[0.1, 0.2, 0.3, 0.5, 0.8, 1.2]), weights=(-1.0,))
