"""Measuring files on one device, as `host bench` does: push, choose a runtime, measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from device_agent.bench_options import in_option_words
from device_agent.bench_request import BenchOptions, one_format
from device_agent.contract.artifact import Artifact, ArtifactFormat
from device_agent.contract.device import DeviceInfo
from device_agent.contract.errors import InvalidRequest, RuntimeUnavailable
from device_agent.contract.measurement import MeasureEvent, Measurement
from host.fleet.devices import Device

#: Which runtimes load a format, the one to prefer first.
RUNTIMES: dict[ArtifactFormat, tuple[str, ...]] = {
    ArtifactFormat.ONNX: ("onnxruntime",),
    ArtifactFormat.TFLITE: ("litert", "tflite-runtime"),
}


def choose_runtime(info: DeviceInfo, format_: ArtifactFormat, wanted: str | None, *, device: str) -> str:
    """Return the runtime to use: `wanted`, which may be one that the device's owner added, else the first usable of RUNTIMES.

    Raises InvalidRequest for a runtime that does not load such files, RuntimeUnavailable if the device lacks it.
    """
    candidates = RUNTIMES[format_]
    if wanted is not None:
        can = [runtime.name for runtime in info.runtimes if format_ in runtime.formats] or list(candidates)
        known = {runtime.name for runtime in info.runtimes} | {name for names in RUNTIMES.values() for name in names}
        if wanted not in known:
            raise InvalidRequest(
                f"device {device!r} has no runtime {wanted!r}; its agent knows {', '.join(sorted(known))}. One that was added "
                "to the agent's environment is found when the agent starts"
            )
        if wanted not in can and wanted not in candidates:
            raise InvalidRequest(f"runtime {wanted!r} does not load .{format_.value} files; {' and '.join(can)} can")
    reasons = []
    for name in candidates if wanted is None else (wanted,):
        found = next((runtime for runtime in info.runtimes if runtime.name == name), None)
        if found is not None and found.unavailable is None:
            return name
        reasons.append(f"{name}: {'unknown to its agent' if found is None else found.unavailable}")
    raise RuntimeUnavailable(
        f"device {device!r} cannot run .{format_.value} files ({'; '.join(reasons)}). Install a runtime "
        f"there, such as pip install 'boardfit[{candidates[0]}]', and restart its agent."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A file to measure and the name that people know it by."""

    path: Path
    name: str


def measure_files(
    device: Device,
    files: Sequence[ModelFile],
    options: BenchOptions,
    *,
    on_push: Callable[[str, int, int], None] | None = None,
    on_event: Callable[[MeasureEvent], None] | None = None,
) -> tuple[tuple[Artifact, ...], Measurement]:
    """Push what is missing and measure the files in one worker, several in turns with the first as their baseline.

    `on_push(name, position, size)` in bytes. InvalidRequest in the words of the command line's options; else the errors of
    `choose_runtime`, `AgentClient.push` and `AgentClient.measure`.
    """
    format_ = one_format([file.name for file in files])
    runtime = choose_runtime(device.info, format_, options.runtime, device=device.name)

    def push(path: Path, name: str) -> Artifact:
        said = None if on_push is None else partial(on_push, name)
        return device.client.push(path, name=name, on_progress=said).artifact

    data = options.inputs_file
    inputs_sha256 = None if data is None else push(data, data.name).sha256
    artifacts = tuple(push(file.path, file.name) for file in files)
    request = options.request([artifact.sha256 for artifact in artifacts], runtime=runtime, inputs_sha256=inputs_sha256)
    with in_option_words():
        return artifacts, device.client.measure(request, on_event=on_event)
