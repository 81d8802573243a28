"""`python -m device_agent.worker JOB_FD EVENTS_FD PARENT_PID`: the measuring child process, started by `launch`.

Jobs come in and events go out over two descriptors of their own; what a runtime prints on stdout or stderr can't disturb them.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from device_agent.contract.errors import AgentInternalError, BoardfitError, InvalidRequest, WorkerOutOfMemory, status_of
from device_agent.contract.measurement import Progress
from device_agent.contract.plain_json import from_json, to_json
from device_agent.contract.runs import RunColumns
from device_agent.contract.settings import MeasureRequest, Settings
from device_agent.contract.transfer import MAX_MESSAGE_BYTES
from device_agent.worker import frames, process
from device_agent.worker.frames import read_frame, write_frame

#: What the outputs of one inference may have, with room in the message for their names and shapes.
_MAX_OUTPUT_BYTES = MAX_MESSAGE_BYTES - (1 << 20)


def main(arguments: Sequence[str]) -> int:
    """Do one job and return the exit status: 0 after a result or a reported error."""
    jobs, events, parent = (int(argument) for argument in arguments)
    process.die_with(parent)
    first = read_frame(jobs)
    if first is None:
        return 1
    job, _ = first
    try:
        process.limit(job["memory_bytes"])
        if job["type"] == "probe":
            process.die_when_closed(jobs)
            _probe(events)
        elif job["type"] == "measure":
            process.die_when_closed(jobs)
            _measure(job, events)
        elif job["type"] == "cold-start":
            process.die_when_closed(jobs)
            _cold_start(job, events)
        elif job["type"] == "load":
            process.die_when_closed(jobs)
            _load(job, events)
        else:
            _infer(job, jobs, events)
    except BrokenPipeError:
        return 1
    except BoardfitError as error:
        _report(events, error)
    except MemoryError as error:
        _report(events, WorkerOutOfMemory(_memory_words(job, error)))
    except Exception as error:
        traceback.print_exc()
        _report(events, AgentInternalError(f"the worker failed: {type(error).__name__}: {error}"))
    return 0


def _report(events: int, error: BoardfitError) -> None:
    write_frame(events, {"type": "error", "code": status_of(error)[1], "message": str(error)})


def _memory_words(job: dict[str, Any], error: MemoryError) -> str:
    limit = job["memory_bytes"]
    bound = "" if limit is None else f" with a limit of {limit / 2**20:.0f} MiB"
    words = f"{error or 'an allocation failed'}: the worker ran out of memory{bound}"
    return f"{words}; raise the limit (--memory-limit) or use a smaller model"


def _probe(events: int) -> None:
    from device_agent.runtimes import registry

    write_frame(events, {"type": "runtimes", "runtimes": to_json(registry.describe_all())})


def _measure(job: dict[str, Any], events: int) -> None:
    from device_agent.worker.setup import prepare

    request = from_json(MeasureRequest, job["request"])
    runtime, version = prepare(request.settings)

    from device_agent.worker.measure import LoadedFile, Measuring

    def send_progress(progress: Progress) -> None:
        write_frame(events, {"type": "progress", **to_json(progress)})

    def send_runs(runs: RunColumns) -> None:
        write_frame(events, {"type": "runs"}, runs.to_bytes())

    files = [LoadedFile(path=Path(path), sha256=sha256, name=name) for path, sha256, name in job["files"]]
    data = None if job["data"] is None else (Path(job["data"][0]), str(job["data"][2]))
    measuring = Measuring(
        request,
        files,
        runtime,
        version,
        data=data,
        folder=Path(job["folder"]),
        send_progress=send_progress,
        send_runs=send_runs,
    )
    found = measuring.run()
    write_frame(events, {"type": "result", "result": to_json(found)})


def _load(job: dict[str, Any], events: int) -> None:
    from device_agent.contract.load import LoadRequest
    from device_agent.worker.setup import prepare

    request = from_json(LoadRequest, job["request"])
    runtime, version = prepare(request.settings)

    from device_agent.worker.load import do_job

    do_job(job, request, runtime, version, events)


def _cold_start(job: dict[str, Any], events: int) -> None:
    from device_agent.worker.cold import cold_start

    found = cold_start(from_json(MeasureRequest, job["request"]), job)
    write_frame(events, {"type": "cold-start", "cold_start": to_json(found)})


def _infer(job: dict[str, Any], jobs: int, events: int) -> None:
    from device_agent.worker.setup import load_options, prepare

    settings = from_json(Settings, job["settings"])
    runtime, _ = prepare(settings)

    from device_agent.worker.inputs import arrays_of, tensor_of
    from device_agent.worker.naming import naming

    path, _, name = job["files"][0]
    with naming(name, Path(path)):
        model = runtime.load(Path(path), load_options(settings))
    write_frame(events, {"type": "loaded"})
    while (frame := read_frame(jobs)) is not None:
        try:
            with naming(name):
                model.bind(arrays_of(frames.tensors_of(*frame), model.inputs))
                model.run()
                outputs = [tensor_of(key, value) for key, value in model.results().items()]
                size = sum(len(tensor.data) for tensor in outputs)
                if size > _MAX_OUTPUT_BYTES:
                    raise InvalidRequest(
                        f"its outputs have {size / 1e6:.1f} MB and an answer {_MAX_OUTPUT_BYTES / 1e6:.1f} MB at most;"
                        " send a smaller batch"
                    )
        except BoardfitError as error:
            _report(events, error)  # the next request may be right
            continue
        write_frame(events, *frames.tensors_frame("outputs", outputs))
    model.close()


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # A runtime's teardown at interpreter exit may hang or crash; all has been said already.
    os._exit(status)
