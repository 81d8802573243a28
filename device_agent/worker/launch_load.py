"""What the supervisor asks of a worker that puts load on a model. Imports neither numpy nor a runtime."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from device_agent.contract.errors import InvalidRequest
from device_agent.contract.load import LoadRequest, LoadResult, ServedBatch
from device_agent.contract.measurement import Phase, Progress
from device_agent.contract.plain_json import from_json
from device_agent.contract.served import ServedLog
from device_agent.worker.launch import ArtifactFile, WorkerLimits, check_formats, measuring_job, progress_of
from device_agent.worker.supervise import start_worker

#: Requests in one event; some 25 bytes each on the wire.
_BATCH = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLoad:
    """The worker's result, which has no verdicts yet, and the share of nodes that its provider ran (None: not known)."""

    result: LoadResult
    provider_share: float | None

    @property
    def provider(self) -> str:
        """The one that really ran."""
        return self.result.provider


async def run_load(
    request: LoadRequest,
    file: ArtifactFile,
    *,
    limits: WorkerLimits,
    on_pid: Callable[[int], None],
    data: ArtifactFile | None = None,
) -> AsyncGenerator[Progress | ServedBatch | WorkerLoad, None]:
    """Put load on a model in a worker of its own; yields events, the last of which is the WorkerLoad. `data` has the arrays of
    DATA inputs.

    Closing or cancelling the generator kills the worker and reaps it. Raises what the worker reported (ModelRejected,
    RuntimeUnavailable, ...), or WorkerCrashed, WorkerOutOfMemory, WorkerTimedOut, each with the model's name.
    """
    if file.artifact.sha256 != request.artifact:
        raise InvalidRequest("the artifact's file is not that of the request")
    check_formats([file], request.settings, data)
    job = measuring_job("load", request, [file], data)
    async with start_worker(job, [file.artifact.name], limits) as worker:
        on_pid(worker.pid)
        worker.set_deadline(limits.deadline_s)
        yield Progress(phase=Phase.STARTING, fraction=0.0, runs=0)
        while True:
            header, payload = await worker.receive()
            if header["type"] == "served":
                log = ServedLog.unpacked(payload)
                for first in range(0, len(log), _BATCH):
                    yield ServedBatch(requests=tuple(log[first : first + _BATCH]))
            elif header["type"] == "progress":
                yield progress_of(worker, header)
            else:
                worker.set_deadline(None)
                result = from_json(LoadResult, header["result"])
                yield WorkerLoad(result=result, provider_share=header["provider_share"])
                return
