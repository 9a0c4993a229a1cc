"""Profiles: what a job asks for, on Dask's configuration."""

import dask
import pytest

from l2l_dask.cluster.profiles import Profile, seconds
from l2l_dask.cluster.systems import SYSTEMS
from l2l_dask.errors import ClusterError

SIZE = {"cores": 4, "memory": "8 GB"}


def test_what_is_not_given_is_taken_from_jobqueue_yaml_as_dask_jobqueue_does():
    there = {"cores": 24, "memory": "100 GB", "walltime": "01:00:00", "queue": "batch"}
    with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in there.items()}):
        profile = Profile("slurm", {"cores": 2})
        assert (profile.cores, profile["memory"], profile["queue"]) == (2, "100 GB", "batch")
        assert profile.walltime == 3600


@pytest.mark.parametrize(
    ("system", "walltime", "expected"),
    [
        ("slurm", "02:00:00", 7200),
        ("slurm", "1-12:00:00", 129600),
        ("slurm", "2-03", 2 * 86400 + 3 * 3600),
        ("slurm", "1-02:30", 86400 + 2 * 3600 + 30 * 60),
        ("slurm", "90", 90 * 60),
        ("slurm", 90, 90 * 60),
        ("slurm", "2:30", 150),
        ("lsf", "2:30", 2.5 * 3600),
        ("pbs", "3600", 3600),
        ("sge", "00:00:30", 30),
        ("oar", "2", 7200),
    ],
)
def test_a_wall_time_means_what_the_batch_system_takes_it_for(system, walltime, expected):
    assert seconds(walltime, SYSTEMS[system]) == expected


@pytest.mark.parametrize(
    ("system", "options", "message"),
    [
        ("slurms", SIZE, r"batch system: expected one of slurm, pbs, .*got 'slurms'"),
        ("slurm", SIZE | {"que": "batch"}, r"unknown option 'que' of slurm: expected some of account, .*queue"),
        ("slurm", SIZE | {"resource_spec": "x"}, "unknown option 'resource_spec' of slurm"),
        ("slurm", {}, r"cores and memory not given: \[cluster\] options = .* or jobqueue.slurm in"),
        ("pbs", {"cores": 4}, r"pbs: .* memory not given"),
        ("slurm", SIZE | {"cores": 1.5}, r"cores: expected a whole number of at least 1, got 1.5"),
        ("slurm", SIZE | {"memory": "much"}, r'memory: expected such as "8 GB", got \'much\''),
        ("slurm", SIZE | {"walltime": "tomorrow"}, r'walltime: expected such as "02:00:00" .*got \'tomorrow\''),
    ],
)
def test_a_profile_that_cannot_be_is_refused_with_what_was_expected(system, options, message):
    with pytest.raises(ClusterError, match=message):
        Profile(system, options)
