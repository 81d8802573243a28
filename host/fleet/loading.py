"""Putting load on one file on one device, as `host load` does: push, choose a runtime, load."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from device_agent.bench_options import in_option_words
from device_agent.bench_request import one_format
from device_agent.contract.artifact import Artifact
from device_agent.contract.load import LoadEvent, LoadMeasurement
from device_agent.load_options import LoadOptions
from device_agent.runtime_choice import choose_runtime
from host.fleet.devices import Device


def load_file(
    device: Device,
    path: Path,
    name: str,
    options: LoadOptions,
    *,
    on_push: Callable[[str, int, int], None] | None = None,
    on_event: Callable[[LoadEvent], None] | None = None,
) -> tuple[Artifact, LoadMeasurement]:
    """Push what is missing and put load on the model. `on_push(name, position, size)` in bytes.

    InvalidRequest in the words of the command line's options; else the errors of `choose_runtime`, `AgentClient.push` and
    `AgentClient.load`.
    """
    runtime = choose_runtime(device.info, one_format([name]), options.model.runtime, device=device.name)

    def push(file: Path, called: str) -> Artifact:
        said = None if on_push is None else partial(on_push, called)
        return device.client.push(file, name=called, on_progress=said).artifact

    data = options.inputs_file
    inputs_sha256 = None if data is None else push(data, data.name).sha256
    artifact = push(path, name)
    request = options.request(artifact.sha256, runtime=runtime, inputs_sha256=inputs_sha256)
    with in_option_words():
        return artifact, device.client.load(request, on_event=on_event)
