"""Looks what sensors a board has, and why it lacks the others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from device_agent.contract.device import MissingSensor, Quantity
from device_agent.sensors.base import NotHere, Sensor
from device_agent.sensors.kinds import KINDS, POWER_KINDS, Kind
from device_agent.sensors.recording import recorded_vcgencmd
from device_agent.sensors.vcgencmd import Vcgencmd, find_vcgencmd

_LIVE = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found, and what is missing. A sensor whose files are there but fail now is among the found ones, and silent."""

    sensors: tuple[Sensor, ...]
    missing: tuple[MissingSensor, ...]


def survey(root: Path = _LIVE, *, expected: Collection[str] | None = None, vcgencmd: Vcgencmd | None = None) -> Survey:
    """Look for every kind of sensor under `root`.

    `expected` are the kinds that the device profile says such a board has (`Profile.sensors`), None where there is no profile.
    Missing are those of them that are not there, the kinds that every Linux machine may have, what is there and cannot be used,
    and power, if nothing measures it. `vcgencmd` defaults to the command on PATH, and to the recording's for another root.
    """
    if vcgencmd is None:
        vcgencmd = find_vcgencmd() if root == _LIVE else recorded_vcgencmd(root)
    sensors: list[Sensor] = []
    missing: list[MissingSensor] = []
    for kind in KINDS:
        found = _find(kind, root, vcgencmd)
        if isinstance(found, Sensor):
            sensors.append(found)
        elif found.broken or kind.everywhere or kind.name in (expected or ()):
            missing.append(MissingSensor(kind=kind.name, reason=found.reason))
    why = why_no_power(sensors, missing)
    return Survey(sensors=tuple(sensors), missing=tuple(missing) if why is None else (*missing, why))


def _find(kind: Kind, root: Path, vcgencmd: Vcgencmd | None) -> Sensor | NotHere:
    """Find one kind. A folder that may not be entered is a reason, and none for the others to be missing."""
    try:
        return kind.find(root, vcgencmd)
    except OSError as error:
        return NotHere(reason=f"cannot look for it: {error}", broken=True)


def why_no_power(sensors: Collection[Sensor], missing: Collection[MissingSensor]) -> MissingSensor | None:
    """Return the entry that says why a board gives no power, None if it gives some."""
    quantities = {channel.quantity for sensor in sensors for channel in sensor.channels}
    if quantities & {Quantity.POWER, Quantity.ENERGY}:
        return None
    known = [f"{one.kind}: {one.reason}" for one in missing if one.kind in POWER_KINDS]
    reason = "; ".join(known) or "no sensor of this board measures it"
    advice = "an INA219 or INA226 on the I2C bus, or an external meter, would measure power"
    return MissingSensor(kind="power", reason=f"{reason}; {advice}")


def discover(root: Path = _LIVE) -> tuple[Sensor, ...]:
    """Return the sensors that the board has. An interface that is not there yields no sensor and no channel."""
    return survey(root).sensors
