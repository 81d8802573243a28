"""The options of `host bench` as a job has them: JSON by the names of BenchOptions, and back."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from device_agent.bench_request import BenchOptions
from device_agent.contract.settings import InputKind


def options_to_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return option values, as the options' readers give them, in their JSON form, in order of their names."""
    return {name: _plain(value) for name, value in sorted(values.items())}


def options_from_json(values: Mapping[str, Any]) -> BenchOptions:
    """Return the options of a job. InvalidRequest for what does not go together; an .npz file needs not exist."""
    found = dict(values)
    if found.get("cpus") is not None:
        found["cpus"] = tuple(found["cpus"])
    if found.get("provider_option") is not None:
        found["provider_option"] = tuple((name, value) for name, value in found["provider_option"])
    inputs = found.get("inputs")
    if inputs is not None:
        kinds = {kind.value for kind in InputKind} - {InputKind.DATA.value}
        found["inputs"] = InputKind(inputs) if inputs in kinds else Path(inputs)
    return BenchOptions.of(found, models=1)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    return [_plain(part) for part in value] if isinstance(value, tuple | list) else value
