"""A host as a user would script it, until it is killed: `python endless_host.py DEVICE MODEL FOLDER HISTORY_URL SEED`.

DEVICE is `local` or an agent's address. Each turn pushes a file of random bytes, measures MODEL, stores the result and deletes
an older file. A line on stdout says what comes next: `pushing`, `measuring`, `storing`, `stored ID RUNS`. Errors that may pass
are said (`failed NAME`) and tried again; any other one ends it with a traceback.
"""

from __future__ import annotations

import random
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from device_agent.contract.errors import TransientError
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from host.fleet.client import AgentClient
from host.fleet.devices import open_device
from host.results.store import ResultStore

BLOB_BYTES = 12_000_000
STOPPING = Stopping(warmup_runs=2, warmup_time_s=0, min_runs=200, min_time_s=0, max_time_s=2, precision=None)


def say(*words: object) -> None:
    """Print one line at once."""
    print(*words, flush=True)  # noqa: T201 - what the test waits for


def main(device: str, model: Path, folder: Path, history: str, seed: int) -> None:
    """Work until killed."""
    generator = random.Random(seed)
    blob = folder / f"blob-{seed}.onnx"
    with ExitStack() as stack:
        store = stack.enter_context(ResultStore.open(history))
        if device == "local":
            client = stack.enter_context(open_device(device)).client
        else:
            client = stack.enter_context(AgentClient(device, timeout_s=30))
        previous = None
        while True:
            blob.write_bytes(generator.randbytes(BLOB_BYTES))
            try:
                info = client.describe()
                say("pushing")
                pushed = client.push(blob).artifact.sha256
                sha256 = client.push(model).artifact.sha256
                say("measuring")
                request = MeasureRequest(artifacts=(sha256,), settings=Settings(threads=1), stopping=STOPPING)
                measurement = client.measure(request)
                say("storing")
                number = store.add_measurement(measurement, device=info, artifact_names=(model.name,))
                say("stored", number, len(measurement.runs))
                # Asked for once: an agent that is killed before it answers may have deleted it all the same.
                doomed, previous = previous, pushed
                if doomed is not None:
                    client.delete_artifact(doomed)
            except TransientError as error:
                say("failed", type(error).__name__)
                time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
