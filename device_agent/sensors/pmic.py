"""A Raspberry Pi 5's power chip, which only the firmware can read: `vcgencmd pmic_read_adc`.

It prints lines such as `VDD_CORE_A current(7)=1.54489000A` and `VDD_CORE_V volt(15)=0.88725180V`. Twelve rails have both, EXT5V
and BATT only a voltage. What USB and hats take and what the converters lose is in none of them.
"""

from __future__ import annotations

import re

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading
from device_agent.sensors.base import NotHere, Sensor
from device_agent.sensors.vcgencmd import NOT_ON_PATH, Vcgencmd, VcgencmdFailed

COMMAND = "pmic_read_adc"
_LINE = re.compile(r"(\S+)_([AV])\s+(?:current|volt)\(\d+\)=(\d+(?:\.\d+)?)[AV]")


class Pmic(Sensor):
    """One power channel per rail. A rail that is missing from one answer is silent in it."""

    kind = "pmic"
    #: Each look starts a process on the board that is being measured: three a second take half a percent of a core where the
    #: model keeps the caches to itself. The firmware takes no more than ten.
    interval_s = 0.3
    slow = True

    def __init__(self, vcgencmd: Vcgencmd, rails: tuple[str, ...]) -> None:
        self._vcgencmd = vcgencmd
        self._names = {rail: f"pmic.{rail}" for rail in rails}

    @classmethod
    def find(cls, vcgencmd: Vcgencmd | None) -> Pmic | NotHere:
        """Return the sensor if the firmware answers with currents. Runs the command once."""
        if vcgencmd is None:
            return NotHere(reason=NOT_ON_PATH)
        try:
            answer = vcgencmd(COMMAND)
        except VcgencmdFailed as error:
            return NotHere(reason=str(error), broken=True)
        rails = tuple(parse(answer))
        if not rails:
            said = answer.splitlines()[0] if answer else "nothing"
            return NotHere(
                reason=f"vcgencmd {COMMAND} gives no currents; only a Raspberry Pi 5 has them. It said: {said}"
            )
        return cls(vcgencmd, rails)

    @property
    def channels(self) -> tuple[Channel, ...]:
        return tuple(
            Channel(
                name=name,
                quantity=Quantity.POWER,
                site=_site(rail),
                source=f"vcgencmd {COMMAND}, {rail}_V * {rail}_A",
                meter="pmic",
                note="the rails together are a lower bound of the board's power: without USB, hats and conversion losses",
            )
            for rail, name in self._names.items()
        )

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        try:
            rails = parse(self._vcgencmd(COMMAND))
        except VcgencmdFailed:
            return ()
        return tuple(
            Reading(channel=self._names[rail], time_ns=now_ns, value=power_w)
            for rail, power_w in rails.items()
            if rail in self._names
        )


def parse(text: str) -> dict[str, float]:
    """Return the power (W) of every rail of which the text has both voltage and current, in the order of the currents."""
    found: dict[str, dict[str, float]] = {"A": {}, "V": {}}
    for rail, unit, value in _LINE.findall(text):
        found[unit][rail] = float(value)
    return {rail: amperes * found["V"][rail] for rail, amperes in found["A"].items() if rail in found["V"]}


def _site(rail: str) -> str:
    return {"VDD_CORE": "soc", "DDR_VDD2": "memory", "DDR_VDDQ": "memory"}.get(rail, "board")
