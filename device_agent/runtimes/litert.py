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
from device_agent.runtimes.profiling import NoProfile
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
        module = _import()
        if options.profile_folder is not None:
            return _load_profiled(Path(module.__file__).parent, path, options)
        return interpreter.load(module, f"LiteRT {_version()}", path, options)


def _load_profiled(folder: Path, path: Path, options: LoadOptions) -> LoadedModel:
    """Load the twin that times operators, from the library of the wheel in `folder`. NoProfile says why there is none."""
    from device_agent.runtimes import litert_c_api, litert_profile

    if options.provider_options:
        raise NoProfile("LiteRT's profiler cannot be given the delegate's options; leave provider_options out")
    try:
        library = litert_c_api.open_library(folder, _version() or "of unknown version")
    except litert_c_api.NotSupported as error:
        raise NoProfile(str(error)) from error
    built_in = options.provider == interpreter.BUILT_IN
    return litert_profile.ProfiledModel(library, path, threads=options.threads, built_in=built_in)


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
