"""Simulations to optimise: one file each; a simulator is imported when it is used."""
