"""Runtimes that fail in the ways that real ones do. Enabled by BOARDFIT_RUNTIMES, as any third-party runtime is."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from device_agent.contract.artifact import ArtifactFormat, TensorSpec
from device_agent.contract.device import RuntimeInfo
from device_agent.runtimes.base import LoadedModel, LoadOptions, Runtime

ENVIRONMENT = {
    "BOARDFIT_RUNTIMES": ",".join(
        f"{name}=misbehaving_runtime:{kind}"
        for name, kind in {"segfault": "Segfault", "glutton": "Glutton", "sleeper": "Sleeper"}.items()
    ),
    "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])),
}


class _Model(LoadedModel):
    inputs = (TensorSpec(name="x", dtype="float32", shape=(1,)),)
    outputs = (TensorSpec(name="y", dtype="float32", shape=(1,)),)

    def __init__(self, misbehave: object) -> None:
        self._misbehave = misbehave

    def bind(self, arrays: Mapping[str, np.ndarray]) -> None:
        pass

    def run(self) -> None:
        self._misbehave()  # type: ignore[operator]

    def results(self) -> dict[str, np.ndarray]:
        return {"y": np.zeros(1, np.float32)}

    def provider(self) -> tuple[str, float | None]:
        return "none", None


class _Misbehaving(Runtime):
    formats = (ArtifactFormat.ONNX,)

    def info(self) -> RuntimeInfo:
        return RuntimeInfo(name=self.name, version="0", formats=self.formats, providers=())

    def load(self, path: Path, options: LoadOptions) -> LoadedModel:
        return _Model(self.misbehave)

    def misbehave(self) -> None:
        raise NotImplementedError


class Segfault(_Misbehaving):
    name = "segfault"

    def misbehave(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class Glutton(_Misbehaving):
    name = "glutton"

    def misbehave(self) -> None:
        self.hoard = getattr(self, "hoard", [])
        self.hoard.append(np.ones(4 << 20))  # 32 MiB, written


class Sleeper(_Misbehaving):
    name = "sleeper"

    def misbehave(self) -> None:
        time.sleep(3600)
