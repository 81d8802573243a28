"""Facts of a device that its latencies depend on: whether they changed in mid-sweep, and whether two devices are equal."""

from __future__ import annotations

from device_agent.contract.device import DeviceInfo

_FACTS = (
    "board", "architecture", "cpu", "cores", "memory_bytes", "operating_system", "kernel", "python", "governor", "agent_version",
)  # fmt: skip


def device_facts(info: DeviceInfo) -> dict[str, str]:
    """Return the facts by name, with one for each runtime, `None` where it cannot be used."""
    facts = {name: str(getattr(info, name)) for name in _FACTS}
    for runtime in info.runtimes:
        facts[f"runtime {runtime.name}"] = str(runtime.version if runtime.unavailable is None else None)
    return facts


def differing_facts(a: DeviceInfo, b: DeviceInfo) -> tuple[tuple[str, str, str], ...]:
    """Return (fact, in a, in b) for every fact that differs. A runtime that a device's agent does not know is `None` there."""
    first, second = device_facts(a), device_facts(b)
    names = list(dict.fromkeys([*first, *second]))
    return tuple(
        (name, first.get(name, "None"), second.get(name, "None"))
        for name in names
        if first.get(name, "None") != second.get(name, "None")
    )
