"""Contracts that a plug-in's author runs too."""
