"""LiteRT (`ai-edge-litert`), the successor of tflite-runtime."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.device import RuntimeInfo
from device_agent.contract.errors import RuntimeUnavailable
from device_agent.runtimes import interpreter
from device_agent.runtimes.base import LoadedModel, LoadOptions, Runtime
from device_agent.runtimes.words import shorten


class LiteRt(Runtime):
    """Runs `.tflite` files with XNNPACK by default."""

    name: ClassVar[str] = "litert"
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
        return interpreter.load(_import(), f"LiteRT {_version()}", path, options)


def _version() -> str | None:
    try:
        return version("ai-edge-litert")
    except PackageNotFoundError:
        return None


@cache
def _import() -> Any:
    """Import LiteRT. RuntimeUnavailable with what to do."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise RuntimeUnavailable(
            "ai-edge-litert is not installed; in the agent's environment run: pip install 'boardfit[litert]'"
        )
    try:
        from ai_edge_litert import interpreter as module
    except Exception as error:
        raise RuntimeUnavailable(
            f"ai-edge-litert is installed but fails to import: {shorten(error)};"
            " reinstall it in the agent's environment"
        ) from error
    return module
