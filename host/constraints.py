"""The one error that is an answer: what was asked for cannot be had on this device."""

from device_agent.contract.errors import StableError


class ConstraintNotMet(StableError):
    """No result meets the constraints; commands end with exit code 3."""
