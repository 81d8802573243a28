"""`device-agent info`: what the agent would say of this device, without a host and without a server."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

from device_agent.agent import device_info
from device_agent.board import describe_board
from device_agent.contract.device import DeviceInfo
from device_agent.contract.document import SCHEMA
from device_agent.durable import make_folder
from device_agent.profiles import Profile
from device_agent.sensors import Survey, survey
from device_agent.store import device_id
from device_agent.terminal import DASH, facts, width
from device_agent.worker.launch import probe_runtimes


async def describe(store: Path, profile: Profile | None, sensors: Survey | None = None) -> DeviceInfo:
    """Return what Describe would say of this device with these sensors. OSError if the store's folder cannot be made."""
    make_folder(store)
    if sensors is None:
        sensors = survey(expected=None if profile is None else profile.sensors)
    return device_info(
        device_id(store),
        describe_board(),
        profile,
        runtimes=await probe_runtimes(),
        sensors=sensors.sensors,
        missing_sensors=sensors.missing,
    )


def info(store: Path, *, profile: Profile | None, as_json: bool) -> None:
    """Print what this device is."""
    found = asyncio.run(describe(store, profile))
    if as_json:
        _print(json.dumps({"schema": SCHEMA, **asdict(found)}, indent=2))
        return
    rows = [
        ("board", found.board),
        ("profile", found.profile or DASH),
        ("processor", f"{found.cpu}, {found.cores} usable cores, {found.architecture}"),
        ("memory", f"{found.memory_bytes / 2**20:.0f} MiB"),
        ("governor", found.governor or DASH),
        ("system", f"{found.operating_system}, Linux {found.kernel}, Python {found.python}"),
        ("agent", f"{found.agent_version}, device {found.device_id}"),
    ]
    for runtime in found.runtimes:
        state = f"not available: {runtime.unavailable}" if runtime.unavailable else str(runtime.version)
        rows.append((runtime.name, state))
    rows += [(channel.name, f"{channel.quantity.value} of {channel.site}") for channel in found.channels]
    rows += [(missing.kind, f"missing: {missing.reason}") for missing in found.missing_sensors]
    _print("\n".join(facts(rows, width())))


def _print(text: str) -> None:
    print(text)  # noqa: T201 - a command's result goes to stdout
