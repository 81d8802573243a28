"""Runtimes by name, loaded only when asked for.

Built in: onnxruntime, litert, tflite-runtime. Others come from the entry point group `boardfit.runtimes`, or from the environment
variable BOARDFIT_RUNTIMES (`NAME=package.module:Class`, comma-separated), which workers inherit from the agent.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from importlib.metadata import entry_points

from device_agent.contract.device import RuntimeInfo
from device_agent.contract.errors import InvalidRequest, RuntimeUnavailable
from device_agent.runtimes.base import Runtime

ENTRY_POINT_GROUP = "boardfit.runtimes"
ENVIRONMENT_VARIABLE = "BOARDFIT_RUNTIMES"

BUILT_IN: Mapping[str, str] = {
    "onnxruntime": "device_agent.runtimes.onnxruntime:OnnxRuntime",
    "litert": "device_agent.runtimes.litert:LiteRt",
    "tflite-runtime": "device_agent.runtimes.tflite_runtime:TfliteRuntime",
}


def known() -> dict[str, str]:
    """Return runtime name -> `module:Class`. Later sources may not replace a built-in name."""
    found = {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
    for item in filter(None, os.environ.get(ENVIRONMENT_VARIABLE, "").split(",")):
        name, separator, target = item.strip().partition("=")
        if not separator or ":" not in target:
            raise InvalidRequest(f"{ENVIRONMENT_VARIABLE} has {item!r}; write NAME=package.module:Class")
        found[name] = target
    return {**found, **BUILT_IN}


def get(name: str) -> Runtime:
    """Return the runtime. RuntimeUnavailable if no runtime has this name or its module cannot be imported."""
    targets = known()
    if name not in targets:
        raise RuntimeUnavailable(f"no runtime is named {name!r} on this device; known: {', '.join(sorted(targets))}")
    module, _, attribute = targets[name].partition(":")
    try:
        runtime = getattr(importlib.import_module(module), attribute)()
    except Exception as error:
        raise RuntimeUnavailable(
            f"runtime {name!r} ({targets[name]}) cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(runtime, Runtime):
        raise RuntimeUnavailable(f"runtime {name!r}: {targets[name]} is not a device_agent.runtimes.base.Runtime")
    return runtime


def describe_all() -> tuple[RuntimeInfo, ...]:
    """Return what every known runtime says of itself; one that cannot be imported is unavailable, with the reason."""
    found: list[RuntimeInfo] = []
    for name in known():
        try:
            found.append(get(name).info())
        except RuntimeUnavailable as error:
            found.append(RuntimeInfo(name=name, version=None, formats=(), providers=(), unavailable=str(error)))
    return tuple(found)
