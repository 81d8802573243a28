"""Files as a worker gets them."""

from __future__ import annotations

from pathlib import Path

from device_agent.bench import artifact_at
from device_agent.worker.launch import ArtifactFile


def file_of(path: Path) -> ArtifactFile:
    """Return the file as an artifact under its own name."""
    return ArtifactFile(path=path, artifact=artifact_at(path, path.name))
