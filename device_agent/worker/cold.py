"""A cold start, inside a fresh worker: how long until a process that just began has its first outputs."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter_ns
from typing import Any

from device_agent.contract.measurement import ColdStart
from device_agent.contract.settings import MeasureRequest
from device_agent.worker.setup import load_options, prepare


def cold_start(request: MeasureRequest, job: dict[str, Any]) -> ColdStart:
    """Import the runtime, load the job's file and run it once. Errors are those of a measurement.

    The job's `spawned_ns` is when the supervisor asked for this process. Making the inputs is left out, binding them is not.
    """
    runtime, _ = prepare(request.settings)
    imported_ns = perf_counter_ns()

    from device_agent.worker.inputs import make_inputs
    from device_agent.worker.naming import naming

    path, _, name = job["files"][0]
    data = None if job["data"] is None else (Path(job["data"][0]), str(job["data"][2]))
    with naming(name, Path(path)):
        begin_ns = perf_counter_ns()
        model = runtime.load(Path(path), load_options(request.settings))
        loaded_ns = perf_counter_ns()
        arrays = make_inputs(model.inputs, request.settings, request.seed, data)
        fed_ns = perf_counter_ns()
        model.bind(arrays)
        model.run()
        done_ns = perf_counter_ns()
    return ColdStart(
        import_ns=imported_ns - job["spawned_ns"], load_ns=loaded_ns - begin_ns, first_run_ns=done_ns - fed_ns
    )
