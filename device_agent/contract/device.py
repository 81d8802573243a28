"""What a device is: its identity, board, processors, runtimes and sensor channels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from device_agent.contract.artifact import ArtifactFormat

#: Raised when a message or a meaning changes incompatibly; the proto package carries the same number.
CONTRACT_VERSION = 1


class Quantity(str, Enum):
    """What a channel measures; the unit is fixed by the quantity and is the SI base unit or bytes."""

    TEMPERATURE = "temperature"  # degrees Celsius
    FREQUENCY = "frequency"  # Hz
    POWER = "power"  # W
    ENERGY = "energy"  # J, cumulative
    MEMORY = "memory"  # bytes
    FRACTION = "fraction"  # of 1: pressure, and load per processor, which may exceed 1
    COUNT = "count"  # cumulative events
    FLAGS = "flags"  # bit field, as the firmware defines it


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One sensor that the agent can sample. `site` says where (cpu, gpu, soc, board, worker); `source` is for people.

    `meter` names the instrument that a power or energy channel belongs to; channels of one meter may be added, those of two
    never. `part_of` names the channel of the same meter that already includes this one, so that a total is never added to its
    parts. `interval_s` is the time between two new values, `resolution` the step between two values in the quantity's unit, each
    None where it is not known. `note` is what a reader of the figure must know, such as what it leaves out.
    """

    name: str
    quantity: Quantity
    site: str
    source: str
    meter: str | None = None
    part_of: str | None = None
    interval_s: float | None = None
    resolution: float | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingSensor:
    """A sensor that the agent knows and this device does not offer, and why: not there, not readable, or not for this board."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeInfo:
    """A runtime that the agent knows. `unavailable` says why it cannot be used here, None if it can."""

    name: str
    version: str | None
    formats: tuple[ArtifactFormat, ...]
    providers: tuple[str, ...]
    max_onnx_opset: int | None = None
    max_onnx_ir: int | None = None
    unavailable: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInfo:
    """The answer to Describe. Everything that makes two measurements comparable or not is in here."""

    device_id: str  # random, made once per store and kept there
    agent_version: str
    contract_version: int
    profile: str | None  # name of the device profile, None where none matches
    board: str  # the board's own words (device tree or DMI)
    architecture: str  # as uname -m
    cpu: str  # model name of the processor
    cores: int  # usable by the agent
    memory_bytes: int
    operating_system: str
    kernel: str
    python: str
    governor: str | None
    default_threads: int
    runtimes: tuple[RuntimeInfo, ...]
    channels: tuple[Channel, ...]
    missing_sensors: tuple[MissingSensor, ...] = ()

    def runtime(self, name: str) -> RuntimeInfo | None:
        """Return what the agent says of a runtime, None if it does not know it."""
        return next((each for each in self.runtimes if each.name == name), None)
