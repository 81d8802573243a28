"""A runtime for benchmarks.exclusive_use: from loading on its process writes down all the time that it lives, and for whom.

A thread does that, since a worker whose host stands still is held up in its pipe, and no less alive.

The agent's workers load it by BOARDFIT_RUNTIMES. A model is any file with a line of text: who measures, which turn of theirs.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.contract.artifact import ArtifactFormat, TensorSpec
from device_agent.contract.device import RuntimeInfo
from device_agent.runtimes.base import LoadedModel, LoadOptions, Runtime

LOG = "BOARDFIT_EXCLUSIVE_LOG"
RUN_S = 0.002
STAMP_S = 0.005


class _Model(LoadedModel):
    inputs = (TensorSpec(name="x", dtype="float32", shape=(1,)),)
    outputs = (TensorSpec(name="y", dtype="float32", shape=(1,)),)

    def __init__(self, tag: str) -> None:
        self._log = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._who = f"{tag} {os.getpid()}-{time.monotonic_ns()}"
        self._stamp()
        threading.Thread(target=self._live, name="stamps", daemon=True).start()

    def _live(self) -> None:
        while True:
            self._stamp()
            time.sleep(STAMP_S)

    def _stamp(self) -> None:
        os.write(self._log, f"{self._who} {time.monotonic_ns()}\n".encode())

    def bind(self, arrays: Mapping[str, Any]) -> None:
        self._stamp()

    def run(self) -> None:
        self._stamp()
        time.sleep(RUN_S)
        self._stamp()

    def results(self) -> dict[str, Any]:
        return {"y": np.zeros(1, np.float32)}

    def provider(self) -> tuple[str, float | None]:
        return "none", None

    def close(self) -> None:
        self._stamp()


class Stamping(Runtime):
    """Writes down when it runs."""

    name = "stamping"
    formats = (ArtifactFormat.ONNX,)

    def info(self) -> RuntimeInfo:
        return RuntimeInfo(name=self.name, version="1", formats=self.formats, providers=())

    def load(self, path: Path, options: LoadOptions) -> LoadedModel:
        return _Model(path.read_text().strip())
