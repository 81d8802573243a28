"""From the file of a sweep to a plan: devices asked what they are, artifacts found or exported, jobs, and the time they take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agent.contract.device import DeviceInfo, Quantity
from device_agent.contract.errors import BoardfitError, TransientError
from host.fleet.bulk import ask_all
from host.fleet.devices import open_device
from host.fleet.inventory import LOCAL, Inventory, RegisteredDevice
from host.sweep.artifacts import find_artifacts
from host.sweep.estimate import Estimate, History, estimate
from host.sweep.expand import SweepDevice, expand
from host.sweep.job import NewJob, SweepArtifact
from host.sweep.spec import SweepSpec

#: Makes a file of a model in a folder, for the device that takes the least (None: no device is known).
ExportFor = Callable[[str, Path, DeviceInfo | None], tuple[Path, str]]
#: Makes what looks up times, for jobs and the devices that answered.
HistoryFor = Callable[[Sequence[NewJob], Mapping[str, DeviceInfo]], History]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """What a sweep is going to do. `document` is what the store keeps; `unreached` says of devices why they did not answer;
    those of them in `unusable` will not either until somebody does something, such as one that was revoked.
    """

    spec: SweepSpec
    seed: int
    artifacts: tuple[SweepArtifact, ...]
    devices: tuple[SweepDevice, ...]
    jobs: tuple[NewJob, ...]
    notes: tuple[str, ...]
    unreached: Mapping[str, str]
    unusable: frozenset[str]
    estimate: Estimate

    @property
    def document(self) -> dict[str, Any]:
        """The file's content as JSON."""
        return dict(self.spec.document)


def plan_sweep(
    spec: SweepSpec,
    *,
    seed: int,
    export: ExportFor,
    inventory: Inventory | None = None,
    keep: Path | None = None,
    history: HistoryFor | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> SweepPlan:
    """Return the plan. `say` hears what is being done. A device that does not answer is a remark, and no error.

    Raises UnknownDevice, InvalidSelector, EmptySweep, the errors of `find_artifacts` and `expand`.
    """
    registered = chosen_devices(spec.devices, inventory or Inventory())
    say(f"asking {len(registered)} {'device' if len(registered) == 1 else 'devices'} what they are")
    devices, errors = _ask(registered, inventory)
    infos = {device.name: device.info for device in devices if device.info is not None}
    say("finding the artifacts")
    least = _least(list(infos.values()))
    artifacts, notes = find_artifacts(
        spec.artifacts, spec.folder, export=lambda model, folder: export(model, folder, least), keep=keep
    )
    expansion = expand(spec, artifacts, devices, seed=seed)
    return SweepPlan(
        spec=spec,
        seed=seed,
        artifacts=artifacts,
        devices=devices,
        jobs=expansion.jobs,
        notes=(*notes, *expansion.notes, *_missing_runtimes(expansion.jobs, infos)),
        unreached={name: str(error) for name, error in errors.items()},
        unusable=frozenset(name for name, error in errors.items() if not isinstance(error, TransientError)),
        estimate=estimate(
            expansion.jobs,
            devices_at_once=spec.limits.devices_at_once,
            sizes={artifact.sha256: artifact.path.stat().st_size for artifact in artifacts},
            with_power={name for name, info in infos.items() if _has_power(info)},
            history=(lambda _job: None) if history is None else history(expansion.jobs, infos),
        ),
    )


def chosen_devices(entries: Sequence[str], inventory: Inventory) -> tuple[RegisteredDevice | None, ...]:
    """Return the devices that the entries mean, each once; None stands for this machine. See host.fleet.selectors."""
    parts = [part.strip() for entry in entries for part in entry.split(",")]
    local = LOCAL in parts and f"!{LOCAL}" not in parts
    others = [part for part in parts if part not in (LOCAL, f"!{LOCAL}")]
    named = any(not part.startswith("!") for part in others)
    found: tuple[RegisteredDevice, ...] = ()
    if named or not local:
        found = inventory.select(",".join(others))
    return (*((None,) if local else ()), *found)


def _ask(
    registered: Sequence[RegisteredDevice | None], inventory: Inventory | None
) -> tuple[tuple[SweepDevice, ...], dict[str, BoardfitError]]:
    devices: list[SweepDevice] = []
    errors: dict[str, BoardfitError] = {}
    if None in registered:
        with open_device(LOCAL, inventory=inventory) as opened:
            devices.append(SweepDevice(name=LOCAL, profile=opened.info.profile, info=opened.info))
    for answer in ask_all([device for device in registered if device is not None]):
        device, info = answer.device, answer.info
        if isinstance(answer.said, BoardfitError):
            errors[device.name] = answer.said
        profile = device.profile if info is None else info.profile
        devices.append(SweepDevice(name=device.name, profile=profile, tags=device.tags, info=info))
    return tuple(devices), errors


def _least(infos: Sequence[DeviceInfo]) -> DeviceInfo | None:
    """Return the device whose ONNX Runtime takes the oldest files; what is exported for it runs on all."""

    def takes(info: DeviceInfo) -> tuple[int, int]:
        runtime = info.runtime("onnxruntime")
        far = 10**6
        return (far, far) if runtime is None else (runtime.max_onnx_opset or far, runtime.max_onnx_ir or far)

    return min(infos, key=takes, default=None)


def _has_power(info: DeviceInfo) -> bool:
    return any(channel.quantity in (Quantity.POWER, Quantity.ENERGY) for channel in info.channels)


def _missing_runtimes(jobs: Sequence[NewJob], infos: Mapping[str, DeviceInfo]) -> tuple[str, ...]:
    """Return a remark for each runtime that is asked for and cannot be used on some devices."""
    lacking: dict[str, list[str]] = {}
    for device, runtime in sorted(
        {(job.device, job.options.get("runtime")) for job in jobs if job.options.get("runtime")}
    ):
        info = infos.get(device)
        found = None if info is None else info.runtime(str(runtime))
        if info is not None and (found is None or found.unavailable is not None):
            lacking.setdefault(str(runtime), []).append(device)
    return tuple(
        f"{runtime} is asked for and missing on {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}: "
        "those jobs will fail"
        for runtime, names in lacking.items()
    )
