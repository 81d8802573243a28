"""What the worker asks of a runtime. One module per runtime implements these two classes.

Only the worker imports runtimes, never the supervisor: a runtime may crash, and its import costs memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from device_agent.contract.artifact import ArtifactFormat, TensorSpec
from device_agent.contract.device import RuntimeInfo
from device_agent.contract.errors import RuntimeUnavailable
from device_agent.contract.measurement import NodeTime
from device_agent.contract.settings import GraphOptimization

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to load a model. `profile_folder` asks for node times and may hold files of the runtime's own;
    `shares_worker` says that other models take turns in this process, so idle threads must not spin.

    `provider_options`, `graph_optimization` and `memory_arena` are those of the settings. They differ from their defaults only
    for a runtime that names them in its `options`.
    """

    threads: int
    provider: str | None = None
    profile_folder: Path | None = None
    shares_worker: bool = False
    provider_options: tuple[tuple[str, str], ...] = ()
    graph_optimization: GraphOptimization | None = None
    memory_arena: bool | None = None


class LoadedModel(ABC):
    """A model in memory, ready to be bound and run. Runs happen one at a time, in one thread."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @abstractmethod
    def bind(self, arrays: Arrays) -> None:
        """Take the inputs by name, C-contiguous, of the dtypes and ranks in `inputs`. ModelRejected if they don't fit."""

    @abstractmethod
    def run(self) -> None:
        """Run once, from the bound inputs to outputs in memory. ModelRejected if it fails."""

    def runner(self) -> Callable[[], object]:
        """Return what the timed loop calls once per run, after `bind`: `run`, or the same with less Python around it.

        It may raise the runtime's own exceptions; the first runs of a measurement go through `run`.
        """
        return self.run

    @abstractmethod
    def results(self) -> dict[str, NDArray[np.generic]]:
        """Return copies of the outputs of the last run, by name."""

    @abstractmethod
    def provider(self) -> tuple[str, float | None]:
        """Return the execution provider or delegate that really runs, and its share of nodes (None: not known)."""

    def node_times(self, *, skip: int) -> tuple[NodeTime, ...] | None:
        """End profiling and return every node's median time, without the first `skip` runs. None if there is no profile.

        A runtime that can profile overrides this in what it loads with a `profile_folder`, the profiled twin of a model. It,
        `load` and `bind` may raise `profiling.NoProfile` with a reason for the user; the model is then measured without.
        """
        return None

    def close(self) -> None:  # noqa: B027 - most runtimes free their memory with the object
        """Free what the object's end would not free. The model is not used afterwards."""


class Runtime(ABC):
    """One inference runtime. Constructed without arguments; the constructor imports nothing heavy.

    `options` names the fields of LoadOptions that the runtime obeys, of provider_options, graph_optimization and memory_arena; a
    request that sets another of them is refused before anything is loaded. `refusals` may say why an option makes no sense here.
    """

    name: ClassVar[str]
    formats: ClassVar[tuple[ArtifactFormat, ...]]
    options: ClassVar[frozenset[str]] = frozenset()
    refusals: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def info(self) -> RuntimeInfo:
        """Say what is installed. Never raises: `unavailable` tells why the runtime cannot be used here."""

    def version(self) -> str:
        """Import the runtime and return its version, at less cost than `info` where that matters. RuntimeUnavailable."""
        info = self.info()
        if info.unavailable is not None:
            raise RuntimeUnavailable(info.unavailable)
        return info.version or "unknown"

    @abstractmethod
    def load(self, path: Path, options: LoadOptions) -> LoadedModel:
        """Load the file by its content. RuntimeUnavailable, or ModelRejected with the runtime's own words."""
