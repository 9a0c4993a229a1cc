"""The trajectory: everything that was tried and what came of it, durable in a Zarr group."""
