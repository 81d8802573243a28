"""From the artifacts that a sweep names to files that stay where they are until the sweep is over."""

from __future__ import annotations

import glob
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.errors import InvalidRequest
from host.files import cannot_write
from host.fleet.upload import describe_file
from host.sweep.job import SweepArtifact

#: Makes a file of a zoo name or package.module:factory in a folder; returns its path and name.
Export = Callable[[str, Path], tuple[Path, str]]
_SUFFIXES = tuple(f".{each.value}" for each in ArtifactFormat if each.is_model)


def exports_folder() -> Path:
    """Return where exported models are kept, by their hash; what is there can be made again."""
    from platformdirs import user_cache_path

    return user_cache_path("boardfit") / "sweep-artifacts"


def find_artifacts(
    wanted: Sequence[str], folder: Path, *, export: Export, keep: Path | None = None
) -> tuple[tuple[SweepArtifact, ...], tuple[str, ...]]:
    """Return the artifacts and remarks. Paths and patterns start from `folder`; exported files go to `keep`.

    Two files of equal content are one artifact. Raises InvalidRequest for a file that is not there, a pattern that matches
    nothing, a file of another type; the errors of `export`; CannotWrite.
    """
    found: list[SweepArtifact] = []
    notes: list[str] = []
    for text in wanted:
        for artifact in _of(text, folder, export, keep or exports_folder()):
            same = next((each for each in found if each.sha256 == artifact.sha256), None)
            if same is None:
                found.append(artifact)
            elif same.path != artifact.path:
                notes.append(f"{artifact.path} is left out: it has the content of {same.path}")
    count = Counter(artifact.name for artifact in found)
    return tuple(
        artifact
        if count[artifact.name] == 1
        else replace(artifact, name=f"{artifact.path.parent.name}/{artifact.name}")
        for artifact in found
    ), tuple(notes)


def _of(text: str, folder: Path, export: Export, keep: Path) -> list[SweepArtifact]:
    if any(letter in text for letter in "*?["):
        paths = sorted(Path(path) for path in glob.glob(str(folder / text), recursive=True))  # noqa: PTH207 - takes absolute patterns
        models = [path for path in paths if path.suffix.lower() in _SUFFIXES and path.is_file()]
        if not models:
            raise InvalidRequest(f"artifacts: {text!r} matches no .onnx or .tflite file (looked in {folder})")
        return [_file(path) for path in models]
    path = folder / text
    if path.is_file() or path.suffix.lower() in _SUFFIXES:
        if not path.is_file():
            raise InvalidRequest(f"artifacts: there is no file {text} (looked in {folder})")
        if path.suffix.lower() not in _SUFFIXES:
            raise InvalidRequest(f"artifacts: {text} is a file of another type than .onnx and .tflite")
        return [_file(path)]
    return [_exported(text, export, keep)]


def _file(path: Path) -> SweepArtifact:
    return SweepArtifact(name=path.name, path=path, sha256=describe_file(path).sha256)


def _exported(model: str, export: Export, keep: Path) -> SweepArtifact:
    try:
        keep.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(keep, error) from error
    with tempfile.TemporaryDirectory(dir=keep, prefix=".export-") as folder:
        path, name = export(model, Path(folder))
        sha256 = describe_file(path).sha256
        kept = keep / sha256 / path.name
        try:
            kept.parent.mkdir(exist_ok=True)
            path.replace(kept)
        except OSError as error:
            raise cannot_write(kept, error) from error
    return SweepArtifact(name=name, path=kept, sha256=sha256)
