"""From settings to a runtime that is ready to load: the worker's place and priority, the runtime's import, its load options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.contract.errors import InvalidRequest
from device_agent.contract.settings import Settings
from device_agent.worker import process

if TYPE_CHECKING:
    from device_agent.runtimes.base import LoadOptions, Runtime

#: Settings that only some runtimes know; a runtime names those it obeys in `Runtime.options`.
_OPTIONAL = ("graph_optimization", "memory_arena", "provider_options")


def prepare(settings: Settings) -> tuple[Runtime, str]:
    """Take the place and priority that the settings ask for, import the runtime and return (runtime, version).

    Call it before the process has threads: those that come later inherit both. InvalidRequest for what cannot be had or what the
    runtime does not know, RuntimeUnavailable if it can't be used.
    """
    from device_agent.runtimes import registry

    process.pin(settings.cpus)
    process.set_nice(settings.nice)
    runtime = registry.get(settings.runtime)
    _check(settings, runtime)
    return runtime, runtime.version()


def _check(settings: Settings, runtime: Runtime) -> None:
    """Refuse a setting that the runtime would silently ignore."""
    for option in _OPTIONAL:
        given = getattr(settings, option)
        if given in (None, ()) or option in runtime.options:
            continue
        why = f": {runtime.refusals[option]}" if option in runtime.refusals else ""
        taken = ", ".join(sorted(runtime.options)) or "none of " + ", ".join(_OPTIONAL)
        raise InvalidRequest(
            f"runtime {settings.runtime} does not know the setting {option}{why}. It takes {taken}; leave {option} out"
        )


def threads_of(settings: Settings) -> int:
    """Return how many threads compute."""
    return settings.threads or len(os.sched_getaffinity(0))


def load_options(settings: Settings, *, profile_folder: Path | None = None, shares_worker: bool = False) -> LoadOptions:
    """Return what the runtime is told when it loads a model."""
    from device_agent.runtimes.base import LoadOptions

    return LoadOptions(
        threads=threads_of(settings),
        provider=settings.provider,
        profile_folder=profile_folder,
        shares_worker=shares_worker,
        provider_options=settings.provider_options,
        graph_optimization=settings.graph_optimization,
        memory_arena=settings.memory_arena,
    )
