"""When two results may be compared: the facts that decide about a latency, and which of them differ."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, fields
from typing import Any

import device_agent
from device_agent.contract.device import CONTRACT_VERSION, DeviceInfo
from device_agent.contract.measurement import Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Everything but the artifact that a latency depends on and that is known. The host is not in here: it
    takes no part.

    `cpus` is what the worker was pinned to, None where it was not. `provider` is what really ran.
    """

    device_id: str
    board: str
    architecture: str
    cpu: str
    cores: int
    memory_bytes: int
    operating_system: str
    kernel: str
    python: str
    governor: str | None
    agent_version: str
    runtime: str
    runtime_version: str
    provider: str
    threads: int
    cpus: tuple[int, ...] | None

    @classmethod
    def of(cls, measurement: Measurement, device: DeviceInfo, artifact: int = 0) -> Environment:
        """Return the environment of one artifact's runs."""
        result = measurement.result
        return cls(
            device_id=device.device_id,
            board=device.board,
            architecture=device.architecture,
            cpu=device.cpu,
            cores=device.cores,
            memory_bytes=device.memory_bytes,
            operating_system=device.operating_system,
            kernel=device.kernel,
            python=device.python,
            governor=device.governor,
            agent_version=device.agent_version,
            runtime=result.runtime,
            runtime_version=result.runtime_version,
            provider=result.artifacts[artifact].provider,
            threads=result.threads,
            cpus=measurement.request.settings.cpus,
        )


def environment_difference(a: Environment, b: Environment) -> tuple[str, ...]:
    """Return the names of the fields in which the environments differ; results are comparable if there are none."""
    return tuple(field.name for field in fields(Environment) if getattr(a, field.name) != getattr(b, field.name))


def host_environment() -> dict[str, Any]:
    """Return the facts of this host that are kept with every measurement."""
    return {
        "boardfit": device_agent.__version__,
        "contract_version": CONTRACT_VERSION,
        "node": platform.node(),
        "operating_system": platform.platform(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
