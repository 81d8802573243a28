"""Sweeps: artifacts x devices x settings, from a TOML file to a store full of results."""
