"""Boardfit's figures about itself, each a command that prints one table: `python -m benchmarks.NAME [--quick] [--json]`."""
