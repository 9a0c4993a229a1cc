"""Where the workers come from."""
