"""Seeing a search: pictures made from trajectories."""
