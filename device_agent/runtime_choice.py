"""Which runtime measures a file, unless somebody says so."""

from __future__ import annotations

from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.device import DeviceInfo
from device_agent.contract.errors import InvalidRequest, RuntimeUnavailable

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
