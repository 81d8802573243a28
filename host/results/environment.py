"""When two results may be compared: the facts that decide about a latency, and which of them differ."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, fields
from typing import Any

import device_agent
from device_agent.contract.device import CONTRACT_VERSION, DeviceInfo
from device_agent.contract.measurement import Measurement
from device_agent.contract.settings import InputKind, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Everything but the artifact that a latency depends on and that is known. The host is not in here: it
    takes no part.

    `cpus` is what the worker was pinned to, however that was asked for, None where it was not. `provider` is what really ran.
    `provider_options`, `nice`, `batch`, `graph_optimization`, `memory_arena` and `inputs` are as asked for, None where the choice
    was the device's; `inputs_sha256` is the file of the inputs. `alone` says whether the model had the worker for itself: with
    others beside it, be they its own profiled twin, it runs on other caches and without spinning threads. `soak` says whether it
    ran without a pause for a given time.
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
    provider_options: tuple[tuple[str, str], ...] = ()
    nice: int | None = None
    batch: int | None = None
    graph_optimization: str | None = None
    memory_arena: bool | None = None
    inputs: str = InputKind.RANDOM.value
    inputs_sha256: str | None = None
    alone: bool = True
    soak: bool = False

    @classmethod
    def of(cls, measurement: Measurement, device: DeviceInfo, artifact: int = 0) -> Environment:
        """Return the environment of one artifact's runs."""
        result, request = measurement.result, measurement.request
        return cls.built(
            device,
            request.settings,
            runtime=result.runtime,
            runtime_version=result.runtime_version,
            provider=result.artifacts[artifact].provider,
            threads=result.threads,
            # Results of older agents do not say what the worker was pinned to.
            cpus=result.cpus if result.cpus is not None else request.settings.cpus,
            alone=len(request.artifacts) == 1 and not request.profile_nodes,
            soak=request.soak_s is not None,
        )

    @classmethod
    def built(
        cls,
        device: DeviceInfo,
        settings: Settings,
        *,
        runtime: str,
        runtime_version: str,
        provider: str,
        threads: int,
        cpus: tuple[int, ...] | None,
        alone: bool,
        soak: bool,
    ) -> Environment:
        """Return the environment of its parts: what the device said, what was asked for, what really ran."""
        level = settings.graph_optimization
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
            runtime=runtime,
            runtime_version=runtime_version,
            provider=provider,
            threads=threads,
            cpus=cpus,
            provider_options=settings.provider_options,
            nice=settings.nice,
            batch=settings.batch,
            graph_optimization=None if level is None else level.value,
            memory_arena=settings.memory_arena,
            inputs=settings.inputs.value,
            inputs_sha256=settings.inputs_sha256,
            alone=alone,
            soak=soak,
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
