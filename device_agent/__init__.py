"""The agent: a light daemon that measures neural networks on the board it runs on."""

__version__ = "0.1.0"
