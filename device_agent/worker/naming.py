"""Errors about a model carry its name."""

from __future__ import annotations

from pathlib import Path

from device_agent.contract.errors import BoardfitError, InvalidRequest, ModelRejected
from device_agent.runtimes.profiling import NoProfile
from device_agent.runtimes.words import shorten


class naming:
    """`with naming(model, path):` puts the model's name before the message of errors about it, and in place of its path.

    Exceptions of a runtime's own count as a rejection too: it could not run this model.
    """

    def __init__(self, name: str, path: Path | None = None) -> None:
        self._name = name
        self._path = path

    def _words(self, error: object) -> str:
        """A path of the agent's store tells callers nothing but who runs the agent."""
        return str(error) if self._path is None else str(error).replace(str(self._path), self._name)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (ModelRejected, InvalidRequest)):
            raise type(error)(f"model {self._name!r}: {self._words(error)}") from error
        if isinstance(error, MemoryError):
            raise MemoryError(f"model {self._name!r}: {self._words(error)}") from error
        if isinstance(error, Exception) and not isinstance(error, (BoardfitError, NoProfile)):
            words = shorten(f"{type(error).__name__}: {self._words(error)}")
            raise ModelRejected(
                f"model {self._name!r}: the runtime failed: {words}; try another runtime or version, or export the model again"
            ) from error
