"""Every kind of sensor that the agent knows: how it is found, and which files it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from device_agent.sensors import (
    cgroup_cpu,
    cpufreq,
    ina2xx,
    ina3221,
    ina3221_hwmon,
    ina3221_iio,
    jetson_gpu,
    loadavg,
    meminfo,
    pi_throttled,
    pmic,
    pressure,
    rapl,
    rpi_volt,
    soctherm_oc,
    thermal,
)
from device_agent.sensors.base import NotHere, Sensor
from device_agent.sensors.vcgencmd import Vcgencmd


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of sensor. `find` takes the root folder and the runner of vcgencmd, None without one.

    `files` are shell patterns below the root of what it reads; `commands` are the arguments that it gives to vcgencmd.
    `everywhere` says that any Linux machine may be expected to have it; the others are expected by device profiles.
    """

    name: str
    find: Callable[[Path, Vcgencmd | None], Sensor | NotHere]
    files: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    everywhere: bool = False


def _find_ina3221(root: Path) -> Sensor | NotHere:
    """By the newer driver, else by the older; a board has one of the two."""
    newer = ina3221_hwmon.Ina3221Hwmon.find(root)
    older = newer if isinstance(newer, Sensor) else ina3221_iio.Ina3221Iio.find(root)
    if isinstance(newer, NotHere) and isinstance(older, NotHere):
        return NotHere(reason=f"{newer.reason}, and {older.reason}")
    return older


def _kind(name: str, find: Callable[[Path], Sensor | NotHere], *files: str, everywhere: bool = False) -> Kind:
    return Kind(name=name, find=lambda root, _: find(root), files=files, everywhere=everywhere)


KINDS: tuple[Kind, ...] = (
    _kind("thermal", thermal.ThermalZones.find, *thermal.FILES, everywhere=True),
    _kind("cpufreq", cpufreq.CpuFrequency.find, *cpufreq.FILES, everywhere=True),
    _kind("pressure", pressure.Pressure.find, *pressure.FILES, everywhere=True),
    _kind("loadavg", loadavg.LoadAverage.find, *loadavg.FILES, everywhere=True),
    _kind("meminfo", meminfo.MemoryLeft.find, *meminfo.FILES, everywhere=True),
    _kind("cgroup-cpu", cgroup_cpu.CgroupThrottling.find, *cgroup_cpu.FILES),
    Kind(
        name="pi-throttled",
        find=pi_throttled.PiThrottled.find,
        files=pi_throttled.FILES,
        commands=(pi_throttled.COMMAND,),
    ),
    _kind("rpi-volt", rpi_volt.RpiVolt.find, *rpi_volt.FILES),
    _kind("soctherm-oc", soctherm_oc.SocthermOc.find, *soctherm_oc.FILES),
    _kind("jetson-gpu", jetson_gpu.JetsonGpu.find, *jetson_gpu.FILES),
    _kind(ina3221.KIND, _find_ina3221, *ina3221_hwmon.FILES, *ina3221_iio.FILES),
    _kind(ina2xx.KIND, ina2xx.Ina2xx.find, *ina2xx.FILES),
    Kind(name="pmic", find=lambda _, vcgencmd: pmic.Pmic.find(vcgencmd), commands=(pmic.COMMAND,)),
    _kind(rapl.KIND, rapl.Rapl.find, *rapl.FILES),
)

#: Kinds that give power or energy: where there is none of them, the reason is always told.
POWER_KINDS = frozenset({ina3221.KIND, ina2xx.KIND, "pmic", rapl.KIND})
