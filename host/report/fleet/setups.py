"""Which results belong together: the setup of every line of the history, in words that tell setups apart."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from device_agent.contract.device import DeviceInfo
from device_agent.contract.measurement import Measurement, MeasureResult
from device_agent.contract.settings import MeasureRequest
from host.report.fleet.data import Setup
from host.results.compare_rules import setting_words
from host.results.environment import Environment
from host.results.lines import ResultLine

#: Differences that a setup's words and columns show already.
_SAID = {"device_id", "runtime", "runtime_version", "provider", "threads", "alone", "soak"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """What was asked and answered in a measurement, without its samples."""

    request: MeasureRequest
    result: MeasureResult


def setups_of(
    lines: Sequence[ResultLine],
    wholes: Mapping[int, Whole],
    devices: Mapping[int, DeviceInfo],
    name_of: Callable[[str, str | None], str],
) -> list[Setup]:
    """Return the setup of every line. Where two differ in their environment alone, the words say in what."""
    environments, setups = [], []
    for line in lines:
        whole = wholes[line.measurement_id]
        device = devices[line.environment_id]
        measurement = Measurement(request=whole.request, result=whole.result, runs=(), readings=())
        environments.append(Environment.of(measurement, device, line.position))
        setups.append(
            Setup(
                artifact=line.sha256,
                artifact_name=line.name,
                device=name_of(line.device_id, line.device_name),
                device_id=line.device_id,
                profile=line.profile,
                runtime=line.runtime,
                runtime_version=line.runtime_version,
                provider=environments[-1].provider,
                threads=line.threads,
                settings=_settings(whole.request, environments[-1]),
            )
        )
    alike: dict[Setup, dict[Environment, None]] = defaultdict(dict)
    for setup, environment in zip(setups, environments, strict=True):
        alike[setup].setdefault(environment)
    return [
        replace(
            setup,
            environment=hashlib.sha256(repr(environment).encode()).hexdigest()[:16],
            settings=", ".join(filter(None, (setup.settings, _apart(environment, list(alike[setup]))))),
        )
        for setup, environment in zip(setups, environments, strict=True)
    ]


def _settings(request: MeasureRequest, environment: Environment) -> str:
    """Return in words what was not left to the device."""
    settings = request.settings
    words = [] if settings.provider is None else [environment.provider]
    words += setting_words({field.name: getattr(settings, field.name) for field in fields(settings)})
    if len(request.artifacts) > 1:
        words.append("in turns with others")
    elif request.profile_nodes:
        words.append("in turns with its profile")
    if request.soak_s is not None:
        words.append(f"soak of {request.soak_s:g} s")
    return ", ".join(words)


def _apart(own: Environment, every: Sequence[Environment]) -> str:
    """Return the values that tell an environment from the others of the same setup."""
    if len(every) == 1:
        return ""
    names = [field.name for field in fields(Environment) if field.name not in _SAID]
    differing = [name for name in names if len({repr(getattr(each, name)) for each in every}) > 1]
    return ", ".join(f"{name.replace('_', ' ')} {getattr(own, name)}" for name in differing)
