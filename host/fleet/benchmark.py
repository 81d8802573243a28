"""Measuring files on one device, as `host bench` does: push, choose a runtime, measure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from device_agent.bench_options import in_option_words
from device_agent.bench_request import BenchOptions, one_format
from device_agent.contract.artifact import Artifact
from device_agent.contract.errors import BoardfitError, DeviceUnreachable
from device_agent.contract.measurement import MeasureEvent, Measurement
from device_agent.runtime_choice import choose_runtime
from host.fleet.client import AgentClient
from host.fleet.devices import Device

__all__ = ["ModelFile", "choose_runtime", "measure_files"]


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
    with in_option_words(), _names_given(device.client, artifacts):
        return artifacts, device.client.measure(request, on_event=on_event)


@contextmanager
def _names_given(client: AgentClient, artifacts: Sequence[Artifact]) -> Iterator[None]:
    """Let errors speak of the names given now: an agent knows a file by the name that it was first pushed under."""
    try:
        yield
    except DeviceUnreachable:
        raise
    except BoardfitError as error:
        try:
            stored = {artifact.sha256: artifact.name for artifact in client.list_artifacts()}
        except BoardfitError:
            raise error from None
        given = {stored[each.sha256]: each.name for each in artifacts if each.sha256 in stored}
        # A name without a suffix may be any word of the sentence, unless it stands in quotes.
        quoted = "|".join(rf"(?<=['\"]){re.escape(name)}(?=['\"])" for name in given)
        bare = "|".join(rf"(?<![\w./-]){re.escape(name)}(?!\w)" for name in given if "." in name)
        said = re.sub("|".join(filter(None, (quoted, bare))) or "(?!)", lambda found: given[found[0]], str(error))
        if said == str(error):
            raise
        raise type(error)(said) from error
