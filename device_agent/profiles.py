"""Device profiles: facts about a class of boards, one TOML file each in the `profiles` package. Never used for timing.

docs/profiles.md describes the file. Everything in it is checked when it is read.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import profiles
from device_agent.contract.errors import InvalidRequest, StableError

#: The standard library has it from Python 3.11 on; before, the same module comes from a package.
tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

#: What `[sensors] expected` may name: the kinds of device_agent.sensors.kinds, written out because profiles import no sensors.
SENSOR_KINDS = frozenset(
    {
        "cgroup-cpu", "cpufreq", "ina2xx", "ina3221", "jetson-gpu", "loadavg", "meminfo", "pi-throttled", "pmic", "pressure",
        "rapl", "rpi-volt", "soctherm-oc", "thermal",
    }
)  # fmt: skip

_NUMBER = (int, float)
#: table -> key -> type; a key of type list holds that type. The empty table is the top of the file.
_SCHEMA: Mapping[str, Mapping[str, Any]] = {
    "": {"name": str, "title": str},
    "match": {"compatible": [str], "architectures": [str]},
    "board": {
        "soc": str,
        "cpu": str,
        "cores": int,
        "instruction_sets": [str],
        "memory_mib": [int],
        "source": str,
    },
    "defaults": {"threads": int},
    "sensors": {"expected": [str]},
    "thermal": {"throttle_temperature_c": _NUMBER, "source": str},
    "power": {"idle_w": _NUMBER, "max_w": _NUMBER, "source": str},
    "runtimes": {"name": str, "python": [str]},
}
_REQUIRED = {"": ("name", "title"), "match": (), "board": ("source",), "runtimes": ("name", "python")}


class ProfileInvalid(StableError):
    """A profile file breaks its schema; the message names file, key and what is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeWheels:
    """Python versions for which a runtime has a wheel on this board."""

    name: str
    python: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A class of boards. None where the file does not say; figures come with the source they were published in.

    `compatible` holds shell patterns for the device tree's compatible strings; `architectures` is for machines without one.
    """

    name: str
    title: str
    compatible: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    soc: str | None = None
    cpu: str | None = None
    cores: int | None = None
    instruction_sets: tuple[str, ...] = ()
    memory_bytes: tuple[int, ...] = ()
    threads: int | None = None
    runtimes: tuple[RuntimeWheels, ...] = ()
    sensors: tuple[str, ...] = ()
    throttle_temperature_c: float | None = None
    idle_w: float | None = None
    max_w: float | None = None
    sources: tuple[str, ...] = ()

    def matches(self, compatible: Sequence[str], architecture: str) -> bool:
        """Say whether a machine belongs to this class."""
        if any(fnmatchcase(entry, pattern) for pattern in self.compatible for entry in compatible):
            return True
        return not compatible and architecture in self.architectures


def parse(text: str, file: str) -> Profile:
    """Return the profile in a TOML text. ProfileInvalid names `file` and the key that is wrong."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileInvalid(f"{file}: not a TOML file: {error}") from error
    top = {key: value for key, value in data.items() if key not in _SCHEMA}
    _check(top, "", file)
    tables = {name: data.get(name, {}) for name in _SCHEMA if name and name != "runtimes"}
    for name, table in tables.items():
        if name in _REQUIRED and name not in data:
            raise ProfileInvalid(f"{file}: table [{name}] is missing; docs/profiles.md shows a whole file")
        _check(table, name, file)
    listed = data.get("runtimes", [])
    if not isinstance(listed, list):
        raise ProfileInvalid(f"{file}: runtimes must be an array of tables, written [[runtimes]]")
    for entry in listed:
        _check(entry, "runtimes", file)
    _check_values(tables, file)
    match, board = tables["match"], tables["board"]
    thermal, power = tables["thermal"], tables["power"]
    return Profile(
        name=data["name"],
        title=data["title"],
        compatible=tuple(match.get("compatible", ())),
        architectures=tuple(match.get("architectures", ())),
        soc=board.get("soc"),
        cpu=board.get("cpu"),
        cores=board.get("cores"),
        instruction_sets=tuple(board.get("instruction_sets", ())),
        memory_bytes=tuple(size * 2**20 for size in board.get("memory_mib", ())),
        threads=tables["defaults"].get("threads"),
        runtimes=tuple(RuntimeWheels(name=entry["name"], python=tuple(entry["python"])) for entry in listed),
        sensors=tuple(tables["sensors"].get("expected", ())),
        throttle_temperature_c=_float(thermal.get("throttle_temperature_c")),
        idle_w=_float(power.get("idle_w")),
        max_w=_float(power.get("max_w")),
        sources=tuple(table["source"] for table in (board, thermal, power) if "source" in table),
    )


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _check(table: Any, name: str, file: str) -> None:
    """Check one table's keys and types."""
    where = f"table [{name}]" if name else "the top of the file"
    if not isinstance(table, dict):
        raise ProfileInvalid(f"{file}: {name} must be a table, not {type(table).__name__}")
    allowed = _SCHEMA[name]
    for key, value in table.items():
        if key not in allowed:
            raise ProfileInvalid(f"{file}: {where} has an unknown key {key!r}; it may have {', '.join(allowed)}")
        wanted = allowed[key]
        items = value if isinstance(wanted, list) else [value]
        kind = wanted[0] if isinstance(wanted, list) else wanted
        right = isinstance(items, list) and all(isinstance(item, kind) and not isinstance(item, bool) for item in items)
        if not right:
            words = "number" if kind is _NUMBER else kind.__name__
            many = "a list of " if isinstance(wanted, list) else ""
            raise ProfileInvalid(f"{file}: {key} in {where} is {value!r}; it must be {many}{words}")
    for key in _REQUIRED.get(name, ()):
        if key not in table:
            raise ProfileInvalid(f"{file}: {where} lacks the key {key!r}")


def _check_values(tables: Mapping[str, Mapping[str, Any]], file: str) -> None:
    """Check what types do not say."""
    if not tables["match"].get("compatible") and not tables["match"].get("architectures"):
        raise ProfileInvalid(
            f"{file}: [match] needs compatible (device tree) or architectures, or no board is recognised"
        )
    for name, key in (("board", "cores"), ("defaults", "threads"), ("power", "idle_w"), ("power", "max_w")):
        value = tables[name].get(key)
        if value is not None and value <= 0:
            raise ProfileInvalid(f"{file}: {key} in table [{name}] is {value}; it must be positive")
    unknown = set(tables["sensors"].get("expected", ())) - SENSOR_KINDS
    if unknown:
        raise ProfileInvalid(
            f"{file}: [sensors] expected names {sorted(unknown)}; known are {', '.join(sorted(SENSOR_KINDS))}"
        )
    for name in ("thermal", "power"):
        if tables[name] and "source" not in tables[name]:
            raise ProfileInvalid(
                f"{file}: table [{name}] gives figures without a source; say where they were published"
            )


@cache
def all_profiles() -> Mapping[str, Profile]:
    """Return every profile of the `profiles` package by name. ProfileInvalid if a file is wrong."""
    found: dict[str, Profile] = {}
    # importlib.resources would also read from a zip, where no agent lives, and costs 0.4 MiB with tempfile and random.
    for path in sorted(path for folder in profiles.__path__ for path in Path(folder).glob("*.toml")):
        profile = parse(path.read_text(encoding="utf-8"), path.name)
        if f"{profile.name}.toml" != path.name:
            raise ProfileInvalid(f"{path.name}: name is {profile.name!r}; it must be the file's name")
        found[profile.name] = profile
    return found


def get(name: str) -> Profile:
    """Return the profile of this name. InvalidRequest lists the known ones."""
    known = all_profiles()
    if name not in known:
        raise InvalidRequest(f"no device profile is named {name!r}; known: {', '.join(known)}")
    return known[name]


def recognise(
    compatible: Sequence[str], architecture: str, profiles: Iterable[Profile] | None = None
) -> Profile | None:
    """Return the profile of a machine, by the earliest entry of its device tree's list; None if none matches."""
    candidates = list(all_profiles().values() if profiles is None else profiles)
    for entry in compatible:
        for profile in candidates:
            if profile.matches([entry], architecture):
                return profile
    return next((one for one in candidates if one.matches(compatible, architecture)), None)
