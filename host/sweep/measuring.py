"""One job on one device: its files brought there once, its options made a request, the measurement."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_agent.bench_options import in_option_words
from device_agent.contract.artifact import Artifact
from device_agent.contract.errors import ArtifactCorrupt, ArtifactNotFound
from device_agent.contract.measurement import Measurement
from device_agent.runtime_choice import choose_runtime
from host.fleet.devices import Device
from host.fleet.upload import describe_file
from host.sweep.job import SweepArtifact
from host.sweep.limits import Limits
from host.sweep.options import options_from_json

Describe = Callable[[Path, str], Artifact]


class KnownFiles:
    """Hashes of files, made once for each state of a file. May be used from several threads."""

    def __init__(self, describe: Describe = describe_file) -> None:
        self._describe = describe
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], tuple[tuple[int, int], Artifact]] = {}

    def artifact(self, path: Path, name: str) -> Artifact:
        """Return what is at `path` now. InvalidRequest if it cannot be read."""
        with self._lock:  # 200 devices begin at once with the same few files
            try:
                stat = path.stat()
            except OSError:
                return self._describe(path, name)  # which says what is wrong
            state = (stat.st_mtime_ns, stat.st_size)
            found = self._known.get((str(path), name))
            if found is None or found[0] != state:
                found = (state, self._describe(path, name))
                self._known[str(path), name] = found
            return found[1]

    def checked(self, wanted: SweepArtifact) -> Artifact:
        """Return the artifact of a job. ArtifactCorrupt if the file is another one by now."""
        artifact = self.artifact(wanted.path, wanted.name)
        if artifact.sha256 != wanted.sha256:
            raise ArtifactCorrupt(
                f"{wanted.path} was changed after the sweep began: its SHA-256 begins with {artifact.sha256[:12]} and was "
                f"{wanted.sha256[:12]}. Put the old file back, or start a new sweep"
            )
        return artifact


@dataclass(slots=True, kw_only=True)
class Bench:
    """Measures jobs on one connected device. `pushed` are hashes that the device has been seen to hold."""

    device: Device
    files: KnownFiles
    limits: Limits
    pushed: set[str] = field(default_factory=set)
    #: Whether the last measurement was begun, so that what went wrong may be its own doing.
    begun: bool = False

    def measure(self, artifact: SweepArtifact, options_json: dict[str, object]) -> Measurement:
        """Bring the files there and measure. Errors are those of `choose_runtime`, AgentClient.push and AgentClient.measure."""
        self.begun = False
        options = options_from_json(options_json)
        if options.timeout is None and self.limits.per_job_s is not None:
            options = replace(options, timeout=self.limits.per_job_s)
        model = self.files.checked(artifact)
        runtime = choose_runtime(self.device.info, model.format, options.runtime, device=self.device.name)
        data = options.inputs_file
        inputs = None if data is None else self.files.artifact(data, data.name)
        sent = [(model, artifact.path)] if inputs is None or data is None else [(model, artifact.path), (inputs, data)]
        request = options.request(
            [model.sha256], runtime=runtime, inputs_sha256=None if inputs is None else inputs.sha256
        )
        with in_option_words():
            self._push(sent)
            try:
                self.begun = True
                return self.device.client.measure(request)
            except ArtifactNotFound:
                # The agent's quota has evicted it since.
                self.pushed -= {each.sha256 for each, _ in sent}
                self._push(sent)
                return self.device.client.measure(request)

    def _push(self, files: list[tuple[Artifact, Path]]) -> None:
        for artifact, path in files:
            if artifact.sha256 not in self.pushed:
                self.device.client.push(path, name=artifact.name, known=artifact)
                self.pushed.add(artifact.sha256)
