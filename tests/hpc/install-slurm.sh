#!/bin/sh
# Installs Debian's Slurm for the tests in this folder, where it may.
exec sh "$(dirname "$0")/../install-debian.sh" Slurm "slurmctld slurmd slurm-client munge" slurmctld slurmd sbatch munged
