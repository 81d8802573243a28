"""tflite-runtime, the last of whose releases (2.14) still runs on boards that LiteRT has no wheel for."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.device import RuntimeInfo
from device_agent.contract.errors import RuntimeUnavailable
from device_agent.runtimes import interpreter
from device_agent.runtimes.base import LoadedModel, LoadOptions, Runtime
from device_agent.runtimes.profiling import NoProfile
from device_agent.runtimes.words import shorten


class TfliteRuntime(Runtime):
    """Runs `.tflite` files with XNNPACK by default."""

    name: ClassVar[str] = "tflite-runtime"
    formats: ClassVar[tuple[ArtifactFormat, ...]] = (ArtifactFormat.TFLITE,)
    options: ClassVar[frozenset[str]] = interpreter.OPTIONS
    refusals: ClassVar[Mapping[str, str]] = interpreter.REFUSALS

    def info(self) -> RuntimeInfo:
        try:
            _import()
        except RuntimeUnavailable as error:
            return RuntimeInfo(
                name=self.name, version=_version(), formats=self.formats, providers=(), unavailable=str(error)
            )
        return RuntimeInfo(name=self.name, version=_version(), formats=self.formats, providers=interpreter.PROVIDERS)

    def load(self, path: Path, options: LoadOptions) -> LoadedModel:
        if options.profile_folder is not None:
            raise NoProfile("tflite-runtime has no profiler; runtime litert times the operators of the same file")
        return interpreter.load(_import(), f"tflite-runtime {_version()}", path, options)


def _version() -> str | None:
    try:
        return version("tflite-runtime")
    except PackageNotFoundError:
        return None


def numpy_conflict(tflite_version: str | None, numpy_version: str) -> str | None:
    """Say why this numpy cannot be used, None if it can. Wheels up to 2.14, the last, were compiled against numpy 1."""
    if int(numpy_version.partition(".")[0]) < 2:
        return None
    return (
        f"tflite-runtime {tflite_version or 'of unknown version'} was compiled against numpy 1 and cannot load models with"
        f" the installed numpy {numpy_version}; in the agent's environment run: pip install 'numpy<2'"
        " (or use runtime litert, which takes numpy 2)"
    )


@cache
def _import() -> Any:
    """Import tflite-runtime. RuntimeUnavailable with what to do."""
    if importlib.util.find_spec("tflite_runtime") is None:
        raise RuntimeUnavailable(
            "tflite-runtime is not installed; in the agent's environment run: pip install 'boardfit[tflite-runtime]'"
        )
    conflict = numpy_conflict(_version(), np.__version__)
    if conflict is not None:
        raise RuntimeUnavailable(conflict)
    try:
        from tflite_runtime import interpreter as module
    except Exception as error:
        raise RuntimeUnavailable(
            f"tflite-runtime is installed but fails to import: {shorten(error)};"
            " reinstall it in the agent's environment"
        ) from error
    return module
