"""`host compare A B --measure`: both models in turns on a device, now."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from device_agent.bench_options import OPTIONS, in_option_words
from device_agent.bench_request import BenchOptions, one_format
from device_agent.contract.artifact import Artifact
from device_agent.contract.errors import InvalidRequest
from host.cli.bench_progress import BenchProgress
from host.cli.model_files import model_files
from host.cli.waiting import exclusive
from host.fleet.benchmark import choose_runtime
from host.fleet.devices import Device, open_device
from host.results.compare_sides import find_side, parse_side
from host.results.store import NotInHistory, ResultStore


def measure_pair(
    store: ResultStore,
    models: Sequence[str],
    *,
    device: str,
    runtime: str | None,
    threads: int | None,
    max_time: str | None,
    wait_s: float | None,
) -> int:
    """Measure two models in turns and return the measurement's number in the history.

    A model is a file, one of the history that the device still holds, a zoo name or package.module:factory. Raises what
    `host bench` raises.
    """
    read = next(option.read for option in OPTIONS if option.name == "max_time")
    assert read is not None
    values = {"runtime": runtime, "threads": threads, "max_time": None if max_time is None else read(max_time)}
    options = BenchOptions.of(values, len(models))
    with tempfile.TemporaryDirectory(prefix="boardfit-") as folder, BenchProgress() as progress:
        progress.say(f"connecting to {device}")
        with (
            open_device(device) as opened,
            exclusive(opened.client, f"compare {' '.join(models)}", wait_s, progress.say),
        ):
            artifacts = [
                _held(store, text, opened) or _pushed(text, Path(folder) / str(place), opened, progress)
                for place, text in enumerate(models)
            ]
            names = [artifact.name for artifact in artifacts]
            if artifacts[0].sha256 == artifacts[1].sha256:
                raise InvalidRequest(f"{models[0]} and {models[1]} are the same file; there is nothing to compare")
            kind = one_format(names)
            with in_option_words():
                request = options.request(
                    [artifact.sha256 for artifact in artifacts],
                    runtime=choose_runtime(opened.info, kind, runtime, device=opened.name),
                )
                measurement = opened.client.measure(request, on_event=progress.on_event)
    return store.add_measurement(measurement, device=opened.info, artifact_names=names, device_name=opened.name)


def _held(store: ResultStore, text: str, device: Device) -> Artifact | None:
    """Return the artifact of the history that the text names, if the device holds it; None for a file or an unknown name.

    InvalidRequest for a side that is no model, and for a model of the history that the device no longer holds.
    """
    side = parse_side(text)
    if side.word is None and side.sha256 is None:
        raise InvalidRequest(
            f"--measure takes models, and {text!r} is none: give a file, or a name or hash of the history"
        )
    try:
        found = find_side(store, side)
    except NotInHistory:
        return None
    if found.path is not None or not found.artifact:
        return None
    wanted = set(found.wanted.sha256 or ())
    held = [artifact for artifact in device.client.list_artifacts() if artifact.sha256 in wanted]
    if len(held) == 1:
        return held[0]
    if side.sha256 is None and _is_exported(text):
        return None
    what = (
        f"{len(held)} files called {text}; give a hash"
        if held
        else f"no file of {text} any more; give the model's file"
    )
    raise InvalidRequest(f"device {device.name!r} holds {what}")


def _is_exported(text: str) -> bool:
    from host.zoo.registry import names

    return ":" in text or text in names()


def _pushed(text: str, folder: Path, device: Device, progress: BenchProgress) -> Artifact:
    progress.say(f"preparing {text}")
    folder.mkdir()
    (file,) = model_files((text,), folder, device.info)
    return device.client.push(
        file.path, name=file.name, on_progress=lambda position, size: progress.on_push(file.name, position, size)
    ).artifact
