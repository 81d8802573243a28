"""What the supervisor asks of workers: measure, infer, probe. Imports neither numpy nor a runtime."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agent.contract.artifact import Artifact, Tensor
from device_agent.contract.device import RuntimeInfo
from device_agent.contract.errors import InvalidRequest
from device_agent.contract.load import LoadRequest
from device_agent.contract.measurement import ColdStart, Phase, Progress, RunBatch
from device_agent.contract.plain_json import from_json, to_json
from device_agent.contract.runs import RunColumns
from device_agent.contract.settings import MeasureRequest, Settings
from device_agent.worker import frames
from device_agent.worker.result import WorkerResult
from device_agent.worker.supervise import Worker, WorkerLimits, clear_stale_folders, start_worker

__all__ = [
    "ArtifactFile",
    "InferSession",
    "WorkerLimits",
    "clear_stale_folders",
    "open_infer",
    "probe_runtimes",
    "run_cold_start",
    "run_measure",
]

_PROBE_DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactFile:
    """An artifact and where its bytes are."""

    path: Path
    artifact: Artifact


async def run_measure(
    request: MeasureRequest,
    artifacts: Sequence[ArtifactFile],
    *,
    limits: WorkerLimits,
    on_pid: Callable[[int], None],
    data: ArtifactFile | None = None,
) -> AsyncGenerator[Progress | RunBatch | WorkerResult, None]:
    """Measure in a worker of its own; yields events, the last of which is the WorkerResult. `data` has the arrays of DATA inputs.

    Closing or cancelling the generator kills the worker and reaps it. Raises what the worker reported (ModelRejected,
    RuntimeUnavailable, ...), or WorkerCrashed, WorkerOutOfMemory, WorkerTimedOut, each with the models' names.
    """
    if tuple(file.artifact.sha256 for file in artifacts) != request.artifacts:
        raise InvalidRequest("the artifact files are not those of the request, in its order")
    check_formats(artifacts, request.settings, data)
    job = measuring_job("measure", request, artifacts, data)
    async with start_worker(job, [file.artifact.name for file in artifacts], limits) as worker:
        on_pid(worker.pid)
        worker.set_deadline(limits.left_s or limits.deadline_s, stated_s=limits.deadline_s)
        yield Progress(phase=Phase.STARTING, fraction=0.0, runs=0)
        while True:
            header, payload = await worker.receive()
            if header["type"] == "runs":
                yield RunBatch(runs=RunColumns.from_bytes(payload))
            elif header["type"] == "progress":
                yield progress_of(worker, header)
            else:
                worker.set_deadline(None)
                yield from_json(WorkerResult, header["result"])
                return


async def run_cold_start(
    request: MeasureRequest, artifact: ArtifactFile, *, limits: WorkerLimits, data: ArtifactFile | None = None
) -> ColdStart:
    """Start a worker that loads one artifact of the request and runs it once, and end it. Errors are those of `run_measure`."""
    check_formats([artifact], request.settings, data)
    job = measuring_job("cold-start", request, [artifact], data)
    async with start_worker(job, [artifact.artifact.name], limits) as worker:
        worker.set_deadline(limits.left_s or limits.deadline_s, stated_s=limits.deadline_s)
        header, _ = await worker.receive()
        return from_json(ColdStart, header["cold_start"])


class InferSession:
    """A loaded model that answers. One call at a time."""

    def __init__(self, worker: Worker, limits: WorkerLimits) -> None:
        self._worker = worker
        self._limits = limits

    async def run(self, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run the model once. InvalidRequest if the tensors do not fit its inputs; the session stays usable after that."""
        self._worker.set_deadline(self._limits.deadline_s)
        await self._worker.send(*frames.tensors_frame("run", tensors))
        header, payload = await self._worker.receive()
        self._worker.set_deadline(None)
        return frames.tensors_of(header, payload)


@contextlib.asynccontextmanager
async def open_infer(
    settings: Settings, artifact: ArtifactFile, *, limits: WorkerLimits
) -> AsyncIterator[InferSession]:
    """Load a model in a worker of its own and yield a session; leaving the block ends the worker."""
    check_formats([artifact])
    job = {"type": "infer", "settings": to_json(settings), "files": _files([artifact])}
    async with start_worker(job, [artifact.artifact.name], limits) as worker:
        worker.set_deadline(limits.deadline_s)
        await worker.receive()
        worker.set_deadline(None)
        worker.loading = False
        yield InferSession(worker, limits)


async def probe_runtimes() -> tuple[RuntimeInfo, ...]:
    """Ask a child process what is installed, so that this process never imports a runtime."""
    async with start_worker({"type": "probe"}, [], WorkerLimits()) as worker:
        worker.set_deadline(_PROBE_DEADLINE_S)
        header, _ = await worker.receive()
    return tuple(from_json(RuntimeInfo, item) for item in header["runtimes"])


def measuring_job(
    kind: str, request: MeasureRequest | LoadRequest, artifacts: Sequence[ArtifactFile], data: ArtifactFile | None
) -> dict[str, Any]:
    """Return the job of a worker that runs models; `data` has the arrays of DATA inputs."""
    return {
        "type": kind,
        "request": to_json(request),
        "files": _files(artifacts),
        "data": None if data is None else _files([data])[0],
    }


def progress_of(worker: Worker, header: dict[str, Any]) -> Progress:
    """Return the progress in a worker's frame, and let the watch on its memory know whether it loads."""
    phase = Phase(header["phase"])
    worker.loading = phase is Phase.LOADING
    return Progress(phase=phase, fraction=header["fraction"], runs=header["runs"])


def check_formats(
    models: Sequence[ArtifactFile], settings: Settings | None = None, data: ArtifactFile | None = None
) -> None:
    """Raise InvalidRequest if data is given as a model, or a model as data, or not the data that the settings name."""
    for file in models:
        if not file.artifact.format.is_model:
            raise InvalidRequest(
                f"artifact {file.artifact.name!r} is a file of input arrays and no model; give it as the inputs of a measurement"
                " of an .onnx or .tflite file"
            )
    if data is not None and data.artifact.format.is_model:
        raise InvalidRequest(
            f"artifact {data.artifact.name!r} is a model and has no input arrays; upload an .npz file whose arrays are named like"
            " the model's inputs"
        )
    if settings is not None and settings.inputs_sha256 != (None if data is None else data.artifact.sha256):
        raise InvalidRequest("the file of the inputs is not the one that the settings name")


def _files(artifacts: Sequence[ArtifactFile]) -> list[list[str]]:
    return [[str(file.path.resolve()), file.artifact.sha256, file.artifact.name] for file in artifacts]
