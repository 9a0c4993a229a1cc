"""The command ``l2l``."""
